"""What holds for the repository as a whole: notebooks and texts, lock file and package, imports, commands in prose."""

import ast
import re
import subprocess
import tomllib
from itertools import chain

import jupytext
import nbformat
import presets
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from seqdistill.io import ROOT

LIBRARY = ["io", "config", "cache", "data", "profiles", "embeddings", "models", "evaluation", "training", "serving"]
CHAPTERS = ["zero_shot", "power", "estimate", "ablation", "cold", "text_score", "idgenrec", "explorer", "reporting"]
ORDER = [*(f"seqdistill.{name}" for name in LIBRARY), *(f"seqbook.{name}" for name in CHAPTERS)]
PAGES = [ROOT / "README.md", ROOT / "data" / "README.md", *(ROOT / "lib" / "site").glob("*.md")]


@pytest.mark.parametrize("folder", ["notebooks", "outputs/smoke"])
@pytest.mark.parametrize("chapter", presets.chapters())
def test_stored_notebook_equals_its_text_twin_and_ran_from_top_to_bottom(folder, chapter):
    text = jupytext.read(presets.TEXT / f"{chapter}.py")
    stored = nbformat.read(ROOT / folder / f"{chapter}.ipynb", as_version=4)
    nbformat.validate(stored)
    cells = [cell for cell in stored.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    assert folder != "notebooks" or len(cells) == len(stored.cells), "the published one has no injected cell"
    assert [(cell.cell_type, cell.source) for cell in cells] == [(cell.cell_type, cell.source) for cell in text.cells]
    counts = [cell.execution_count for cell in stored.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    outputs = [output for cell in stored.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]


def imports(path):
    """Packages of ours that a module imports from, wherever the import stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            home = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            names = [".".join(f"{home}{alias.name}".split(".")[:2]) for alias in node.names]
            yield from (name for name in names if name.startswith(("seqdistill.", "seqbook.")))


@pytest.mark.parametrize("name", ORDER)
def test_a_package_imports_only_from_those_before_it(name):
    home = ROOT / "lib" / name.replace(".", "/")
    paths = home.rglob("*.py") if home.exists() else [home.with_suffix(".py")]
    allowed = {*ORDER[: ORDER.index(name) + 1]}
    assert [(path.stem, used) for path in paths for used in imports(path) if used not in allowed] == []


def test_every_module_has_its_place_and_none_is_long():
    for package, names in (("seqdistill", LIBRARY), ("seqbook", CHAPTERS)):
        found = (ROOT / "lib" / package).iterdir()
        places = {path.stem for path in found if path.suffix == ".py" or (path / "__init__.py").exists()}
        assert places == {*names, "__init__"}
    sizes = {str(path): len(path.read_text().splitlines()) for path in (ROOT / "lib").rglob("*.py")}
    assert {path: size for path, size in sizes.items() if size > 250 and "/build/" not in path} == {}


def pins(name):
    lines = re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "lib" / name).read_text(), re.M)
    return {canonicalize_name(package): version for package, version in lines}


def test_lock_file_pins_every_dependency_and_every_hash_is_one_of_its_pins():
    locked, hashed = pins("requirements.lock"), pins("requirements.hashes")
    assert locked == hashed | {"torch": locked["torch"]}
    project = tomllib.loads((ROOT / "lib" / "pyproject.toml").read_text())["project"]
    lines = chain(project["dependencies"], *project["optional-dependencies"].values())
    assert {canonicalize_name(Requirement(line).name) for line in lines} <= locked.keys()
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert conda == ["python=3.11", "pip", {"pip": ["-r lib/requirements.lock", "-e lib"]}]


def test_no_tracked_text_names_a_registry_or_an_absolute_path():
    hosts = "|".join((r"py" + r"pi\.org", r"pythonhosted", r"/(home|root|work|Users)/\w"))
    call = ["git", "grep", "-lIE", hosts, "--", ".", ":!*/test_repository.py"]
    assert subprocess.run(call, cwd=ROOT, capture_output=True, text=True).stdout == ""


def test_commands_of_the_pages_are_targets_of_the_makefile():
    makefile, text = (ROOT / "Makefile").read_text(), "\n".join(path.read_text() for path in PAGES)
    commands = [line.split("#")[0].split() for line in re.findall(r"(?:^|`)make ([^`\n]+)", text, re.M)]
    used = {word for words in commands for word in words if re.fullmatch("[a-z][a-z-]*", word)}
    assert {"reproduce", "test", "lab", "help", "book", "data-check"} <= used
    assert used <= {*re.findall(r"^([a-z][a-z-]*):", makefile, re.M)}
    names = {word.split("=")[0] for words in commands for word in words if re.match("[A-Z]+=", word)}
    assert names <= {*re.search("^settings := (.*)", makefile, re.M)[1].split()}


@pytest.mark.parametrize("setting", ["PRESET=smok", "NOTEBOOK=4", "preset=smoke"])
def test_make_names_a_wrong_preset_or_notebook(setting):
    result = subprocess.run(["make", "-n", "reproduce", setting], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode and re.search("there are:|capitals", result.stderr)

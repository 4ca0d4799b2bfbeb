"""What holds for the repository as a whole: notebooks and texts, lock file and package, imports, commands in prose."""

import ast
import re
import subprocess
import tomllib

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
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (".".join(name.split(".")[:2]) for name in names if name.startswith(("seqdistill.", "seqbook.")))


@pytest.mark.parametrize("name", ORDER)
def test_a_package_imports_only_from_those_before_it(name):
    home = ROOT / "lib" / name.replace(".", "/")
    paths = sorted(home.rglob("*.py")) if home.exists() else [home.with_suffix(".py")]
    wrong = {path.stem: set(imports(path)) - set(ORDER[: ORDER.index(name) + 1]) for path in paths}
    assert {path: names for path, names in wrong.items() if names} == {}


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
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    assert {canonicalize_name(Requirement(line).name) for lines in lists for line in lines} <= locked.keys()
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert conda == ["python=3.11", "pip", {"pip": ["-r lib/requirements.lock", "-e lib"]}]


def test_no_tracked_text_names_a_registry_or_an_absolute_path():
    hosts = "|".join((r"py" + r"pi\.org", r"pythonhosted", r"/(home|root|work|Users)/\w"))
    found = subprocess.run(
        ["git", "grep", "-lIE", hosts, "--", ".", ":!*/test_repository.py"], cwd=ROOT, capture_output=True, text=True
    )
    assert found.stdout == ""


def commands():
    text = "\n".join(path.read_text() for path in PAGES)
    return sorted({line.split("#")[0].strip() for line in re.findall(r"(?:^|`)(make [^`\n]+)", text, re.M)})


def test_commands_of_the_pages_are_targets_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.M))
    used = {word for line in commands() for word in line.split()[1:] if re.fullmatch("[a-z][a-z-]*", word)}
    assert used <= targets and {"reproduce", "test", "lab", "help", "book", "data-check"} <= used
    names = {word.split("=")[0] for line in commands() for word in line.split() if re.match("[A-Z]+=", word)}
    settings = re.search("^settings := (.*)", makefile, re.M)[1].split()
    assert names <= set(settings)


@pytest.mark.parametrize("setting", ["PRESET=smok", "NOTEBOOK=4", "preset=smoke"])
def test_make_names_a_wrong_preset_or_notebook(setting):
    result = subprocess.run(["make", "-n", "reproduce", setting], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode and re.search("there are:|capitals", result.stderr)

import importlib.metadata
import re
import subprocess

import book
import jupytext
import nbformat
import presets
import pytest
import yaml
from seqdistill.io import ROOT

LOCK = ROOT / "lib" / "requirements.lock"


def test_conda_builds_from_the_same_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["dependencies"] == ["python=3.11", "pip", {"pip": ["-r lib/requirements.lock", "-e lib"]}]


def test_what_is_installed_is_what_the_lock_says():
    pins = dict(line.split("==") for line in LOCK.read_text().splitlines())
    installed = {name: importlib.metadata.version(name).split("+")[0] for name in pins}
    assert installed == pins


def test_every_direct_dependency_is_locked():
    canonical = {re.sub("[-_.]+", "-", line.split("==")[0]).lower() for line in LOCK.read_text().splitlines()}
    needed = importlib.metadata.requires("seqdistill")
    names = {re.sub("[-_.]+", "-", re.split(r"[ ;<>=\[]", line)[0]).lower() for line in needed}
    assert names <= canonical


@pytest.mark.parametrize("place", ["notebooks", "outputs/smoke"])
@pytest.mark.parametrize("chapter", presets.chapters())
def test_stored_cells_equal_the_text_twin(place, chapter):
    text = jupytext.read(presets.TEXT / f"{chapter}.py")
    stored = nbformat.read(ROOT / place / f"{chapter}.ipynb", as_version=4)
    nbformat.validate(stored)
    cells = [cell for cell in stored.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    assert [(cell.cell_type, cell.source) for cell in cells] == [(cell.cell_type, cell.source) for cell in text.cells]
    counts = [cell.execution_count for cell in stored.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    errors = [output for cell in stored.cells for output in cell.get("outputs", []) if output.output_type == "error"]
    assert errors == []
    warned = [output for cell in stored.cells for output in cell.get("outputs", []) if output.get("name") == "stderr"]
    assert warned == []


@pytest.mark.parametrize("chapter", presets.chapters())
def test_published_notebooks_are_light_and_have_no_injected_cell(chapter):
    path = ROOT / "notebooks" / f"{chapter}.ipynb"
    assert path.stat().st_size < 500_000
    stored = nbformat.read(path, as_version=4)
    assert not any("injected-parameters" in cell.metadata.get("tags", []) for cell in stored.cells)


@pytest.mark.parametrize("chapter", presets.chapters())
def test_cells_are_short(chapter):
    cells = jupytext.read(presets.TEXT / f"{chapter}.py").cells
    assert max(len(cell.source.splitlines()) for cell in cells if cell.cell_type == "code") <= 25


def test_every_preset_parses():
    for path in presets.PRESETS.glob("*.yaml"):
        for chapter in presets.chapters():
            defaults = presets.parameters(jupytext.read(presets.TEXT / f"{chapter}.py"))
            presets.preset_values(path.stem, chapter, defaults)


@pytest.mark.parametrize(
    ("arguments", "says"), [("PRESET=smok", '"smok" is not a preset'), ("NOTEBOOK=4", '"4" is not a notebook')]
)
def test_make_names_a_wrong_preset_or_notebook(arguments, says):
    done = subprocess.run(["make", "reproduce", arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0 and says in done.stderr and "there are:" in done.stderr


def test_help_lists_every_target():
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {"env", "reproduce", "test", "lab", "publish", "profiles"} <= {
        line.split()[0] for line in done.stdout.splitlines()
    }


def test_saving_a_notebook_updates_its_text_twin(tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "jupytext.toml").write_text((ROOT / "notebooks" / "jupytext.toml").read_text())
    text = tmp_path / "text" / "01-data.py"
    text.write_text("# %% [markdown]\n# # Title\n\n# %%\nx = 1\n")
    notebook = jupytext.read(text)
    notebook.cells[1].source = "x = 2"
    nbformat.write(notebook, tmp_path / "01-data.ipynb")
    subprocess.run(
        [book.sys.executable, "-m", "jupytext", "--sync", str(tmp_path / "01-data.ipynb")],
        check=True,
        capture_output=True,
    )
    assert text.read_text() == "# %% [markdown]\n# # Title\n\n# %%\nx = 2\n"


def test_a_module_imports_only_from_those_before_it():
    section = (ROOT / "README.md").read_text().split("## The library")[1].split("## ")[0]
    package = ROOT / "lib" / "seqdistill"
    order = re.findall(r"`(\w+)`", section)
    modules = {path.stem: [path] for path in package.glob("*.py") if path.stem != "__init__"}
    modules["datasets"] = sorted((package / "datasets").glob("[!_]*.py"))
    assert sorted(order) == sorted(modules)
    for name in order:
        text = "\n".join(path.read_text() for path in modules[name])
        wanted = set(re.findall(r"from seqdistill\.(\w+)", text))
        wanted |= {module for line in re.findall(r"from seqdistill import (.+)", text) for module in line.split(", ")}
        assert wanted - {name} <= set(order[: order.index(name)]), name

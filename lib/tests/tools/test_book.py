"""The executor on a book of one small chapter, presets that are wrong, and two processes at once."""

import re
import subprocess
import sys
from importlib import import_module
from inspect import signature

import book
import nbformat
import presets
import psutil
import pytest
from command import one_line
from seqdistill.io import ROOT, UserError

TEXT = """# %% tags=["parameters"]
preset = "default"
alpha = 0.4
epochs = 3
pause = 0.5

# %%
import time
from joblib import Parallel, delayed
from seqdistill.io import UserError, announce
if epochs == 13:
    raise UserError("thirteen epochs are too many.")
announce("from the kernel")
def work(number):
    announce(f"from worker {number}")
    time.sleep(pause)
Parallel(2)(delayed(work)(number) for number in range(2))
print(preset, alpha * epochs)
time.sleep(pause)  # a line that arrives when the cell is done is lost
print("again")
"""


@pytest.fixture
def preset(home, monkeypatch):
    """Write the preset of a book of one chapter."""
    monkeypatch.setattr(presets, "TEXT", home / "text")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "lib"))
    (home / "text").mkdir()
    (home / "text" / "04-distillation.py").write_text(TEXT)
    return (home / "presets" / "mine.yaml").write_text


def test_execution_is_repeated_byte_for_byte_and_a_failure_leaves_the_former(preset, home, monkeypatch, capfd):
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # with it a kernel does not pass on what its workers print
    path, runs = home / "outputs" / "mine" / "04-distillation.ipynb", []
    preset("04-distillation: {alpha: 1, epochs: 5}")
    for _ in range(2):
        book.execute("04-distillation", "mine")
        runs.append(path.read_bytes())
    assert runs[0] == runs[1]
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert [(output.name, output.text) for output in notebook.cells[-1].outputs] == [("stdout", "mine 5\nagain\n")]
    assert [cell.execution_count for cell in notebook.cells] == [1, 2, 3]
    assert "mine 5" in path.with_suffix(".html").read_text()
    printed = capfd.readouterr().err
    assert all(f"from {name}\n" in printed for name in ("the kernel", "worker 0", "worker 1"))
    preset("04-distillation: {epochs: 13}")
    with pytest.raises(UserError, match=r"^04-distillation: thirteen epochs are too many"):
        book.execute("04-distillation", "mine")
    assert path.read_bytes() == runs[0]
    failed = nbformat.read(path.parent / "failed" / path.name, as_version=4)
    assert [output.ename for output in failed.cells[-1].outputs] == ["UserError"]


def test_a_terminated_execution_leaves_no_kernel_and_no_worker(preset, home, monkeypatch):
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    preset("04-distillation: {pause: 60.0}")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'lib' / 'tools'}:{ROOT / 'lib'}")
    code = f"""import presets, book, pathlib
presets.TEXT, presets.PRESETS = pathlib.Path("{home}/text"), pathlib.Path("{home}/presets")
book.main()"""
    call = [sys.executable, "-c", code, "execute", "04-distillation", "--preset", "mine"]
    process = subprocess.Popen(call, stderr=subprocess.PIPE, text=True)
    said = ""
    while said.count("from ") < 3:  # the kernel and both workers are there
        said += next(process.stderr)
    offspring = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    _, error = process.communicate(timeout=30)
    assert error.strip() == "Stopped. What is finished is kept: the same command resumes." and process.returncode
    assert len(offspring) >= 3 and not psutil.wait_procs(offspring, timeout=10)[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("04-distillation: {aplha: 0.2}", '"aplha" is not a parameter of 04-distillation (did you mean "alpha"?)'),
        ("04-distilation: {alpha: 0.2}", '"04-distilation" is not a notebook (did you mean "04-distillation"?)'),
        ("04-distillation: {epochs: many}", "\"epochs\" of 04-distillation is 'many'; expected int"),
        ("04-distillation: {epochs: true}", "expected int"),
        ("04-distillation: {alpha: null}", "expected float"),
        ("04-distillation: {preset: default}", "follows from the file's name"),
        ("04-distillation: 3", "expected sections"),
        ("04-distillation: {alpha: 0.2}\n04-distillation: {alpha: 1}", "line 2 names '04-distillation' a second time"),
        ("04-distillation: {alpha: 0.2, alpha: 0.2}", "line 1 names 'alpha' a second time"),
        ("{", "not valid YAML"),
    ],
)
def test_a_wrong_preset_stops_before_anything_runs(preset, home, text, message):
    preset(text)
    with pytest.raises(UserError) as caught:
        book.execute("04-distillation", "mine")
    assert message in str(caught.value) and str(caught.value).startswith("preset mine.yaml: ")
    assert not (home / "outputs").exists()
    with pytest.raises(UserError, match=r'"mien" is not a preset \(did you mean "mine"\?\)'):
        book.execute("04-distillation", "mien")


def test_of_two_makes_at_once_one_gives_way_and_the_lock_ends_with_its_holder(home):
    call = [sys.executable, str(ROOT / "lib" / "tools" / "book.py"), "execute", "01-data", "--preset", "smoke"]
    with book.alone("smoke"):
        result = subprocess.run(call, capture_output=True, text=True)
    assert result.returncode and "another `make` is at work there; run this again when it is done." in result.stderr
    assert [path.name for path in (home / "outputs").rglob("*") if path.is_file()] == ["lock"]
    for _ in range(2):
        with book.alone("smoke"), pytest.raises(UserError, match="at work there"), book.alone("smoke"):
            pass


def test_outputs_that_cannot_be_written_are_one_sentence():
    with pytest.raises(SystemExit, match=r"^main\.csv: disk full; the previous outputs"), one_line("tables"):
        raise OSError(28, "disk full", "/outputs/main.csv")


def test_every_action_takes_what_the_makefile_passes():
    calls = dict.fromkeys(book.ACTIONS, "") | {"profiles": '"$$FRESH"'}
    calls |= dict(re.findall(r"\$\(book\) (\w+)((?: \"\$\$\w+\")*) --preset", (ROOT / "Makefile").read_text()))
    assert {*calls} - {"execute"} == {*book.ACTIONS} and len(calls["estimate"].split()) == 2
    for action, (module, function) in book.ACTIONS.items():
        signature(getattr(import_module(module), function)).bind("smoke", *calls[action].split())

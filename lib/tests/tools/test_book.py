"""The executor on a book of one small chapter, presets that are wrong, and two processes at once."""

import errno
import os
import re
import subprocess
import sys
import time
from importlib import import_module
from inspect import signature

import book
import nbformat
import presets
import psutil
import pytest
from command import one_line
from filelock import FileLock
from seqdistill.io import ROOT, UserError

TEXT = """# %% tags=["parameters"]
preset = "default"
alpha = 0.4
epochs = 3

# %%
import time
from joblib import Parallel, delayed
from seqdistill.io import UserError, announce
if epochs == 13:
    raise UserError("thirteen epochs are too many.")
announce("from the kernel")
Parallel(2)(delayed(announce)(f"from worker {number}") for number in range(2))
print(preset, alpha * epochs)
time.sleep(0.5)  # a line that arrives when the cell is done is lost
print("again")
"""


@pytest.fixture
def house(tmp_path, monkeypatch):
    for folder in ("text", "presets"):
        (tmp_path / folder).mkdir()
        monkeypatch.setattr(presets, folder.upper(), tmp_path / folder)
    (tmp_path / "text" / "04-distillation.py").write_text(TEXT)
    monkeypatch.setenv("SEQDISTILL_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "lib"))

    def preset(text):
        (tmp_path / "presets" / "mine.yaml").write_text(text)

    return preset


def test_execution_is_repeated_byte_for_byte_and_a_failure_leaves_the_former(house, tmp_path, monkeypatch, capfd):
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # with it a kernel does not pass on what its workers print
    path, runs = tmp_path / "outputs" / "mine" / "04-distillation.ipynb", []
    house("04-distillation: {alpha: 1, epochs: 5}")
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
    house("04-distillation: {epochs: 13}")
    with pytest.raises(UserError, match=r"^04-distillation: thirteen epochs are too many"):
        book.execute("04-distillation", "mine")
    assert path.read_bytes() == runs[0]
    failed = nbformat.read(path.parent / "failed" / path.name, as_version=4)
    assert [output.ename for output in failed.cells[-1].outputs] == ["UserError"]


def test_a_terminated_execution_leaves_no_kernel_and_no_worker(house, tmp_path):
    house("{}")
    work = "def work(number):\n    Path(f'worker-{number}').touch()\n    time.sleep(60)\n"
    start = "Parallel(2)(delayed(work)(number) for number in range(2))\n"
    imports = "import os, time\nfrom pathlib import Path\nfrom joblib import Parallel, delayed\n"
    text = f'# %% tags=["parameters"]\npreset = ""\n\n# %%\n{imports}os.chdir("{tmp_path}")\n{work}{start}'
    (tmp_path / "text" / "04-distillation.py").write_text(text)
    code = f"""import sys, presets, book
from pathlib import Path
presets.TEXT, presets.PRESETS = Path("{tmp_path}/text"), Path("{tmp_path}/presets")
sys.argv = ["book", "execute", "04-distillation", "--preset", "mine"]
book.main()"""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'lib' / 'tools'}:{ROOT / 'lib'}"}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True)
    for _ in range(600):
        if process.poll() is not None or len([*tmp_path.glob("worker-*")]) == 2:
            break
        time.sleep(0.1)
    offspring = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    _, error = process.communicate(timeout=30)
    assert error == "Stopped. What is finished is kept: the same command resumes.\n" and process.returncode
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
def test_a_wrong_preset_stops_before_anything_runs(house, tmp_path, text, message):
    house(text)
    with pytest.raises(UserError) as caught:
        book.execute("04-distillation", "mine")
    assert message in str(caught.value) and str(caught.value).startswith("preset mine.yaml: ")
    assert not (tmp_path / "outputs").exists()
    with pytest.raises(UserError, match=r'"mien" is not a preset \(did you mean "mine"\?\)'):
        book.execute("04-distillation", "mien")


def test_of_two_makes_at_once_one_gives_way_and_the_lock_ends_with_its_holder(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQDISTILL_OUTPUTS", str(tmp_path))
    (tmp_path / "smoke" / "artifacts").mkdir(parents=True)
    call = [sys.executable, str(ROOT / "lib" / "tools" / "book.py"), "execute", "01-data", "--preset", "smoke"]
    with FileLock(tmp_path / "smoke" / "artifacts" / "lock"):
        result = subprocess.run(call, capture_output=True, text=True)
    assert result.returncode and "another `make` is at work there; run this again when it is done." in result.stderr
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["lock"]
    for _ in range(2):
        with book.alone("smoke"), pytest.raises(UserError, match="at work there"), book.alone("smoke"):
            pass


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC])
def test_outputs_that_cannot_be_written_are_one_sentence(number):
    said = rf"^main\.csv: {os.strerror(number)}; the previous outputs"
    with pytest.raises(SystemExit, match=said), one_line("tables"):
        raise OSError(number, os.strerror(number), "/outputs/main.csv")


def test_every_action_takes_what_the_makefile_passes():
    calls = dict.fromkeys(book.ACTIONS, "") | {"profiles": '"$$FRESH"'}
    calls |= dict(re.findall(r"\$\(book\) (\w+)((?: \"\$\$\w+\")*) --preset", (ROOT / "Makefile").read_text()))
    assert {*calls} - {"execute"} == {*book.ACTIONS} and len(calls["estimate"].split()) == 2
    for action, (module, function) in book.ACTIONS.items():
        signature(getattr(import_module(module), function)).bind("smoke", *calls[action].split())

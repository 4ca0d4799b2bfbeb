"""The core alone, without extras: the wheel beside what it requires and nothing else trains the README's example."""

import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import distribution

import numpy as np
import pandas as pd
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from seqdistill.io import ROOT, UserError, require

EXAMPLE = re.search(r"```python\n(import pandas.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
PACKAGES = ("seqdistill", "seqbook")


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    """A folder with the unpacked wheel and links to the distributions that the core needs."""
    home = tmp_path_factory.mktemp("core")
    for package in PACKAGES:
        shutil.copytree(ROOT / "lib" / package, home / "lib" / package)
    shutil.copy(ROOT / "lib" / "pyproject.toml", home / "lib")
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", home, home / "lib"]
    subprocess.run(pip, check=True)
    packages = home / "packages"
    zipfile.ZipFile(next(home.glob("*.whl"))).extractall(packages)
    metadata = next(packages.glob("*.dist-info/METADATA")).read_text()
    wanted, linked = re.findall("^Requires-Dist: (.+)", metadata, re.M), set()
    while wanted:
        requirement = Requirement(wanted.pop())
        name = canonicalize_name(requirement.name)
        if name not in linked and (not requirement.marker or requirement.marker.evaluate({"extra": ""})):
            found = distribution(name)
            linked.add(name)
            wanted += found.requires or []
            for part in {file.parts[0] for file in found.files} - {"..", "__pycache__"}:
                if not (packages / part).exists():
                    (packages / part).symlink_to(found.locate_file(part))
    return packages


def run(core, code, folder):
    lines = f"import sys\nsys.path.insert(0, {str(core)!r})\n{code}"
    return subprocess.run([sys.executable, "-I", "-S", "-c", lines], cwd=folder, capture_output=True, text=True)


def test_the_core_alone_trains_the_example(core, tmp_path):
    rng = np.random.default_rng(0)
    events = pd.DataFrame({"user_id": np.repeat(np.arange(30), 8), "item_id": rng.integers(0, 15, 240)})
    events.assign(timestamp=np.tile(np.arange(8), 30)).to_csv(tmp_path / "interactions.csv", index=False)
    assert "epochs=20" in EXAMPLE
    result = run(core, EXAMPLE.replace("epochs=20", "epochs=1"), tmp_path)
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "runs").glob("*/model.safetensors"))) == 1


def test_a_missing_extra_is_named_with_the_line_that_installs_it(core, tmp_path):
    result = run(core, 'from seqdistill.io import require\nrequire("umap", "text")', tmp_path)
    assert result.stderr.endswith('UserError: umap is not installed; `pip install "./lib[text]"` installs it.\n')
    assert require("json", "text").dumps([1]) == "[1]"
    with pytest.raises(UserError, match=r"nosuch is not installed"):
        require("nosuch.module", "text")


def test_the_wheel_carries_prompts_and_data_files(core):
    files = [path for package in PACKAGES for path in (ROOT / "lib" / package).rglob("*.*")]
    names = {path.relative_to(ROOT / "lib") for path in files if path.suffix in (".txt", ".yaml", ".typed")}
    assert all((core / name).exists() for name in names) and len(names) > 10


def set_up(home, *commands):
    """env.py in a project of its own, with one stage of these lines of Python side by side."""
    tool = home / "lib" / "tools" / "env.py"
    tool.parent.mkdir(parents=True)
    code = (ROOT / "lib" / "tools" / "env.py").read_text()
    stage = f"STAGES = [{[[sys.executable, '-c', line] for line in commands]}]\n\nif"
    tool.write_text(re.sub(r"STAGES = \[.*?\nif", lambda _: stage, code, flags=re.S))
    for name in ("requirements.lock", "pyproject.toml"):
        (home / "lib" / name).touch()
    (home / "lib" / "requirements.hashes").write_text("# note\na==1 \\\n    --hash=x\nb==2\nc==3\n")
    return tool


def test_two_set_ups_at_once_build_once(tmp_path):
    tool = set_up(tmp_path, "import time; print('built', file=open('log', 'a')); time.sleep(1)")
    both = [subprocess.Popen([sys.executable, tool]) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert (tmp_path / "log").read_text() == "built\n" and (tmp_path / ".venv" / "ready").exists()


def test_a_set_up_that_fails_beside_one_that_does_not_is_not_ready_and_no_pin_is_lost(tmp_path):
    tool = set_up(tmp_path, "raise SystemExit(1)", "")
    failed = subprocess.run([sys.executable, tool], capture_output=True, text=True, check=False)
    assert failed.returncode == 1 and "set-up failed at: -c raise SystemExit(1)" in failed.stderr
    halves = [(tmp_path / ".venv" / f"pins-{half}.txt").read_text() for half in range(2)]
    assert halves == ["a==1 \\\n    --hash=x\nc==3\n", "b==2\n"] and not (tmp_path / ".venv" / "ready").exists()

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
MISSING = 'from seqdistill.io import require\ntry:\n    require("umap", "text")\nexcept Exception as error:\n    print(error)\n'


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    """A folder with the unpacked wheel and links to the distributions that the core needs."""
    home = tmp_path_factory.mktemp("core")
    for package in PACKAGES:
        shutil.copytree(ROOT / "lib" / package, home / "lib" / package)
    shutil.copy(ROOT / "lib" / "pyproject.toml", home / "lib")
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(home)]
    subprocess.run([*pip, str(home / "lib")], check=True)
    packages = home / "packages"
    with zipfile.ZipFile(next(home.glob("*.whl"))) as wheel:
        wheel.extractall(packages)
    metadata = next(packages.glob("*.dist-info/METADATA")).read_text()
    wanted, linked = re.findall("^Requires-Dist: (.+)", metadata, re.M), set()
    while wanted:
        requirement = Requirement(wanted.pop())
        name = canonicalize_name(requirement.name)
        if name in linked or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
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
    events = {"user_id": np.repeat(np.arange(30), 8), "item_id": rng.integers(0, 15, 240)}
    pd.DataFrame({**events, "timestamp": np.tile(np.arange(8), 30)}).to_csv(tmp_path / "interactions.csv", index=False)
    assert "epochs=20" in EXAMPLE
    result = run(core, EXAMPLE.replace("epochs=20", "epochs=1"), tmp_path)
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "runs").glob("*/model.safetensors"))) == 1


def test_a_missing_extra_is_named_with_the_line_that_installs_it(core, tmp_path):
    result = run(core, MISSING, tmp_path)
    assert result.stdout == 'umap is not installed; `pip install "./lib[text]"` installs it.\n', result.stderr
    assert require("json", "text").dumps([1]) == "[1]"
    with pytest.raises(UserError, match=r"nosuch is not installed"):
        require("nosuch.module", "text")


def test_the_wheel_carries_prompts_and_data_files(core):
    files = [path for package in PACKAGES for path in (ROOT / "lib" / package).rglob("*")]
    names = {str(path.relative_to(ROOT / "lib")) for path in files if path.suffix in (".txt", ".yaml", ".typed")}
    packed = {str(path.relative_to(core)) for package in PACKAGES for path in (core / package).rglob("*")}
    assert names <= packed and len(names) > 10


def test_two_set_ups_at_once_build_once(tmp_path):
    """env.py in a project of its own whose "venv" is a script that notes that it ran."""
    (tmp_path / "lib" / "tools").mkdir(parents=True)
    code = (ROOT / "lib" / "tools" / "env.py").read_text()
    build = "import os, time; os.makedirs('.venv', exist_ok=True); print('built', file=open('log', 'a')); time.sleep(1)"
    start, end = code.index("COMMANDS = ["), code.index("\nif __name__")
    code = f"{code[:start]}COMMANDS = [[sys.executable, '-c', {build!r}]]\n{code[end:]}"
    (tmp_path / "lib" / "tools" / "env.py").write_text(code)
    for name in ("requirements.lock", "requirements.hashes", "pyproject.toml"):
        (tmp_path / "lib" / name).write_text("")
    both = [subprocess.Popen([sys.executable, str(tmp_path / "lib" / "tools" / "env.py")]) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert (tmp_path / "log").read_text() == "built\n" and (tmp_path / ".venv" / "ready").exists()

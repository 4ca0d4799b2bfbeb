import importlib.util
import os
import subprocess
import sys

import pytest
from seqdistill.io import ROOT

DRIVER = """
import importlib.util, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("env", sys.argv[1])
env = importlib.util.module_from_spec(spec)
spec.loader.exec_module(env)
env.ROOT = Path(sys.argv[2])
env.commands = lambda: [[sys.executable, "-c", sys.argv[3]]]
env.main()
"""
BUILD = "import os, time; os.makedirs('.venv', exist_ok=True); print('built', file=open('log', 'a')); time.sleep(1)"


def start(home, build):
    command = [sys.executable, "-c", DRIVER, str(ROOT / "lib" / "env.py"), str(home), build]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def home(tmp_path):
    (tmp_path / "lib").mkdir()
    for name in ("requirements.lock", "requirements.hashes", "pyproject.toml"):
        (tmp_path / "lib" / name).write_text("")
    return tmp_path


def test_two_set_ups_at_once_build_once(home):
    both = [start(home, BUILD) for _ in range(2)]
    assert [one.wait(60) for one in both] == [0, 0]
    assert (home / "log").read_text() == "built\n" and (home / ".venv" / "ready").exists()
    os.utime(home / "lib" / "requirements.lock")
    assert start(home, BUILD).wait(60) == 0
    assert (home / "log").read_text() == "built\nbuilt\n", "a changed lock file is built anew"


def test_a_set_up_that_fails_is_not_ready_and_is_tried_again(home):
    failed = start(home, "raise SystemExit(3)")
    assert failed.wait(60) and "set-up failed at: -c" in failed.communicate()[1]
    assert not (home / ".venv" / "ready").exists()
    assert start(home, BUILD).wait(60) == 0 and (home / ".venv" / "ready").exists()


def test_everything_but_torch_is_pinned_by_hash():
    lines = (ROOT / "lib" / "requirements.hashes").read_text().splitlines()
    pins = [line.removesuffix(" \\") for line in lines if "==" in line and not line.startswith("#")]
    locked = (ROOT / "lib" / "requirements.lock").read_text().split()
    plain = [pin.lower().replace("_", "-") for pin in locked if not pin.startswith("torch==")]
    assert sorted(pin.lower().replace("_", "-") for pin in pins) == sorted(plain)
    hashes = [line.strip().removesuffix(" \\") for line in lines if "--hash" in line]
    assert len(hashes) > len(pins) and all(len(one) == len("--hash=sha256:") + 64 for one in hashes)


def test_the_commands_check_hashes_before_anything_is_installed():
    spec = importlib.util.spec_from_file_location("env", ROOT / "lib" / "env.py")
    env = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(env)
    first = next(command for command in env.commands() if "install" in command)
    assert "--require-hashes" in first and first[-1] == "lib/requirements.hashes"

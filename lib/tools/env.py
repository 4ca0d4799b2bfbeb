"""Build .venv from the lock files, once, however many `make` ask for it at a time; needs nothing but Python 3.11.

Every file is checked against requirements.hashes before it is installed, except torch and what only some of its builds
require: an index of CPU builds and the general index give different files for the same version.
"""

import fcntl
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [ROOT / "lib" / name for name in ("requirements.lock", "requirements.hashes", "pyproject.toml")]
PIP = [".venv/bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-compile"]  # half the time
PINS = [".venv/pins-0.txt", ".venv/pins-1.txt"]  # halves of requirements.hashes
STAGES = [  # the commands of a stage run side by side: one pip unpacks on one core
    [[sys.executable, "-m", "venv", ".venv"]],
    [[*PIP, "--require-hashes", "--no-deps", "-r", half] for half in PINS],
    [[*PIP, "-r", "lib/requirements.lock"]],
    [[*PIP, "--no-deps", "--no-build-isolation", "-e", "lib"]],
]

if __name__ == "__main__":
    if sys.version_info[:2] != (3, 11):
        sys.exit("Python 3.11 is needed; name it: make PYTHON=/path/to/python3.11")
    ready = ROOT / ".venv" / "ready"
    with open(ROOT / ".venv.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        built = ready.stat().st_mtime if ready.exists() else 0
        if all(path.stat().st_mtime <= built for path in SOURCES):
            sys.exit()
        ready.parent.mkdir(exist_ok=True)
        entries = re.split(r"^(?=\w)", SOURCES[1].read_text(), flags=re.M)[1:]  # without the comment at the top
        for number, half in enumerate(PINS):
            (ROOT / half).write_text("".join(entries[number::2]))
        for stage in STAGES:
            started = [subprocess.Popen(command, cwd=ROOT) for command in stage]
            if failed := [process.args for process in started if process.wait()]:
                sys.exit(f"set-up failed at: {' '.join(failed[0][1:])}")
        ready.touch()

"""Build .venv from the lock files, once, however many `make` ask for it at a time; needs nothing but Python 3.11.

Every file is checked against requirements.hashes before it is installed. torch alone is not, nor what only some of its
builds ask for: an index of CPU builds and the general index give different files for the same version.
"""

import fcntl
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("requirements.lock", "requirements.hashes", "pyproject.toml")


def up_to_date() -> bool:
    """Say whether .venv was built from the lock files as they are."""
    ready = ROOT / ".venv" / "ready"
    made = ready.stat().st_mtime if ready.exists() else 0
    return all((ROOT / "lib" / name).stat().st_mtime <= made for name in SOURCES)


def commands() -> list[list[str]]:
    """List the commands that build it, in order."""
    pip = [".venv/bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    return [
        [sys.executable, "-m", "venv", ".venv"],
        [*pip, "--require-hashes", "--no-deps", "-r", "lib/requirements.hashes"],
        [*pip, "-r", "lib/requirements.lock"],
        [*pip, "--no-deps", "--no-build-isolation", "-e", "lib"],
    ]


def main() -> None:
    """Build it, or wait for another process that does."""
    if sys.version_info[:2] != (3, 11):
        sys.exit("Python 3.11 is needed; name it: make PYTHON=/path/to/python3.11")
    with open(ROOT / ".venv.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if up_to_date():
            return
        for command in commands():
            if subprocess.run(command, cwd=ROOT, check=False).returncode:
                sys.exit(f"set-up failed at: {' '.join(command[1:])}")
        (ROOT / ".venv" / "ready").touch()


if __name__ == "__main__":
    main()

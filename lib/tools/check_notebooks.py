"""Re-execute a preset's stored notebooks with nbval, strictly, into build/nbval: `make nbval`."""

import argparse
import os
import shutil
import subprocess
import sys

from book import HEADLESS, alone
from command import one_line
from presets import chapters, check_preset
from seqdistill.io import ROOT, outputs_dir

SIDE_BY_SIDE, LAST = ("05", "06", "07", "09"), "08"  # chapters that do not read each other, and the one that reads them


def nbval(preset: str) -> int:
    """Check the chapters in three waves, the second two at a time; return 1 after the first that fails."""
    target = ROOT / "build" / "nbval"
    shutil.rmtree(target, ignore_errors=True)
    command = [sys.executable, "-m", "pytest", "-q", "--nbval", "--nbval-current-env", "-p", "no:cacheprovider"]
    command += ["--nbval-sanitize-with", str(ROOT / "lib" / "tests" / "sanitize.cfg"), "--dist", "loadfile"]
    environment = {**os.environ, **HEADLESS, "SEQDISTILL_OUTPUTS": str(target)}
    paths = {chapter[:2]: str(outputs_dir(preset) / f"{chapter}.ipynb") for chapter in chapters()}
    second, third = [paths.pop(number) for number in SIDE_BY_SIDE], [paths.pop(LAST)]
    return int(  # -9 where a signal ended one
        any(
            subprocess.run([*command, "-n", workers, *notebooks], env=environment, check=False).returncode
            for workers, notebooks in (("0", paths.values()), ("2", second), ("0", third))
        )
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", default="smoke")
    preset = parser.parse_args().preset
    with one_line("nbval"):
        check_preset(preset)
        with alone(preset):
            sys.exit(nbval(preset))


if __name__ == "__main__":
    main()

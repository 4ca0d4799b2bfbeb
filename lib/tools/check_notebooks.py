"""Re-execute a preset's stored notebooks with nbval, strictly, into build/nbval: `make nbval`."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from book import HEADLESS
from presets import chapters
from seqdistill.io import ROOT, outputs_dir

# Chapters of a wave do not read each other, but where they stand in one list.
WAVES = [[["00"], ["01", "02", "03", "04"]], [["05"], ["06"], ["07"], ["09"]], [["08"]]]


def nbval(preset: str) -> int:
    """Check the chapters of each wave two lists at a time; return 1 after the first wave in which one fails."""
    target = ROOT / "build" / "nbval"
    shutil.rmtree(target, ignore_errors=True)
    command = [sys.executable, "-m", "pytest", "-q", "--nbval", "--nbval-current-env", "-p", "no:cacheprovider"]
    command += ["--nbval-sanitize-with", str(ROOT / "lib" / "tests" / "sanitize.cfg")]
    environment = {**os.environ, **HEADLESS, "SEQDISTILL_OUTPUTS": str(target)}
    paths = {chapter[:2]: str(outputs_dir(preset) / f"{chapter}.ipynb") for chapter in chapters()}

    def check(numbers: list[str]) -> bool:
        notebooks = [paths[number] for number in numbers]
        for _ in range(2):
            done = subprocess.run([*command, *notebooks], env=environment, capture_output=True, text=True, check=False)
            if "Kernel died before replying to kernel_info" not in done.stdout:  # as when two kernels drew one port
                break
        print(f"{', '.join(numbers)}: {done.stdout}{done.stderr}", flush=True)
        return done.returncode == 0

    with ThreadPoolExecutor(2) as pool:
        return int(not all(all([*pool.map(check, wave)]) for wave in WAVES))

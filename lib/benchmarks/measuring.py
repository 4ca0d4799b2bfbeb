"""Seconds, a peak of memory, and a measurement in a process of its own: what the benchmarks share."""

import contextlib
import json
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd


def peak_mb() -> float:
    """Peak memory of this process so far; on Linux without that of the process that started it, which getrusage keeps."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall seconds of some work."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def measured(*command: str) -> dict:
    """Run a measurement in a process of its own, and read the JSON in the last line that it prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command[1:])}: failed\n{done.stderr[-2000:]}")
    row = json.loads(done.stdout.strip().splitlines()[-1])
    print(*command[2:], {name: value for name, value in row.items() if not isinstance(value, list)}, flush=True)
    return row


def apart(*arguments: object) -> dict:
    """Run this very benchmark with arguments in a process of its own."""
    return measured(sys.executable, sys.argv[0], *map(str, arguments))


def command(measurements: dict[str, Callable[..., dict]], main: Callable[..., None]) -> None:
    """Run a benchmark, or, where its first argument names a measurement (see `apart`), that alone."""
    name, *values = sys.argv[1:] or [""]
    if name not in measurements:
        return main(*sys.argv[1:])
    with contextlib.redirect_stdout(sys.stderr):
        row = measurements[name](*(int(value) if value.isdigit() else value for value in values))
    print(json.dumps(row))


def against_plain(spent: dict[str, np.ndarray], name: str) -> dict:
    """Percentiles of a system's milliseconds, and its CPU time over that of `plain`: the geometric mean ratio."""
    from seqdistill.evaluation.significance import paired  # not where memory is measured, nor in a peer's environment

    cpu, wall = (1000 * spent[name]).T
    row = {"requests": len(cpu)}
    for kind, values in (("wall", wall), ("cpu", cpu)):
        row |= {f"{kind}_p{q}_ms": float(np.percentile(values, q)) for q in (50, 95, 99)}
    if name == "plain":
        return row
    test = paired([pd.Series(np.log(cpu) - np.log(1000 * spent["plain"][:, 0]))])
    ratios = {"ratio": "delta", "ci_low": "ci_low", "ci_high": "ci_high"}
    return row | {key: float(np.exp(test[column])) for key, column in ratios.items()} | {"p": test["p"]}

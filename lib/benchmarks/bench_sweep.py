"""Two workers of one thread, or one of two? `make bench-sweep`: four runs on MovieLens small, CPU seconds of all processes."""

import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import pandas as pd
from joblib.externals.loky import get_reusable_executor
from seqdistill import data as datasets
from seqdistill.config import ModelConfig, TrainConfig
from seqdistill.data.splits import leave_last_k
from seqdistill.io import outputs_dir, save_csv
from seqdistill.training.sweep import plan, sweep
from seqdistill.training.train import training_data

CONFIG = TrainConfig(model=ModelConfig(dim=64, blocks=2, heads=2, dropout=0.2, length=50), epochs=10, batch=16)
SEEDS = [0, 1, 2, 3]


def train_all(workers: int) -> None:
    """Train the runs; one worker trains in this process, with as many threads as it has."""
    events = datasets.load("movielens-small", 5).events
    data = training_data(events.assign(split=leave_last_k(events, 10)), int(events["item"].max()))
    with tempfile.TemporaryDirectory() as folder:
        sweep(plan({"plain": CONFIG}, SEEDS, data), Path(folder), workers=workers)
    get_reusable_executor().shutdown()  # waited for, so that its CPU seconds count


def main() -> None:
    rows = []
    for setting, workers in {"2 workers x 1 thread": 2, "1 worker x 2 threads": 1}.items():
        before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run([sys.executable, __file__, str(workers)], check=True)
        wall, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        rows.append({"setting": setting, "runs": len(SEEDS), "epochs": CONFIG.epochs, "wall_s": wall, "cpu_s": cpu})
    table = pd.DataFrame(rows).assign(load=os.getloadavg()[0], date=str(date.today()))
    print(save_csv(table, outputs_dir("bench") / "sweep.csv").to_string())


if __name__ == "__main__":
    main() if len(sys.argv) == 1 else train_all(int(sys.argv[1]))

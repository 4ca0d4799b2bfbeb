"""Two workers of one thread, or one of two? `make bench-sweep`: four runs on MovieLens small, CPU seconds of all processes."""

import os
import resource
import tempfile
import time
from datetime import date
from pathlib import Path

import pandas as pd
from joblib.externals.loky import get_reusable_executor
from measuring import apart, command
from seqdistill import data as datasets
from seqdistill.config import ModelConfig, TrainConfig
from seqdistill.data.splits import leave_last_k
from seqdistill.io import outputs_dir, save_csv
from seqdistill.training.sweep import plan, sweep
from seqdistill.training.train import training_data

CONFIG = TrainConfig(model=ModelConfig(dim=64, blocks=2, heads=2, dropout=0.2, length=50), epochs=10, batch=16)
SEEDS = [0, 1, 2, 3]
SETTINGS = {"2 workers x 1 thread": 2, "1 worker x 2 threads": 1}


def train_all(workers: int) -> dict:
    """Train the runs; one worker trains in this process, with as many threads as it has."""
    begun, events = time.monotonic(), datasets.load("movielens-small", 5).events
    data = training_data(events.assign(split=leave_last_k(events, 10)), int(events["item"].max()))
    with tempfile.TemporaryDirectory() as folder:
        sweep(plan({"plain": CONFIG}, SEEDS, data), Path(folder), workers=workers)
    get_reusable_executor().shutdown()  # waited for, so that its CPU seconds count
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {"wall_s": time.monotonic() - begun, "cpu_s": sum(one.ru_utime + one.ru_stime for one in used)}


def main() -> None:
    fixed = {"runs": len(SEEDS), "epochs": CONFIG.epochs}
    rows = [{"setting": name, **fixed, **apart("train_all", workers)} for name, workers in SETTINGS.items()]
    table = pd.DataFrame(rows).assign(load=os.getloadavg()[0], date=str(date.today()))
    print(save_csv(table, outputs_dir("bench") / "sweep.csv").to_string())


if __name__ == "__main__":
    command({"train_all": train_all}, main)

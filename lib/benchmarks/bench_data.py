"""Measure data preparation at the sizes of ML-20M and Amazon-M2, and the batch iterator: `make bench-data`.

Each step is a process of its own: CPU seconds of all its threads (imports included), peak memory by the kernel. Files
are synthetic, in the real layouts (synthetic.py), below build/bench.
"""

import os
import resource
import shutil
import time
from itertools import islice

import numpy as np
import pandas as pd
import synthetic
import torch
from measuring import apart, command, peak_mb
from seqdistill import data as datasets
from seqdistill.config import ModelConfig
from seqdistill.data.sequences import batches, ragged, windows
from seqdistill.data.splits import Protocol, audit, split
from seqdistill.io import ROOT, outputs_dir, save_csv
from seqdistill.models.losses import full_softmax
from seqdistill.models.transformer import SequentialRecommender

FOLDER = ROOT / "build" / "bench"
SIZES = {"ml-20m": (138_493, 26_744, 20_000_263), "amazon-m2": (616_502, 334_060, 3_651_542)}
WRITERS = {"ml-20m": synthetic.ml_20m, "amazon-m2": synthetic.amazon_m2}
PROTOCOLS = {"ml-20m": Protocol("global_time"), "amazon-m2": Protocol("leave_one_out"), "movielens-small": Protocol()}
BATCH, BATCHES = 64, 20
LIMITS = {"cpu_s": 60, "peak_rss_mb": 4_096}  # of each step of data preparation


def split_events(name: str) -> pd.DataFrame:
    """Raw files, or processed tables if they are there, to the filtered table with its split."""
    data = datasets.load(name, 4, kind="single")
    return data.events.assign(split=split(data.events, PROTOCOLS[name], data.dated))


def audited(name: str) -> int:
    """Count the training windows of `split_events`, after its audit."""
    events = split_events(name)
    audit(events, PROTOCOLS[name])
    return len(windows(ragged(events[events["split"] == "train"]), 50))


def feed(name: str) -> tuple[float, float]:
    """Sequences per CPU second: what the iterator yields, and what one thread trains on (d 64, 2 blocks, length 50)."""
    torch.set_num_threads(1)
    events = split_events(name)
    rows = windows(ragged(events[events["split"] == "train"]), 50)
    begun = time.process_time()
    fed = sum(len(users) for users, *_ in batches(rows, BATCH, np.random.default_rng(0)))
    feeding = fed / (time.process_time() - begun)
    model = SequentialRecommender(int(events["item"].max()), ModelConfig(dim=64, blocks=2, heads=2))
    begun, trained = time.process_time(), 0
    for users, inputs, targets in islice(batches(rows, BATCH, np.random.default_rng(0)), BATCHES):
        real = torch.from_numpy(targets > 0)
        h, _ = model(torch.from_numpy(inputs))
        full_softmax(h[real], model.catalogue(), torch.from_numpy(targets)[real]).backward()
        trained += len(users)
    return feeding, trained / (time.process_time() - begun)


def measured(step: str, name: str) -> dict:
    """Result, CPU and wall seconds and peak MB of a step, in the process that runs it."""
    begun, result = time.perf_counter(), STEPS[step](name)
    used = resource.getrusage(resource.RUSAGE_SELF)
    row = {"cpu_s": used.ru_utime + used.ru_stime, "wall_s": time.perf_counter() - begun, "peak_rss_mb": peak_mb()}
    return {"result": result, **row}


STEPS = {
    "write_raw": lambda name: WRITERS[name](FOLDER / name / "raw", *SIZES[name]),
    "prepare": lambda name: len(split_events(name)),
    "convert": lambda name: len(datasets.convert(name).events),
    "audited": audited,
    "feed": feed,
}
STAGES = {
    "raw files to filtered table and split": "prepare",
    "raw files to processed tables": "convert",
    "processed tables to filtered table and split": "prepare",
    "the same, audit and training windows": "audited",
}


def main() -> None:
    os.environ["SEQDISTILL_DATA"] = str(FOLDER)
    shutil.rmtree(FOLDER, ignore_errors=True)
    rows = []
    for name in PROTOCOLS:
        if name in SIZES:
            apart("measured", "write_raw", name)
            for words, step in STAGES.items():
                row = apart("measured", step, name)
                rows.append({"data": name, "step": words, "rows": row.pop("result"), **row})
        fed, trained = apart("measured", "feed", name)["result"]
        row = {"data": name, "step": "batch iterator", "sequences_per_cpu_s": fed}
        rows.append(row | {"times_the_student": fed / trained})
        rows.append({"data": name, "step": "student, forward and backward", "sequences_per_cpu_s": trained})
        shutil.rmtree(FOLDER / name, ignore_errors=True)
    table = pd.DataFrame(rows).round(1).astype({"rows": "Int64"})
    print(save_csv(table, outputs_dir("bench") / "data.csv").to_string())
    for column, limit in LIMITS.items():
        most = table[column].max()
        print(f"{column}: at most {most:,.1f}, {'within' if most <= limit else 'ABOVE'} the limit of {limit:,}")


if __name__ == "__main__":
    command({"measured": measured}, main)

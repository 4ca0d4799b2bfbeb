"""Measure data preparation at the sizes of ML-20M and Amazon-M2, and the batch iterator: `make bench-data`.

Each step runs in a process of its own; CPU seconds are those of all its threads, the peak of its memory is the
kernel's. Files are synthetic, in the real layouts (synthetic.py), below build/bench.
"""

import multiprocessing
import os
import resource
import shutil
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pandas as pd
import synthetic
import torch
from seqdistill import data as datasets
from seqdistill.config import ModelConfig
from seqdistill.data.sequences import batches, ragged, windows
from seqdistill.data.splits import Protocol, audit, split
from seqdistill.io import ROOT, save_csv
from seqdistill.models.losses import full_softmax
from seqdistill.models.transformer import SequentialRecommender

FOLDER = ROOT / "build" / "bench"
SIZES = {"ml-20m": (138_493, 26_744, 20_000_263), "amazon-m2": (616_502, 334_060, 3_651_542)}
PROTOCOLS = {"ml-20m": Protocol("global_time"), "amazon-m2": Protocol("leave_one_out"), "movielens-small": Protocol()}
BATCH, STEPS = 64, 20
MARKS = ("<!-- bench -->", "<!-- end of bench -->")


def generate(name):
    {"ml-20m": synthetic.ml_20m, "amazon-m2": synthetic.amazon_m2}[name](FOLDER / name / "raw", *SIZES[name])
    return SIZES[name][2]


def prepared(name):
    data = datasets.load(name, 4, kind="single")
    return data, data.events.assign(split=split(data.events, PROTOCOLS[name], data.dated))


def prepare(name):
    """Raw files (or processed tables, if they are there) to the canonical table, filtered, with its split."""
    return len(prepared(name)[1])


def convert(name):
    return len(datasets.convert(name).events)


def audited(name):
    """As prepare, with the audit and the training windows."""
    _, events = prepared(name)
    audit(events, PROTOCOLS[name])
    return len(windows(ragged(events[events["split"] == "train"]), 50))


def consume(name):
    """Sequences per CPU second: what the iterator yields, and what one thread trains on (d 64, 2 blocks, length 50)."""
    torch.set_num_threads(1)
    data, events = prepared(name)
    rows = windows(ragged(events[events["split"] == "train"]), 50)
    started, fed = time.process_time(), 0
    for users, *_ in batches(rows, BATCH, np.random.default_rng(0)):
        fed += len(users)
    feeding = fed / (time.process_time() - started)
    model = SequentialRecommender(len(data.items), ModelConfig(dim=64, blocks=2, heads=2))
    started, trained = time.process_time(), 0
    for _, (users, inputs, targets) in zip(range(STEPS), batches(rows, BATCH, np.random.default_rng(0)), strict=False):
        real = torch.from_numpy(targets > 0)
        h, _ = model(torch.from_numpy(inputs))
        full_softmax(h[real], model.catalogue(), torch.from_numpy(targets)[real]).backward()
        trained += len(users)
    return feeding, trained / (time.process_time() - started)


def measured(step, name):
    started = time.perf_counter()
    result = step(name)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return result, used.ru_utime + used.ru_stime, time.perf_counter() - started, used.ru_maxrss / 1024


def run(step, name):
    """Run a step in a fresh process: what it returns, CPU seconds (imports included), wall seconds, peak MB."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measured, step, name).result()


def rendered(table):
    """The measured table as it stands in data/README.md."""
    steps = table[table["cpu_s"].notna()]
    lines = ["| data | step | rows | CPU s | peak memory, MB |", "|---|---|---|---|---|"]
    lines += [
        f"| {row.data} | {row.step} | {int(row.rows):,} | {row.cpu_s:.1f} | {row.peak_rss_mb:,.0f} |"
        for row in steps.itertuples()
    ]
    fed = table[table["times_the_student"].notna()]
    rates = ", ".join(f"{row.times_the_student:,.0f} times on {row.data}" for row in fed.itertuples())
    return "\n".join([*lines, "", f"The batch iterator yields more sequences than one thread trains on: {rates}."])


def into_readme(table):
    readme = ROOT / "data" / "README.md"
    before, rest = readme.read_text().split(MARKS[0])
    readme.write_text(f"{before}{MARKS[0]}\n{rendered(table)}\n{MARKS[1]}{rest.split(MARKS[1])[1]}")


def main():
    os.environ["SEQDISTILL_DATA"] = str(FOLDER)
    shutil.rmtree(FOLDER, ignore_errors=True)
    rows = []
    for name in (*SIZES, "movielens-small"):
        if name in SIZES:
            run(generate, name)
            for step, words in (
                (prepare, "raw files to filtered table and split"),
                (convert, "raw files to processed tables"),
                (prepare, "processed tables to filtered table and split"),
                (audited, "the same, audit and training windows"),
            ):
                result, cpu, wall, peak = run(step, name)
                rows.append(
                    {"data": name, "step": words, "rows": result, "cpu_s": cpu, "wall_s": wall, "peak_rss_mb": peak}
                )
                print(rows[-1], flush=True)
        (fed, trained), *_ = run(consume, name)
        for words, rate in (("batch iterator", fed), ("student, forward and backward", trained)):
            rows.append({"data": name, "step": words, "sequences_per_cpu_s": rate})
        rows[-2]["times_the_student"] = fed / trained
        print(rows[-2:], flush=True)
        shutil.rmtree(FOLDER / name, ignore_errors=True)
    columns = ["data", "step", "rows", "cpu_s", "wall_s", "peak_rss_mb", "sequences_per_cpu_s", "times_the_student"]
    table = pd.DataFrame(rows, columns=columns).round(1)
    table["rows"] = table["rows"].astype("Int64")
    save_csv(table, ROOT / "outputs" / "bench" / "data.csv")
    into_readme(table)
    print(rendered(table))


if __name__ == "__main__":
    main()

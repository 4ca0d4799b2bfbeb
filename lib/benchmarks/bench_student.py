"""How fast is the student, beside its peers? `make bench-student`; PEERS=1 measures RecTools and RePlay in the same run.

Every measurement is a process of its own that imports what training needs and no more: CPU seconds are those of all its
threads, the peak of its memory is the kernel's. Each peer lives in an environment of its own, build/peers.
"""

import os
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from measuring import apart, command, measured, peak_mb
from seqdistill.config import ModelConfig, TrainConfig
from seqdistill.data.splits import leave_last_k
from seqdistill.data.tables import frequent
from seqdistill.evaluation.ranking import block_size, metrics, model_score, rank, recommend
from seqdistill.io import ROOT, outputs_dir, save_csv
from seqdistill.training.loop import epoch, training_rows
from seqdistill.training.train import fresh, training_data

OUT, FOLDER = outputs_dir("bench"), ROOT / "build" / "bench" / "student"
SHAPE = ModelConfig(dim=64, blocks=2, heads=2, dropout=0.2, length=100)
RUNS = {
    "synth": TrainConfig(model=SHAPE, batch=128, lr=3e-3, epochs=6),
    "ml": TrainConfig(model=SHAPE, batch=32, epochs=6),
}
PEERS = [["rectools"], ["rectools", "esasrec"], ["replay"]]  # a library, and which of its models
QUALITY = {"synth": 0.20, "ml": 0.05}  # Recall@10 of the test event, seen items included, that counts as reached
COLUMNS = ["cpu_s_per_epoch", "cpu_s_to_quality", "infer_s", "peak_rss_mb", "recall@10", "ndcg@10"]


def walks(seed: int = 0, users: int = 6_000, items: int = 3_000, clusters: int = 60) -> pd.DataFrame:
    """Users who walk between few clusters of items, popular items first: order says more than popularity."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(np.arange(items) % clusters == c) for c in range(clusters)]
    weight = 1 / (1 + np.arange(items // clusters)) ** 0.9
    onward, rows = rng.integers(0, clusters, (clusters, 3)), []
    for user in range(users):
        wanted, here, seen = int(np.clip(rng.lognormal(2.65, 0.55), 5, 120)), rng.integers(clusters), {}
        for _ in range(10 * wanted):
            here = onward[here, rng.integers(3)] if rng.random() < 0.25 else here
            seen.setdefault(int(rng.choice(members[here], p=weight / weight.sum())), user)
            if len(seen) == wanted:
                break
        rows += [(user, item, place) for place, item in enumerate(seen)]
    return pd.DataFrame(rows, columns=["user", "item", "time"])


def prepare() -> None:
    """Write both data sets as user,item,time,split: 5-core, coded from 1, leave-one-out."""
    from seqdistill import data as datasets

    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, events in {"synth": walks(), "ml": datasets.load("movielens-small", 5).events}.items():
        events = events[frequent(events["user"].to_numpy(), events["item"].to_numpy(), 5)]
        events = events.sort_values(["user", "time"], kind="stable")[["user", "item"]].reset_index(drop=True)
        events = events.apply(lambda codes: codes.astype("category").cat.codes.astype(int) + 1)
        events["time"] = events.groupby("user").cumcount()
        events.assign(split=leave_last_k(events, 1)).to_csv(FOLDER / f"{name}.csv", index=False)


def ours(name: str) -> dict:
    """Train on one data set: CPU seconds per epoch, the quality after each, top-10 for all users, peak memory."""
    config, begun = RUNS[name], time.process_time()
    events = pd.read_csv(FOLDER / f"{name}.csv")
    data = training_data(events, int(events["item"].max()))
    model, _, optimizer, machine = fresh(config, data)
    rows, spent, curve = training_rows(data.train, config), time.process_time() - begun, []
    for number in range(config.epochs):
        begun = time.process_time()
        epoch(rows, model, None, optimizer, config, number, machine)
        spent += time.process_time() - begun
        quality = metrics(rank(data.test, model_score(model.eval()), block_size(data.items))["rank_all"])
        curve.append({"cpu_s": spent, "recall@10": quality["recall@10"]})
    begun = time.process_time()
    recommend(data.test.histories, model_score(model), seen=True)
    seconds = np.median(np.diff([point["cpu_s"] for point in curve]))
    row = {"cpu_s_per_epoch": float(seconds), "infer_s": time.process_time() - begun, "peak_rss_mb": peak_mb()}
    return row | {name: quality[name] for name in ("recall@10", "ndcg@10")} | {"curve": curve}


def figure(curves: pd.DataFrame) -> None:
    """Draw time to quality on synth."""
    import matplotlib.pyplot as plt
    from seqbook.reporting import report

    report.style()
    drawn, axes = plt.subplots(figsize=(6, 3.4))
    for system, curve in curves[curves["data"] == "synth"].groupby("system", sort=False):
        axes.plot(curve["cpu_s"], curve["recall@10"], marker="o", markersize=3, label=system)
    axes.axhline(QUALITY["synth"], color="black", linewidth=0.5)
    axes.set(xlabel="CPU seconds, set-up included", ylabel="Recall@10 on synth", xscale="log", title="Time to quality")
    axes.legend()
    report.save_figure(drawn, curves, OUT / "student-quality.png")


def main() -> None:
    prepare()
    rows, curves = [], []
    for name, config in RUNS.items():
        found = [{"system": f"seqdistill, torch {version('torch')}", **apart("ours", name)}]
        for library, *kind in PEERS if os.environ.get("PEERS") else []:
            python = str(ROOT / "build" / "peers" / library / "bin" / "python")
            script = str(Path(__file__).parent / "peers" / f"{library}_student.py")
            found.append(measured(python, script, str(FOLDER / f"{name}.csv"), str(config.batch), *kind))
        for row in found:
            curve = row.pop("curve")
            reached = [point["cpu_s"] for point in curve if point["recall@10"] >= QUALITY[name]]
            rows.append({"data": name, **row, "cpu_s_to_quality": next(iter(reached), None)})
            curves += [{"data": name, "system": row["system"].split(",")[0], **point} for point in curve]
    table = pd.DataFrame(rows)[["data", "system", *COLUMNS]].assign(date=str(date.today()))
    print(save_csv(table, OUT / "student.csv").to_string())
    figure(pd.DataFrame(curves))


if __name__ == "__main__":
    command({"ours": ours}, main)

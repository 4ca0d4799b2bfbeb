"""How fast is the student, beside its peers? `make bench-student`; PEERS=1 measures RecTools in the same run.

Every measurement is a process of its own that imports what training needs and no more: CPU seconds are those of all its
threads, the peak of its memory is the kernel's. Peers live in an environment of their own, build/peers, from lib/tests/peers/requirements.txt.
"""

import json
import os
import sys
import time
from datetime import date
from importlib.metadata import version

import numpy as np
import pandas as pd
import torch
from measuring import apart, measured, peak_mb
from seqdistill.config import ModelConfig, TrainConfig
from seqdistill.data.sequences import Ragged
from seqdistill.data.splits import leave_last_k
from seqdistill.evaluation.ranking import block_size, metrics, model_score, rank, recommend
from seqdistill.io import ROOT, outputs_dir, save_csv
from seqdistill.models.losses import full_softmax, sampled_softmax
from seqdistill.models.transformer import SequentialRecommender
from seqdistill.training.loop import epoch, training_rows
from seqdistill.training.train import fresh, training_data

OUT, FOLDER = outputs_dir("bench"), ROOT / "build" / "bench" / "student"
SHAPE = ModelConfig(dim=64, blocks=2, heads=2, dropout=0.2, length=100)
RUNS = {
    "synth": TrainConfig(model=SHAPE, batch=128, lr=3e-3, epochs=6),
    "ml": TrainConfig(model=SHAPE, batch=32, epochs=6),
}
QUALITY = {"synth": 0.20, "ml": 0.05}  # Recall@10 of the test event, seen items kept, that counts as reached


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
    small = datasets.load("movielens-small", 5).events
    for name, events in {"synth": walks(), "ml": small.assign(user=small["user"] + 1)}.items():
        size = 0
        while size != len(events):
            size = len(events)
            for column in ("item", "user"):
                events = events[events.groupby(column)["user"].transform("size") >= 5]
        events = events.sort_values(["user", "time"], kind="stable")[["user", "item"]].reset_index(drop=True)
        events = events.apply(lambda codes: codes.astype("category").cat.codes.astype(int) + 1)
        events["time"] = events.groupby("user").cumcount()
        events.assign(split=leave_last_k(events, 1)).to_csv(FOLDER / f"{name}.csv", index=False)


def ours(name: str) -> dict:
    """Train on one data set: CPU seconds per epoch, the quality after each, top-10 for all users, peak memory."""
    run, begun = RUNS[name], time.process_time()
    events = pd.read_csv(FOLDER / f"{name}.csv")
    given = training_data(events, int(events["item"].max()))
    model, _, optimizer, machine = fresh(run, given)
    rows, spent, curve = training_rows(given.train, run), time.process_time() - begun, []
    for number in range(run.epochs):
        begun = time.process_time()
        epoch(rows, model, None, optimizer, run, number, machine)
        spent += time.process_time() - begun
        model.eval()
        found = rank(given.test, model_score(model), block_size(given.items))
        curve.append({"cpu_s": spent, "recall@10": metrics(found["rank_all"])["recall@10"]})
    reached = [point["cpu_s"] for point in curve if point["recall@10"] >= QUALITY[name]]
    begun = time.process_time()
    recommend(given.test.histories, model_score(model), seen=True)
    quality = metrics(found["rank_all"])
    return {
        "cpu_s_per_epoch": float(np.median(np.diff([0.0] + [point["cpu_s"] for point in curve])[1:])),
        "cpu_s_to_quality": reached[0] if reached else None,
        "infer_s": time.process_time() - begun,
        "peak_rss_mb": peak_mb(),
        "recall@10": quality["recall@10"],
        "ndcg@10": quality["ndcg@10"],
        "curve": curve,
    }


def large(loss: str) -> dict:
    """Make a training step, and rank 256 cases, at the size of Amazon-M2: 334,060 items, d 64, batch 128, length 50."""
    torch.set_num_threads(1)
    items, shape = 334_060, ModelConfig(dim=64, blocks=2, heads=2, length=50)
    rng = np.random.default_rng(0)
    model = SequentialRecommender(items, shape)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    ids = torch.from_numpy(rng.integers(1, items + 1, (128, 51)))
    seconds = []
    for _ in range(2):
        begun = time.process_time()
        h, _ = model(ids[:, :-1])
        if loss == "full":
            value = full_softmax(h.flatten(0, 1), model.catalogue(), ids[:, 1:].flatten())
        else:
            drawn = 1 + torch.randperm(items)[:1024]
            value = sampled_softmax(h.flatten(0, 1), model.catalogue(), ids[:, 1:].flatten(), drawn)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        seconds.append(time.process_time() - begun)
    model.eval()
    histories = Ragged(
        ids.numpy().reshape(-1), np.arange(0, 128 * 51, 51), np.arange(51, 128 * 51 + 1, 51), np.arange(128)
    )
    begun = time.process_time()
    recommend(histories, model_score(model), size=block_size(items))
    return {"cpu_s_per_step": seconds[-1], "infer_s": time.process_time() - begun, "peak_rss_mb": peak_mb()}


def cost(items: int, length: int, loss: str) -> dict:
    """CPU seconds of one training step (batch 64, d 64) at so many items and so long a history."""
    torch.set_num_threads(1)
    model = SequentialRecommender(items, ModelConfig(dim=64, blocks=2, heads=2, length=length))
    ids, seconds = torch.randint(1, items + 1, (64, length + 1)), []
    for _ in range(3):
        begun = time.process_time()
        h, _ = model(ids[:, :-1])
        drawn = 1 + torch.randperm(items)[:256]
        full = loss == "full"
        (full_softmax if full else sampled_softmax)(
            h.flatten(0, 1), model.catalogue(), ids[:, 1:].flatten(), *(() if full else (drawn,))
        ).backward()
        seconds.append(time.process_time() - begun)
    return {"cpu_s_per_step": min(seconds)}


def figures(table: pd.DataFrame, curves: pd.DataFrame, costs: pd.DataFrame) -> None:
    import matplotlib.pyplot as plt
    from seqdistill.reporting import report

    report.style()
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.4))
    for system, curve in curves[curves["data"] == "synth"].groupby("system", sort=False):
        axes[0].plot(curve["cpu_s"], curve["recall@10"], marker="o", markersize=3, label=system)
    axes[0].axhline(QUALITY["synth"], color="black", linewidth=0.5)
    axes[0].set(
        xlabel="CPU seconds, set-up included", ylabel="Recall@10 on synth", xscale="log", title="time to quality"
    )
    for ax, column, fixed in ((axes[1], "items", ("length", 50)), (axes[2], "length", ("items", 10_000))):
        for loss, group in costs[costs[fixed[0]] == fixed[1]].groupby("loss"):
            ax.plot(group[column], group["cpu_s_per_step"], marker="o", markersize=3, label=f"{loss} softmax")
        ax.set(
            xlabel=column, ylabel="CPU seconds per step of 64", xscale="log", yscale="log", title=f"cost by {column}"
        )
    for ax in axes:
        ax.legend(fontsize=7)
    report.save_figure(figure, curves, OUT / "student-quality.png")


def main() -> None:
    prepare()
    rows, curves = [], []
    mine = f"seqdistill, torch {version('torch')}"
    for name in RUNS:
        found = apart("ours", name)
        curves += [{"data": name, "system": "seqdistill", **point} for point in found.pop("curve")]
        rows.append({"data": name, "system": mine, **found})
        if os.environ.get("PEERS"):
            peer = ROOT / "build" / "peers" / "bin" / "python"
            found = measured(
                str(peer),
                str(ROOT / "lib" / "tests" / "peers" / "rectools_student.py"),
                str(FOLDER / f"{name}.csv"),
                str(RUNS[name].batch),
            )
            curves += [{"data": name, "system": found["system"], **point} for point in found.pop("curve")]
            reached = [
                point["cpu_s"]
                for point in curves
                if point["system"] == found["system"] and point["data"] == name and point["recall@10"] >= QUALITY[name]
            ]
            rows.append({"data": name, **found, "cpu_s_to_quality": reached[0] if reached else None})
    for loss in ("full", "sampled"):
        rows.append({"data": "amazon-m2 size", "system": f"{mine}, {loss} softmax", **apart("large", loss)})
    table = pd.DataFrame(rows).assign(date=str(date.today()))
    pairs = {(items, 50) for items in (1_000, 10_000, 100_000)} | {(10_000, length) for length in (25, 50, 100, 200)}
    costs = pd.DataFrame(
        {"items": items, "length": length, "loss": loss, **apart("cost", items, length, loss)}
        for items, length in sorted(pairs)
        for loss in ("full", "sampled")
    )
    save_csv(table, OUT / "student.csv")
    save_csv(costs, OUT / "student-cost.csv")
    figures(table, pd.DataFrame(curves), costs)
    print(table.to_string())


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        action, *values = sys.argv[1:]
        values = [int(value) if value.isdigit() else value for value in values]
        print(json.dumps({"ours": ours, "large": large, "cost": cost}[action](*values)))

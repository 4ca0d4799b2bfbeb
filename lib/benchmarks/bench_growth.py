"""How cost grows: a training step, an epoch and a ranking, by items, length and users (synthetic data)."""

import numpy as np
import pandas as pd
import torch
from measuring import apart, peak_mb, timed
from seqdistill.config import ModelConfig, TrainConfig
from seqdistill.data.sequences import batches, windows
from seqdistill.evaluation.ranking import block_size, model_score, recommend
from seqdistill.training.loop import epoch, step, training_rows
from seqdistill.training.train import fresh, training_data

SHAPE = ModelConfig(dim=64, blocks=2, heads=2, length=50)
GROWTH = {
    "items": [(items, 50, loss) for loss in ("full", "sampled") for items in (10_000, 33_000, 100_000, 334_060)],
    "length": [(10_000, length, "sampled") for length in (12, 25, 50, 100, 200)],
    "amazon-m2": [(334_060, 5, loss) for loss in ("full", "sampled")],
}
USERS = (2_000, 6_000, 20_000, 60_000)


def grow(items: int, length: int, loss: str) -> dict:
    """One training step of 64 histories, optimizer included, and the ranking of 256."""
    torch.set_num_threads(1)
    shape = ModelConfig(dim=64, blocks=2, heads=2, length=max(length, 3))
    rng, run = np.random.default_rng(0), TrainConfig(model=shape, loss=loss, negatives=1024)
    width = length + 1
    events = pd.DataFrame({"user": np.repeat(np.arange(256), width), "item": rng.integers(1, items + 1, 256 * width)})
    events = events.assign(time=np.tile(np.arange(width), 256), split="train")
    data, base = training_data(events, items), peak_mb()
    net, _, optimizer, machine = fresh(run, data)
    fed = batches(windows(data.train, length), 64, rng)
    spent = [
        timed(lambda batch=batch: step(batch, net.train(), None, optimizer, run, machine))[0]
        for _, batch in zip(range(3), fed, strict=False)
    ]
    row = {"batch": 64, "dim": 64, "step_cpu_s": min(spent[1:]), "step_mb": peak_mb() - base}
    cpu, _ = timed(lambda: recommend(data.train, model_score(net.eval()), size=block_size(items)))
    return row | {"rank_256_cpu_s": cpu, "peak_rss_mb": peak_mb()}


def grow_users(users: int) -> dict:
    """One epoch on sessions of six events, 10,000 items, and a ranking of all of them."""
    torch.set_num_threads(1)
    rng, run = np.random.default_rng(0), TrainConfig(model=SHAPE, loss="sampled", batch=256, negatives=1024)
    events = pd.DataFrame({"user": np.repeat(np.arange(users), 6), "item": rng.integers(1, 10_001, 6 * users)})
    data, base = training_data(events.assign(time=np.tile(np.arange(6), users), split="train"), 10_000), peak_mb()
    net, _, optimizer, machine = fresh(run, data)
    rows = training_rows(data.train, run)
    spent, _ = timed(lambda: epoch(rows, net, None, optimizer, run, 0, machine))
    row = {"batch": 256, "epoch_cpu_s": spent, "step_mb": peak_mb() - base}
    cpu, _ = timed(lambda: recommend(data.train, model_score(net.eval()), size=256))
    return row | {"rank_all_cpu_s": cpu, "peak_rss_mb": peak_mb()}


def growth() -> pd.DataFrame:
    """Time and memory by size of the catalogue, length of the histories, and number of users."""
    rows = [
        {"of": of, "items": items, "length": length, "loss": loss, **apart("grow", items, length, loss)}
        for of, points in GROWTH.items()
        for items, length, loss in points
    ]
    fixed = {"of": "users", "items": 10_000, "length": 5, "loss": "sampled"}
    return pd.DataFrame([*rows, *({**fixed, "users": users, **apart("grow_users", users)} for users in USERS)])

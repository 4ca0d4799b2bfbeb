"""How fast on a GPU? `make bench-gpu`: steps over shapes, and epochs and rankings at the sizes of the paper's data sets.

Without a GPU the smallest of each is measured, on the CPU, so that the command is known to work. Every row is written as
it is measured; `card` says where. Synthetic sequences have the users, items and interactions of the paper's Table 1.
"""

import time
from collections.abc import Callable
from itertools import product

import numpy as np
import pandas as pd
import torch
from measuring import apart, command
from seqbook.reporting.report import paper
from seqdistill.config import Distillation, ModelConfig, TrainConfig
from seqdistill.data.sequences import Cases, ragged
from seqdistill.evaluation.ranking import block_size, model_score, recommend
from seqdistill.io import outputs_dir, save_csv
from seqdistill.training.loop import epoch, examples, step, training_rows
from seqdistill.training.train import TrainingData, fresh
from synthetic import lengths

GPU = torch.cuda.is_available()
PATH = outputs_dir("bench") / "gpu.csv"
LENGTH, WIDTH, WARM, TIMED = 50, 128, 5, 30  # positions, of the teacher's vectors, steps before and while timed
PEAK = {  # of a card's dense matrix products, in 10^12 operations a second: bf16, fp32 (without TF32)
    "H100": (989, 67), "H200": (989, 67), "A100": (312, 19.5), "L4": (121, 30), "T4": (65, 8.1),
}  # fmt: skip
STEPS = list(product([128, 512], [64, 128], [3_500, 12_101, 334_060], ["fp32", "bf16"], ["eager", "compiled"]))


def card() -> str:
    return torch.cuda.get_device_name() if GPU else "CPU"


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds until the device is done."""
    began = time.perf_counter()
    work()
    if GPU:
        torch.cuda.synchronize()
    return time.perf_counter() - began


def made(users: int, items: int, interactions: int) -> TrainingData:
    """Random histories of long-tailed lengths, with a teacher for every user."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(users), lengths(rng, users, interactions, 3))
    rows = ragged(pd.DataFrame({"user": user, "item": rng.integers(1, items + 1, interactions)}))
    none = Cases(rows, np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64))
    return TrainingData(items, rows, none, none, "synthetic", torch.randn(users, WIDTH))


def flops(config: TrainConfig, rows: int, items: int) -> float:
    """Operations of one step's matrix products: forward, and twice as many backward; attention is causal."""
    d, positions = config.model.dim, rows * LENGTH
    return 3 * 2 * positions * (config.model.blocks * (12 * d * d + LENGTH * d) + items * d)


def step_time(batch: int, dim: int, items: int, precision: str, compiled: str, teacher: str) -> dict:
    setting = Distillation(projection="student") if teacher == "distilled" else None
    shape = ModelConfig(dim=dim, length=LENGTH)
    config = TrainConfig(shape, setting, batch=batch, precision=precision, compile=compiled == "compiled")
    data = made(batch * 4, items, batch * 4 * (LENGTH + 1))
    rows = training_rows(data.train, config)
    model, taught, optimizer, machine = fresh(config, data)
    fed = [one for number in range(WARM + TIMED) for one in examples(rows, config, number, model.mask_id)]
    for one in fed[:WARM]:
        step(one, model.train(), taught, optimizer, config, machine)
    part = fed[WARM : WARM + TIMED]
    spent = seconds(lambda: [step(one, model, taught, optimizer, config, machine) for one in part]) / len(part)
    row = {"s_per_step": spent, "sequences_per_s": batch / spent}
    if GPU:
        row["peak_gpu_mb"] = torch.cuda.max_memory_allocated() / 2**20
        peaks = next((peak for name, peak in PEAK.items() if name in card()), None)
        if peaks:
            done = sum(np.count_nonzero(one[2]) for one in part) / len(part) / LENGTH  # rows' worth of positions
            row["flop_share"] = flops(config, done, items) / spent / (1e12 * peaks[precision == "fp32"])
    return row


def epoch_time(users: int, items: int, interactions: int, teacher: str) -> dict:
    """Seconds of the second epoch, and of every user's ten best items."""
    setting = Distillation(projection="student") if teacher == "distilled" else None
    loss = "full" if items < 100_000 else "sampled"
    shape = ModelConfig(dim=64, length=LENGTH)
    config = TrainConfig(shape, setting, batch=512, loss=loss, precision="bf16" if GPU else "fp32")
    data = made(users, items, interactions)
    rows = training_rows(data.train, config)
    model, taught, optimizer, machine = fresh(config, data)
    spent = [seconds(lambda n=n: epoch(rows, model, taught, optimizer, config, n, machine)) for n in range(2)][-1]
    ranking = seconds(lambda: recommend(data.train, model_score(model.eval()), size=block_size(items)))
    row = {"loss": loss, "s_per_epoch": spent, "sequences_per_s": len(rows) / spent, "infer_s": ranking}
    return row | ({"peak_gpu_mb": torch.cuda.max_memory_allocated() / 2**20} if GPU else {})


def main() -> None:
    rows = []
    for batch, dim, items, precision, compiled in STEPS if GPU else STEPS[:1]:
        for teacher in ("plain", "distilled"):
            found = apart("step", batch, dim, items, precision, compiled, teacher)
            about = {"system": teacher, "data": "step", "items": items, "batch": batch, "dim": dim}
            rows.append({"card": card(), **about, "precision": precision, "compiled": compiled, **found})
            save_csv(pd.DataFrame(rows), PATH if GPU else PATH.with_name("gpu-cpu.csv"))
    theirs = paper("efficiency").set_index(["dataset", "system"])
    for data in paper("data").to_dict("records") if GPU else paper("data").to_dict("records")[2:3]:
        sizes = [data[name] for name in ("users", "items", "interactions")]
        for teacher, system in (("plain", "SASRec"), ("distilled", "SASRec + distillation")):
            about = {"system": teacher, "data": data["dataset"], "items": data["items"], "batch": 512, "dim": 64}
            said = theirs.loc[(data["dataset"], system)].add_prefix("paper_").to_dict()
            rows.append({"card": card(), **about, **apart("epoch", *sizes, teacher), **said})
            save_csv(pd.DataFrame(rows), PATH if GPU else PATH.with_name("gpu-cpu.csv"))


if __name__ == "__main__":
    command({"step": step_time, "epoch": epoch_time}, main)

"""What the method costs: tables of `make bench`, compared with the paper's, and extrapolated to its data sizes."""

from math import ceil

import numpy as np
import pandas as pd
from scipy import stats

NAMES = {"plain": "{}", "distilled": "{} + distillation"}
COLUMNS = [
    "dataset", "system", "train_cpu_s_per_epoch", "train_wall_s_per_epoch", "infer_cpu_s", "infer_wall_s", "p50_ms",
    "p99_ms", "peak_rss_mb", "parameters", "infer_cases", "infer_cpu_s_batch1", "infer_wall_s_batch1",
    "peak_rss_mb_batch1", "ndcg@10",
]  # fmt: skip
AIM = 1.05  # what a teacher may cost: 5 % of training


def table(overhead: pd.DataFrame, serving: pd.DataFrame, others: dict[str, dict] | None = None) -> pd.DataFrame:
    """Medians over epochs and rounds of serving (*_batch1: single requests) by system; `others`: measured elsewhere."""
    names = {"cpu_s": "infer_cpu_s", "wall_s": "infer_wall_s", "cases": "infer_cases"}
    medians = serving.groupby(["batch", "system"], sort=False).median(numeric_only=True).rename(columns=names)
    rows, epochs = medians.loc[256], overhead.groupby("model").median(numeric_only=True)
    rows = rows.drop(columns=["p50_ms", "p99_ms"]).join(medians.loc[1, ["p50_ms", "p99_ms"]])
    rows = rows.join(medians.loc[1].add_suffix("_batch1")).astype({"parameters": int, "infer_cases": int})
    for kind in ("cpu", "wall"):
        by_system = [epochs[f"{variant}_{kind}_s"].rename(name.format) for variant, name in NAMES.items()]
        rows[f"train_{kind}_s_per_epoch"] = pd.concat(by_system)
    dataset = serving["dataset"].iloc[0]
    rows = rows.reset_index().assign(dataset=dataset)[COLUMNS]
    more = [{"dataset": dataset, "system": name, **row} for name, row in (others or {}).items()]
    return pd.concat([rows, pd.DataFrame(more)], ignore_index=True)


def overheads(pairs: pd.DataFrame) -> pd.DataFrame:
    """Ratio of CPU time with and without teacher, of an epoch of phase 1 and of a run; 95 % interval: of logarithms."""
    rows = []
    for model, group in pairs.groupby("model", sort=False):
        logs, share = np.log(group["distilled_cpu_s"] / group["plain_cpu_s"]), group["share"].iloc[0]
        interval = np.exp(stats.t.interval(0.95, len(logs) - 1, logs.mean(), stats.sem(logs)))
        row = {"model": model, "pairs": len(logs), "phase_1": np.exp(logs.mean())}
        row |= {"ci_low": interval[0], "ci_high": interval[1], "share": share, "run": 1 + share * (row["phase_1"] - 1)}
        for of, (low, high) in {"phase_1": interval, "run": 1 + share * (interval - 1)}.items():
            row[f"aim_{of}"] = "met" if high <= AIM else "missed" if low > AIM else "inconclusive"
        rows.append(row)
    return pd.DataFrame(rows)


def ratios(ours: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Cost of every system (`table`, inference per case) over that of SASRec (BERT4Rec + distillation: of BERT4Rec)."""
    ours, rows = ours.set_index("system"), []
    costs = {"training, an epoch": ("train_s_per_epoch", ours["train_cpu_s_per_epoch"])}
    costs["inference"] = ("infer_s", ours["infer_cpu_s"] / ours["infer_cases"])
    for what, (column, seconds) in costs.items():
        published = paper.pivot_table(index="dataset", columns="system", values=column)
        for system in ours.index.drop("SASRec"):
            against = "BERT4Rec" if system.startswith("BERT4Rec +") else "SASRec"
            theirs = published.get(system, np.nan) / published.get(against, pd.Series(np.nan))
            row = {"what": what, "system": system, "against": against, "ours": seconds[system] / seconds[against]}
            rows.append(row | {"paper_low": theirs.min(), "paper_high": theirs.max()})
    return pd.DataFrame(rows)


def exponents(growth: pd.DataFrame) -> pd.DataFrame:
    """Fit cost = a · size^b by least squares on logarithms: b with its 95 % interval, for all that was measured."""
    rows = []
    columns = {"step_cpu_s": "training step", "epoch_cpu_s": "epoch", "step_mb": "training memory"}
    columns |= {"rank_256_cpu_s": "ranking 256 users", "rank_all_cpu_s": "ranking all users"}
    for (of, loss), group in growth[growth["of"] != "amazon-m2"].groupby(["of", "loss"], sort=False):
        for column, cost in columns.items():
            known = group.dropna(subset=column)
            if len(known) > 2:
                fit = stats.linregress(np.log(known[of]), np.log(known[column]))
                margin = stats.t.ppf(0.975, len(known) - 2) * fit.stderr
                row = {"size": of, "loss": loss, "cost": cost, "points": len(known), "exponent": fit.slope}
                rows.append(row | {"ci_low": fit.slope - margin, "ci_high": fit.slope + margin})
    return pd.DataFrame(rows)


def reach(growth: pd.DataFrame, teacher: pd.DataFrame, users: int, bandwidth: float) -> pd.DataFrame:
    """Extrapolate costs of training, ranking and teacher to `users` users: hours of one thread, and what takes over.

    bandwidth: bytes per second between machines; gradients of all weights are sent twice in every step.
    """
    rows, largest = [], growth[growth["of"] == "amazon-m2"].to_dict("records")
    for step in largest:
        hours = ceil(users / step["batch"]) * step["step_cpu_s"] / 3600
        exchange = 2 * 4 * step["items"] * step["dim"] / bandwidth / step["step_cpu_s"]
        row = {"what": f"an epoch, {step['loss']} softmax", "hours": hours, "memory_mb": step["peak_rss_mb"]}
        rows.append(row | {"exchange_share": exchange, "takes_over": "accelerate, several GPUs"})
    step = largest[-1]  # ranking is the same whatever the loss
    row = {"hours": users / 256 * step["rank_256_cpu_s"] / 3600, "memory_mb": step["peak_rss_mb"]}
    rows.append({"what": "ranking of all users", **row, "takes_over": "Ray, a shard of users a node"})
    taken = ("vLLM, several servers", "a GPU, users sharded", "UMAP fitted to a sample, the others transformed")
    for step, seconds, over in zip(teacher["step"], teacher["seconds_per_user"], taken, strict=True):
        rows.append({"what": step, "hours": users * seconds / 3600, "takes_over": over})
    return pd.DataFrame(rows)

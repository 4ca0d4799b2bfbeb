"""What the method costs: tables of `make bench` read, set beside the paper's, and carried to its sizes."""

from dataclasses import replace
from math import ceil
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from seqdistill.config import Distillation, TrainConfig, parse
from seqdistill.io import UserError, display_path, load_json
from seqdistill.training.sweep import Job
from seqdistill.training.train import TrainingData

NAMES = {"plain": "{}", "distilled": "{} + distillation"}
AIM = 1.05  # what a teacher may cost: 5 % of training


def chosen(home: Path, given: TrainingData, seed: int) -> dict[tuple[str, str], Job]:
    """Runs of one seed that chapter 4 trained, by model ("SASRec") and variant ("plain", "distilled")."""
    jobs = {}
    for model, setting in load_json(home / "artifacts" / "student.json")["students"].items():
        run = replace(parse(TrainConfig, setting["run"], "student.json"), seed=seed)
        taught = replace(run, distillation=parse(Distillation, setting["teacher"], "student.json"))
        jobs |= {(model, "plain"): Job(run, given), (model, "distilled"): Job(taught, given)}
    return jobs


def bench(folder: Path, name: str) -> pd.DataFrame:
    """Read a table of `make bench` or `make bench-umap`.

    Raises:
        UserError: it was not measured.
    """
    path = folder / f"{name}.csv"
    if not path.exists():
        target = "bench-umap" if name == "umap" else "bench"
        raise UserError(f"{display_path(path)}: no such file; `make {target}` measures it.")
    return pd.read_csv(path)


def table(overhead: pd.DataFrame, serving: pd.DataFrame, others: dict[str, dict] | None = None) -> pd.DataFrame:
    """Put what was measured into one row per system, medians over epochs and rounds.

    Args:
        overhead: seconds of epochs, with and without teacher; an epoch with teacher is one of phase 1.
        serving: seconds of inference for the test set and peak memory, by batch, and a request's percentiles.
        others: system -> what its run measured, by the names of the columns; on the data of the students.

    Returns:
        infer_* and peak_rss_mb are those of batches of 256, *_batch1 those of single requests; ndcg@10 is that of the
        students that were measured, on all test cases.
    """
    rows = []
    for system, rounds in serving.groupby("system", sort=False):
        model, variant = system.split(" ")[0], "distilled" if "+" in system else "plain"
        spent = overhead[overhead["model"] == model].median(numeric_only=True)
        many, single = (rounds[rounds["batch"] == batch].median(numeric_only=True) for batch in (256, 1))
        row = {"dataset": rounds["dataset"].iloc[0], "system": system}
        row |= {f"train_{kind}_s_per_epoch": spent[f"{variant}_{kind}_s"] for kind in ("cpu", "wall")}
        row |= {"infer_cpu_s": many["cpu_s"], "infer_wall_s": many["wall_s"]}
        row |= {"p50_ms": single["p50_ms"], "p99_ms": single["p99_ms"], "peak_rss_mb": many["peak_rss_mb"]}
        row |= {"parameters": int(many["parameters"]), "infer_cases": int(many["cases"])}
        row |= {"infer_cpu_s_batch1": single["cpu_s"], "infer_wall_s_batch1": single["wall_s"]}
        rows.append(row | {"peak_rss_mb_batch1": single["peak_rss_mb"], "ndcg@10": many["ndcg@10"]})
    for system, measured in (others or {}).items():
        rows.append({"dataset": rows[0]["dataset"], "system": system, **measured})
    return pd.DataFrame(rows)


def overheads(pairs: pd.DataFrame) -> pd.DataFrame:
    """Ratio of CPU time with and without teacher per model: of an epoch of phase 1, with 95 % interval, and of a run.

    The interval is Student's on the logarithm of the ratio of neighbouring epochs. The aim is judged twice: of an epoch
    of phase 1, which is what the paper's seconds per epoch compare with, and of a run, in which other epochs dilute it;
    it is met or missed where the whole interval says so.
    """
    rows = []
    for model, group in pairs.groupby("model", sort=False):
        logs = np.log(group["distilled_cpu_s"] / group["plain_cpu_s"])
        low, high = stats.t.interval(0.95, len(logs) - 1, logs.mean(), stats.sem(logs))
        row = {"model": model, "pairs": len(logs), "phase_1": np.exp(logs.mean())}
        row |= {"ci_low": np.exp(low), "ci_high": np.exp(high), "share": group["share"].iloc[0]}
        rows.append(row | {"run": 1 + row["share"] * (row["phase_1"] - 1)})
    table = pd.DataFrame(rows)
    low, high = (table[side] for side in ("ci_low", "ci_high"))
    judged = {"phase_1": (low, high), "run": tuple(1 + table["share"] * (end - 1) for end in (low, high))}
    words = {
        of: np.select([most <= AIM, least > AIM], ["met", "missed"], "inconclusive")
        for of, (least, most) in judged.items()
    }
    return table.assign(**{f"aim_{of}": said for of, said in words.items()})


def ratios(ours: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Set the cost of every system over that of SASRec (BERT4Rec + distillation: of BERT4Rec) beside the paper's.

    Args:
        ours: see `table`; inference counts per case.
        paper: the paper's seconds, columns dataset, system, train_s_per_epoch, infer_s.

    Returns:
        what, system, against, ours, and paper_low to paper_high over the paper's data sets, NaN where it has none.
    """
    mine = ours.set_index("system")
    cost = {"training, an epoch": mine["train_cpu_s_per_epoch"], "inference": mine["infer_cpu_s"] / mine["infer_cases"]}
    theirs = dict(zip(cost, ("train_s_per_epoch", "infer_s"), strict=True))
    rows = []
    for what, seconds in cost.items():
        published = paper.pivot_table(index="dataset", columns="system", values=theirs[what])
        for system in mine.index.drop("SASRec"):
            against = "BERT4Rec" if system.startswith("BERT4Rec +") else "SASRec"
            row = {"what": what, "system": system, "against": against, "ours": seconds[system] / seconds[against]}
            if {system, against} <= set(published):
                found = published[system] / published[against]
                row |= {"paper_low": found.min(), "paper_high": found.max()}
            rows.append(row)
    return pd.DataFrame(rows, columns=["what", "system", "against", "ours", "paper_low", "paper_high"])


def teacher_cost(profiles: pd.Series, parallel: int, encoder: pd.Series, umap: pd.DataFrame) -> pd.DataFrame:
    """What the teacher costs once, per step: users, tokens, hours; the LLM's and the encoder's grow with the users.

    Args:
        profiles: the row of profiles.csv of the preset's LLM; its seconds add up answers written `parallel` at a time.
        encoder: texts and cpu_s of the measured sentence encoder.
        umap: users and fit_cpu_s, one row per size; the largest counts.
    """
    users, most = profiles["covered"], umap.loc[umap["users"].idxmax()]
    told = profiles["prompt_tokens"] + profiles["output_tokens"]
    steps = [
        (f"profiles, {profiles['llm']}", users, told, profiles["seconds"] / parallel),
        (f"encoder, {encoder['encoder']}", encoder["texts"], np.nan, encoder["cpu_s"]),
        ("UMAP", most["users"], np.nan, most["fit_cpu_s"]),
    ]
    table = pd.DataFrame(steps, columns=["step", "users", "tokens", "seconds"])
    table["users"] = table["users"].astype(int)
    return table.assign(seconds_per_user=table["seconds"] / table["users"])


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
    """Carry the measured constants to a data set of Amazon-M2's size: hours of one thread, and what takes over.

    Args:
        growth: with rows `of` = "amazon-m2", a step and a ranking at its catalogue and its length.
        teacher: see `teacher_cost`.
        users: of the data set, a training sequence each.
        bandwidth: bytes per second between machines; gradients of all weights cross it twice in every step.
    """
    rows, measured = [], growth[growth["of"] == "amazon-m2"].to_dict("records")
    for step in measured:
        steps, weights = ceil(users / step["batch"]), 4 * step["items"] * step["dim"]
        row = {"what": f"an epoch, {step['loss']} softmax", "hours": steps * step["step_cpu_s"] / 3600}
        row |= {"memory_mb": step["peak_rss_mb"], "exchange_share": 2 * weights / bandwidth / step["step_cpu_s"]}
        rows.append(row | {"takes_over": "accelerate, several GPUs"})
    last = measured[-1]
    rows.append({"what": "ranking of all users", "hours": users / 256 * last["rank_256_cpu_s"] / 3600})
    rows[-1] |= {"memory_mb": last["peak_rss_mb"], "takes_over": "Ray, a shard of users a node"}
    taken = ("vLLM, several servers", "a GPU, users sharded", "UMAP fitted to a sample, the others transformed")
    for (_, one), over in zip(teacher.iterrows(), taken, strict=True):
        rows.append({"what": one["step"], "hours": users * one["seconds_per_user"] / 3600, "takes_over": over})
    return pd.DataFrame(rows)


def overhead_sentences(table: pd.DataFrame) -> list[str]:
    """Read `overheads` aloud."""
    return [
        f"{row.model}: an epoch of phase 1 takes **{row.phase_1:.4f}** times the CPU seconds of one without teacher "
        f"(95 % interval {row.ci_low:.4f} to {row.ci_high:.4f}, {row.pairs} pairs): the aim of at most {AIM - 1:.0%} "
        f"more is **{row.aim_phase_1}**. Phase 1 is {row.share:.0%} of a run, which takes {row.run:.4f} times as much: "
        f"there it is {row.aim_run}."
        for row in table.itertuples()
    ]


def quality_sentence(table: pd.DataFrame) -> str:
    """Read quality and cost of every system aloud."""
    known = table.dropna(subset=["ndcg@10", "infer_cpu_s"]).to_dict("records")
    said = [
        f"{row['system']} {row['ndcg@10']:.4f} at {1000 * row['infer_cpu_s'] / row['infer_cases']:.4f} ms"
        for row in known
    ]
    return f"NDCG@10 and CPU time of a case: {'; '.join(said)}. Tests say which differ in quality, not this figure."


def ratio_sentences(table: pd.DataFrame) -> list[str]:
    """Read `ratios` aloud."""
    said = []
    for row in table.itertuples():
        theirs = "no such row" if np.isnan(row.paper_low) else f"{row.paper_low:.4f} to {row.paper_high:.4f}"
        said.append(
            f"{row.what}: {row.system} takes **{row.ours:.4f}** times {row.against}'s seconds; the paper: {theirs}."
        )
    return said


def latency_sentences(table: pd.DataFrame) -> list[str]:
    """Read the paired comparison of requests aloud."""
    return [
        f"{row.model}, {row.system}: a request takes **{row.ratio:.4f}** times the CPU time of plain "
        f"(95 % interval {row.ci_low:.4f} to {row.ci_high:.4f}, p = {row.p:.4f})."
        for row in table.dropna(subset="ratio").itertuples()
    ]


def index_sentences(table: pd.DataFrame, recall: float) -> list[str]:
    """Say for every catalogue whether an approximate index that keeps a recall pays, and what a whole request gains."""
    said = []
    for (embeddings, items), group in table.groupby(["embeddings", "items"], sort=False):
        exact = group[group["index"] == "exact"].iloc[0]
        good = group[(group["index"] != "exact") & (group["recall@10"] >= recall)]
        where = f"{items:,} items ({embeddings}): exact scores take {exact['search_cpu_ms']:.4f} ms of CPU after "
        where += f"{exact['encode_cpu_ms']:.4f} ms for the history"
        if good.empty:
            said.append(f"{where}; no index tried keeps {recall:.0%} of the ten.")
            continue
        best = good.loc[good["search_cpu_ms"].idxmin()]
        whole = (exact["encode_cpu_ms"] + exact["search_cpu_ms"]) / (best["encode_cpu_ms"] + best["search_cpu_ms"])
        said.append(
            f"{where}; {best['index']} takes {best['search_cpu_ms']:.4f} ms and finds {best['recall@10']:.4f} of them: "
            f"the whole request is {whole:.4f} times as fast."
        )
    return said


def exponent_sentences(table: pd.DataFrame) -> list[str]:
    """Read `exponents` aloud."""
    return [
        f"{row.cost} by {row.by} ({row.loss} softmax): exponent **{row.exponent:.4f}** "
        f"[{row.ci_low:.4f}, {row.ci_high:.4f}]"
        for row in table.rename(columns={"size": "by"}).itertuples()
    ]


def reach_sentences(table: pd.DataFrame) -> list[str]:
    """Read `reach` aloud: hours of one thread, and what takes over."""
    return [f"{row.what}: **{row.hours:,.4f}** hours; then {row.takes_over}." for row in table.itertuples()]

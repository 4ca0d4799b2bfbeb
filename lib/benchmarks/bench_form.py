"""How to teach where every training user has a teacher: `make bench-form`, Beauty 5-core.

The SASRec of `bench_little`, taught by its 1,500 users' profiles. First by the paper's loss, T, beta and alpha: T, on the
teacher's side, is trainable (the paper's) or fixed and orthonormal. The target's variance and the probe R² are recorded
by seed: a trainable T can shrink its target. Then by the form of `bench_little`, with one choice changed at a time. The
way with the highest gain is tested again, with seeds that played no part in choosing it, beside the facts as a teacher.
Last, the paper's form on all users, with the teacher and the student of the main table: the mean text of a user's items.
"""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pandas as pd
from bench_little import (
    LLM_AND_FACTS,
    RUNS,
    SEEDS,
    STUDIES,
    TAUGHT,
    Study,
    compared,
    over_rivals,
    planned,
    study,
    teaching,
)
from bench_search import BEAUTY
from little_sources import beauty
from seqdistill.config import Distillation
from seqdistill.data import Dataset
from seqdistill.embeddings.teachers import item_texts
from seqdistill.evaluation.significance import compare
from seqdistill.io import outputs_dir, save_csv
from seqdistill.training.sweep import Job, Jobs, plan, ranks, results, sweep
from seqdistill.training.train import training_data

OUT = outputs_dir("bench")
PAPER = Distillation(alpha=0.4, phase1_fraction=0.6, probe=True)  # phase 1 as in `bench_little`
FORMS = {"distilled": PAPER, "distilled-frozen": replace(PAPER, projection="teacher_frozen")}
WAYS = {  # `not whitened` has the vectors without PCA
    "InfoNCE": TAUGHT,
    "multi-positive": replace(TAUGHT, loss="multi_infonce"),
    "to the end": replace(TAUGHT, phase1_fraction=1.0),
    "annealed": replace(TAUGHT, phase1_fraction=1.0, anneal=True),
    "not whitened": TAUGHT,
}
AGAIN = [*range(5, 15)]  # seeds of the second test of `not whitened`


def by_form(of: Study, forms: dict[str, Distillation]) -> Jobs:
    """The plain student, and the one taught in each form by profiles and by other users' profiles."""
    variants = {"plain": Job(of.run, of.data)}
    for name, form in forms.items():
        whole = name == "not whitened"
        data = of.teach(of.vectors["profile"], "profile", "none") if whole else of.taught["profile"]
        for variant, shuffled in ((name, False), (f"{name}-shuffled", True)):
            run = replace(of.run, distillation=replace(form, shuffled=shuffled))
            variants[variant] = Job(run, data)
    return plan(variants, SEEDS, of.data)


def variances(jobs: Jobs) -> pd.DataFrame:
    """What happened to the target of each run, by variant and seed.

    variance_start, variance_end: means over the first and the last epoch of phase 1. probe_r2: after that last epoch.
    """
    rows = []
    for (name, seed), run in results(jobs, RUNS).items():
        if taught := [log for log in run["history"] if "loss_distil" in log]:
            ends = {"variance_start": taught[0]["target_variance"], "variance_end": taught[-1]["target_variance"]}
            rows.append({"variant": name, "seed": seed, **ends, "probe_r2": taught[-1]["probe_r2"]})
    return pd.DataFrame(rows)


def best_epochs(jobs: Jobs) -> pd.Series:
    """Mean over seeds of the epoch whose weights were kept, by variant."""
    return pd.Series({name: run["best_epoch"] for name, run in results(jobs, RUNS).items()}).groupby(level=0).mean()


def again(of: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Teach without whitening once more, by profiles and by facts; and the test of the profiles against the facts."""
    whole = {name: of.teach(of.vectors[name], name, "none") for name in LLM_AND_FACTS}
    table, ranked = compared(planned(of.run, of.data, whole, AGAIN), LLM_AND_FACTS, of.first)
    return table, over_rivals(ranked).assign(**of.first)


def everybody(dataset: Dataset, events: pd.DataFrame, catalogue: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Teach all users by their items' mean text vector in the paper's form: tests against plain, and the targets."""
    data, read = training_data(events, len(dataset.items)), events[events["split"] == "train"]
    mean = pd.DataFrame(catalogue[read["item"] - 1]).groupby(read["user"].to_numpy()).mean()
    made_from = ["item-text", item_texts(dataset.items)]
    taught = teaching(data, mean.to_numpy(np.float32), mean.index.to_numpy(), made_from, "none")
    variants = {"plain": Job(BEAUTY, data), "distilled": Job(replace(BEAUTY, distillation=PAPER), taught)}
    jobs = plan(variants, SEEDS, data)
    sweep(jobs, RUNS)
    ranked = ranks(jobs, RUNS)
    tables = [compare(ranked, {"distilled": "plain"}, seen, True) for seen in ("excluded", "included")]
    first = {"dataset": dataset.name, "model": "SASRec", "trained_on": len(mean)}
    return pd.concat(tables).assign(**first), variances(jobs).assign(**first)


def main() -> None:
    dataset, events, catalogue = beauty()
    of = study(*STUDIES[0], dataset, events, catalogue, defaultdict(list))
    jobs, others = by_form(of, FORMS), by_form(of, WAYS)
    form, _ = compared(jobs, [*FORMS], of.first)
    ways, _ = compared(others, [*WAYS], of.first)
    ways["best_epoch"] = ways["variant"].map(best_epochs(others))
    tables = {"form": form, "form-variance": variances(jobs).assign(**of.first), "form-ways": ways}
    tables["form-again"], tables["form-again-rivals"] = again(of)
    tables["form-all"], tables["form-all-variance"] = everybody(dataset, events, catalogue)
    for name, table in tables.items():
        print(save_csv(table, OUT / f"{name}.csv").to_string())


if __name__ == "__main__":
    main()

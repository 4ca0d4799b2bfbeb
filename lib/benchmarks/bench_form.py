"""The paper's own form where every training user has a profile: `make bench-form`, Beauty 5-core, half an hour.

The students and users of `bench_little`, taught by the profiles: T on the teacher's side is trainable (the paper's form)
or fixed and orthonormal. Target variances are recorded by seed, since a trainable T can shrink its target.
"""

from collections import defaultdict
from dataclasses import replace

import pandas as pd
from bench_little import RUNS, SEEDS, STUDIES, Study, compared, study
from little_sources import beauty
from seqdistill.config import Distillation
from seqdistill.io import outputs_dir, save_csv
from seqdistill.training.sweep import Job, plan, results

OUT = outputs_dir("bench")
LITERAL = Distillation(alpha=0.4, phase1_fraction=0.6)  # the paper's alpha; phase 1 as in `bench_little`
FORMS = {"distilled": LITERAL, "distilled-frozen": replace(LITERAL, projection="teacher_frozen")}


def forms(of: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train each form and its control; return the comparison in both readings, and the target variances by seed."""
    variants = {"plain": Job(of.run, of.data)}
    for name, form in FORMS.items():
        for variant, shuffled in ((name, False), (f"{name}-shuffled", True)):
            run = replace(of.run, distillation=replace(form, shuffled=shuffled))
            variants[variant] = Job(run, of.taught["profile"])
    jobs = plan(variants, SEEDS, of.data)
    table, _ = compared(jobs, [*FORMS], of.first)
    rows = []
    for (name, seed), run in results(jobs, RUNS).items():
        variance = [log["target_variance"] for log in run["history"] if "loss_distil" in log]
        if variance:
            best = {column: run[column] for column in ("best_epoch", "valid_ndcg@10")}
            rows.append({"variant": name, "seed": seed, "start": variance[0], "end": variance[-1], **best})
    return table, pd.DataFrame(rows).assign(**of.first)


def main() -> None:
    dataset, events, catalogue = beauty()
    of = study(*STUDIES[0], dataset, events, catalogue, defaultdict(list))
    for name, table in zip(("form", "form-variance"), forms(of), strict=True):
        print(save_csv(table, OUT / f"{name}.csv").to_string())


if __name__ == "__main__":
    main()

"""The paper's loss, T, beta and alpha where every training user has a profile: `make bench-form`, Beauty 5-core.

The SASRec of `bench_little`, taught by its 1,500 users' profiles: T, on the teacher's side, is trainable (the paper's) or
fixed and orthonormal. The target's variance and the probe R² are recorded by seed: a trainable T can shrink its target.
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
PAPER = Distillation(alpha=0.4, phase1_fraction=0.6, probe=True)  # phase 1 as in `bench_little`
FORMS = {"distilled": PAPER, "distilled-frozen": replace(PAPER, projection="teacher_frozen")}


def forms(of: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train each form and its control; return the comparison in both readings, and what happened to the target by seed.

    variance_start, variance_end: means over the first and the last epoch of phase 1. probe_r2: after that last epoch.
    """
    variants = {"plain": Job(of.run, of.data)}
    for name, form in FORMS.items():
        for variant, shuffled in ((name, False), (f"{name}-shuffled", True)):
            run = replace(of.run, distillation=replace(form, shuffled=shuffled))
            variants[variant] = Job(run, of.taught["profile"])
    jobs = plan(variants, SEEDS, of.data)
    table, _ = compared(jobs, [*FORMS], of.first)
    rows = []
    for (name, seed), run in results(jobs, RUNS).items():
        if taught := [log for log in run["history"] if "loss_distil" in log]:
            ends = {"variance_start": taught[0]["target_variance"], "variance_end": taught[-1]["target_variance"]}
            rows.append({"variant": name, "seed": seed, **ends, "probe_r2": taught[-1]["probe_r2"]})
    return table, pd.DataFrame(rows).assign(**of.first)


def main() -> None:
    dataset, events, catalogue = beauty()
    of = study(*STUDIES[0], dataset, events, catalogue, defaultdict(list))
    for name, table in zip(("form", "form-variance"), forms(of), strict=True):
        print(save_csv(table, OUT / f"{name}.csv").to_string())


if __name__ == "__main__":
    main()

"""What the method costs: tables of `make bench-serving` read, set beside the paper's, and carried to its sizes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from seqdistill.artifacts import load_json
from seqdistill.config import Distillation, Run, parse
from seqdistill.sweep import Job
from seqdistill.train import Problem

NAMES = {"plain": "{}", "distilled": "{} + distillation"}


def chosen(home: Path, given: Problem, seed: int) -> dict[tuple[str, str], Job]:
    """Runs of chapter 4 of one seed, by model ("SASRec") and variant ("plain", "distilled")."""
    jobs = {}
    for model, setting in load_json(home / "artifacts" / "student.json")["students"].items():
        run = replace(parse(Run, setting["run"], "student.json"), seed=seed)
        taught = replace(run, distillation=parse(Distillation, setting["teacher"], "student.json"))
        jobs |= {(model, "plain"): Job(run, given), (model, "distilled"): Job(taught, given)}
    return jobs

"""Many runs: variants x seeds, finished ones skipped, the rest spread over processes."""

import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
from joblib import Parallel, delayed

from seqdistill.artifacts import load_json, load_table
from seqdistill.config import Run
from seqdistill.train import Problem, run_key, train


def plan(variants: dict[str, Run], seeds: list[int]) -> dict[tuple[str, int], Run]:
    """Cross variants with seeds: (variant, seed) -> run."""
    return {(name, seed): replace(run, seed=seed) for name, run in variants.items() for seed in seeds}


def missing(runs: dict[tuple[str, int], Run], given: Problem, folder: Path) -> list[Run]:
    """Runs of a plan that have not finished yet."""
    return [run for run in runs.values() if not (folder / run_key(run, given) / "metrics.json").exists()]


def sweep(runs: dict[tuple[str, int], Run], given: Problem, folder: Path, workers: int | None = None) -> None:
    """Finish every run of a plan, one thread a run, `workers` at a time (default: one a core).

    Raises:
        BookError: a run failed for a reason that its sentence names.
    """
    todo = missing(runs, given, folder)
    Parallel(n_jobs=workers or os.cpu_count())(delayed(train)(run, given, folder) for run in todo)


def results(runs: dict[tuple[str, int], Run], given: Problem, folder: Path) -> dict[tuple[str, int], dict]:
    """Read the metrics of every run of a plan."""
    return {name: load_json(folder / run_key(run, given) / "metrics.json") for name, run in runs.items()}


def ranks(runs: dict[tuple[str, int], Run], given: Problem, folder: Path) -> dict[str, list[pd.DataFrame]]:
    """Read the per-case ranks of every run of a plan: variant -> one frame per seed."""
    found: dict[str, list[pd.DataFrame]] = {}
    for (variant, _), run in runs.items():
        found.setdefault(variant, []).append(load_table(folder / run_key(run, given) / "ranks.parquet"))
    return found

"""The comparison of IDGenRec with the students of chapter 4: its cases, its variants, and the cost of a run."""

import time
from dataclasses import replace
from pathlib import Path
from statistics import mean, median

import numpy as np
from joblib import Parallel, delayed
from seqdistill.config import TrainConfig, parse
from seqdistill.data.sequences import Cases
from seqdistill.io import UserError, display_path
from seqdistill.training.loop import epoch, training_rows
from seqdistill.training.sweep import Job, connected, plan, ranks, run_folder
from seqdistill.training.train import TrainingData, fresh, taught_by

from seqbook.ablation import setups
from seqbook.idgenrec.model import IDGenRec

USER_IDS = {"IDGenRec": "prefix", "IDGenRec without user ids": "none", "IDGenRec leaking": "leaking"}  # by variant


def last_cases(cases: Cases, most: int, seed: int) -> np.ndarray:
    """Choose each user's last case, as ascending indices; with `most`, for that many users drawn at random."""
    last = np.flatnonzero(np.append(cases.histories.users[1:] != cases.histories.users[:-1], True))
    return np.sort(np.random.default_rng(seed).permutation(last)[:most]) if most else last


def variants(
    values: dict, seeds: list[int], where: str, without_user_ids: bool = False
) -> dict[tuple[str, int], IDGenRec]:
    """Cross the ways of writing a user id with seeds: (variant, seed) -> settings."""
    base = parse(IDGenRec, values, where)
    ways = {name: how for name, how in USER_IDS.items() if how != "none" or without_user_ids}
    return {(name, seed): replace(base, user_ids=how, seed=seed) for name, how in ways.items() for seed in seeds}


def students(home: Path, data: TrainingData, seeds: list[int], teachers: list[str], events: str) -> dict[str, list]:
    """Read the ranks of the students of 04, by system, one frame per seed; `teachers`: of 03, beside the profiles."""
    systems, runs = {}, home / "runs"
    paths = {name: home / "artifacts" / f"teacher-{name}.safetensors" for name in teachers}
    for setup in setups(home, data, "", seeds, "loky", {}):
        taught = setup.runs["distilled-student"]
        others = {name: Job(taught, taught_by(data, path, events)) for name, path in paths.items()}
        jobs = plan(setup.runs | others, seeds, data)
        trained = {name: job for name, job in jobs.items() if (run_folder(job, runs) / "metrics.json").exists()}
        if any(("plain", seed) not in trained for seed in seeds):
            raise UserError(f"{display_path(runs)}: a plain student is missing; run 04-distillation first.")
        systems |= {f"{setup.label['model']} {name}": frames for name, frames in ranks(trained, runs).items()}
    return systems


def epoch_seconds(config: TrainConfig, data: TrainingData, epochs: int = 3) -> list[float]:
    """CPU seconds of each of the first epochs of a student."""
    (model, teacher, optimizer, machine), seconds = fresh(config, data), []
    rows = training_rows(data.train, config)
    for number in range(epochs):
        began = time.process_time()
        epoch(rows, model, teacher, optimizer, config, number, machine)
        seconds.append(time.process_time() - began)
    return seconds


def student_seconds(home: Path, data: TrainingData, runs: int) -> float:
    """CPU seconds of an epoch of 04's plain SASRec on this machine: the median of `runs` students, one per core."""
    alone = setups(home, data, "SASRec", [], "loky", {})[0].alone
    with connected("loky"):
        parts = Parallel(n_jobs=-1)(delayed(epoch_seconds)(alone, data) for _ in range(runs))
    return median(seconds for part in parts for seconds in part)


def cost(run: dict, machine: float = 1.0) -> dict[str, float]:
    """CPU and wall seconds of a recommender's epoch (without the generator's), scaled to all prefixes; parameters.

    machine: CPU seconds of another machine for one of the run's; wall seconds are scaled alike.
    """
    scale = machine * run["prefixes"] / run["prefixes_per_epoch"]
    passes = [log for log in run["history"] if log["trained"] == "recommender"]
    seconds = {f"train_{kind}_per_epoch": scale * mean(log[kind] for log in passes) for kind in ("cpu_s", "wall_s")}
    return seconds | {"parameters": run["parameters"]}

"""The comparison of IDGenRec with the students of chapter 4: its cases, its variants, and the cost of a run."""

from dataclasses import replace
from pathlib import Path
from statistics import mean, median

import numpy as np
from seqdistill.config import parse
from seqdistill.data.sequences import Cases
from seqdistill.io import UserError, display_path, load_json
from seqdistill.training.sweep import Job, plan, ranks, results, run_folder
from seqdistill.training.train import TrainingData, taught_by

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


def student_seconds(home: Path, data: TrainingData, seeds: list[int]) -> float:
    """CPU seconds per epoch of the plain SASRec of 04, validation included: the median over seeds."""
    jobs = plan({"plain": setups(home, data, "SASRec", seeds, "loky", {})[0].alone}, seeds, data)
    folders = [run_folder(job, home / "runs") for job in jobs.values()]
    epochs = [len(run["history"]) for run in results(jobs, home / "runs").values()]
    spent = [load_json(folder / "cost.json")["cpu_seconds"] for folder in folders]
    return median(seconds / count for seconds, count in zip(spent, epochs, strict=True))


def cost(run: dict, machine: float = 1.0) -> dict[str, float]:
    """CPU and wall seconds of a recommender's epoch (without the generator's), scaled to all prefixes; parameters.

    machine: seconds of another machine for one second of the run's.
    """
    scale = machine * run["prefixes"] / run["prefixes_per_epoch"]
    passes = [log for log in run["history"] if log["trained"] == "recommender"]
    seconds = {f"train_{kind}_per_epoch": scale * mean(log[kind] for log in passes) for kind in ("cpu_s", "wall_s")}
    return seconds | {"parameters": run["parameters"]}

"""What stands beside the students of chapter 4: which cases, which variants of IDGenRec, and what a run has cost."""

from dataclasses import replace
from pathlib import Path
from statistics import mean

import numpy as np

from seqdistill.config import parse
from seqdistill.data.sequences import Cases
from seqdistill.idgenrec.model import IDGenRec
from seqdistill.io import UserError, display_path, load_table
from seqdistill.training.ablations import setups
from seqdistill.training.sweep import Job, plan, run_folder
from seqdistill.training.train import TrainingData, load_teacher

USER_IDS = {"IDGenRec": "prefix", "IDGenRec without user ids": "none", "IDGenRec leaking": "leaking"}  # by variant


def last_cases(cases: Cases, most: int, seed: int) -> np.ndarray:
    """Choose each user's last case; with `most`, of so many users drawn at random: places, ascending."""
    last = np.flatnonzero(np.append(cases.histories.users[1:] != cases.histories.users[:-1], True))
    return np.sort(np.random.default_rng(seed).permutation(last)[:most]) if most else last


def variants(values: dict, seeds: list[int], where: str) -> dict[tuple[str, int], IDGenRec]:
    """Cross the three ways of writing a user id with seeds: (variant, seed) -> settings.

    Raises:
        UserError: a setting does not exist or does not fit.
    """
    base = parse(IDGenRec, values, where)
    return {(name, seed): replace(base, user_ids=how, seed=seed) for name, how in USER_IDS.items() for seed in seeds}


def students(home: Path, data: TrainingData, seeds: list[int], teachers: list[str], events: str) -> dict[str, list]:
    """Read the ranks of the students that 04 trained with and without a teacher, and with further teachers of 03.

    Args:
        home: a preset's folder.
        data: what 04 trained on; events: key of its events.
        seeds, teachers: seeds of the runs, names of the further teachers.

    Returns:
        System -> ranks by case, one frame per seed.

    Raises:
        UserError: 04 has not trained the plain students with these seeds.
    """
    systems: dict[str, list] = {}
    for setup in setups(home, data, "", seeds, "loky", {}):
        taught = replace(setup.alone, distillation=setup.taught)
        runs = {"plain": setup.alone, "distilled": replace(setup.alone, distillation=setup.literal)}
        runs["distilled-student"] = taught
        for name in teachers:
            teacher = load_teacher(home / "artifacts" / f"teacher-{name}.safetensors", events)
            runs[name] = Job(taught, replace(data, teacher=teacher))
        for (name, _), job in plan(runs, seeds, data).items():
            folder = run_folder(job, home / "runs")
            if (folder / "metrics.json").exists():
                systems.setdefault(f"{setup.label['model']} {name}", []).append(load_table(folder / "ranks.parquet"))
            elif name == "plain":
                raise UserError(f"{display_path(folder)}: not trained; run 04-distillation first.")
    return systems


def cost(run: dict) -> dict[str, float]:
    """What an epoch of a run took, from its log, and its parameters, as `efficiency.table` reads them.

    An epoch is one of the recommender over all training prefixes: what a pass over the drawn ones took, times all over
    drawn. Naming the items and training the generator come on top.
    """
    scale = run["prefixes"] / run["prefixes_per_epoch"]
    passes = [log for log in run["history"] if log["trained"] == "recommender"]
    seconds = {f"train_{kind}_per_epoch": scale * mean(log[kind] for log in passes) for kind in ("cpu_s", "wall_s")}
    return seconds | {"parameters": run["parameters"]}

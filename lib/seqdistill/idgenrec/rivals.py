"""What stands beside the students of chapter 4: which cases, which variants of IDGenRec, and what a run has cost."""

from dataclasses import replace
from pathlib import Path
from statistics import mean

import numpy as np

from seqdistill.config import parse
from seqdistill.data.sequences import Cases
from seqdistill.idgenrec.model import IDGenRec
from seqdistill.io import UserError, display_path, load_json, load_table
from seqdistill.training.ablation import setups
from seqdistill.training.sweep import Job, plan, run_folder
from seqdistill.training.train import TrainingData, load_teacher


def last_cases(cases: Cases, most: int, seed: int) -> np.ndarray:
    """Choose each user's last case; with `most`, of so many users drawn at random.

    Returns:
        Places among the cases, ascending.
    """
    last = np.flatnonzero(np.append(cases.histories.users[1:] != cases.histories.users[:-1], True))
    return np.sort(np.random.default_rng(seed).permutation(last)[:most]) if most else last


def variants(values: dict, seeds: list[int], where: str) -> dict[tuple[str, int], IDGenRec]:
    """Cross the three ways of writing a user id with seeds: (variant, seed) -> settings.

    Raises:
        UserError: a setting does not exist or does not fit.
    """
    base = parse(IDGenRec, values, where)
    names = {"IDGenRec": "prefix", "IDGenRec without user ids": "none", "IDGenRec leaking": "leaking"}
    return {(name, seed): replace(base, user_ids=it, seed=seed) for name, it in names.items() for seed in seeds}


def students(home: Path, given: TrainingData, seeds: list[int], arms: list[str], events: str) -> dict[str, list]:
    """Read the ranks of the students that 04 has trained: plain, distilled in either form, and by other teachers.

    Args:
        home: a preset's folder.
        given: its problem.
        seeds: of the runs.
        arms: further teachers of 03.
        events: key of the events.

    Returns:
        System -> per-case ranks, one frame per seed.

    Raises:
        UserError: 04 has not trained the plain students with these seeds.
    """
    found: dict[str, list] = {}
    for setup in setups(home, given, "", seeds, "loky", {}):
        runs = {"plain": setup.alone, "distilled": replace(setup.alone, distillation=setup.literal)}
        taught = replace(setup.alone, distillation=setup.taught)
        runs["distilled-student"] = taught
        for arm in arms:
            teacher = load_teacher(home / "artifacts" / f"teacher-{arm}.safetensors", events)
            runs[arm] = Job(taught, replace(given, teacher=teacher))
        for (name, _), job in plan(runs, seeds, given).items():
            folder = run_folder(job, home / "runs")
            if (folder / "metrics.json").exists():
                found.setdefault(f"{setup.label['model']} {name}", []).append(load_table(folder / "ranks.parquet"))
            elif name == "plain":
                raise UserError(f"{display_path(folder)}: not trained; run 04-distillation first.")
    return found


def weights(values: dict) -> str:
    """Say what the models of some settings start from."""
    config = parse(IDGenRec, values, "idgenrec")
    return f"{config.recommender}, {config.generator}" if config.recommender else "trained from scratch"


def cost(home: Path) -> dict[str, float]:
    """What an epoch of a finished run took, from its folder, and its parameters, as `efficiency.table` reads them.

    An epoch is one of the recommender over all training prefixes: what a pass over the drawn ones took, times all over
    drawn. Naming the items and training the generator come on top.
    """
    run = load_json(home / "metrics.json")
    scale = run["prefixes"] / run["prefixes_per_epoch"]
    passes = [log for log in run["history"] if log["trained"] == "recommender"]
    epoch = {f"train_{of}_per_epoch": scale * mean(log[of] for log in passes) for of in ("cpu_s", "wall_s")}
    return epoch | {"parameters": run["parameters"]}


def spending(run: dict) -> str:
    """Read aloud what a run took."""
    return (
        f"{run['train_cpu_s_per_epoch']:.0f} CPU seconds a pass over {run['prefixes_per_epoch']:,} of "
        f"{run['prefixes']:,} prefixes, with its share of naming the items; {run['infer_cpu_s']:.0f} to decode "
        f"{run['infer_cases']:,} cases, {run['request_s']:.2f} s for one request alone"
    )

"""One ablation: its cells beside the plain student and the shuffled teacher; and which users and items gain."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from seqdistill.artifacts import load_json, save_csv
from seqdistill.config import Distillation, Run, parse, plain
from seqdistill.reducers import teacher_rows
from seqdistill.significance import by_user, compare, holm, paired, verdict
from seqdistill.sweep import Job, plan, ranks, sweep
from seqdistill.train import Problem, taught_by

CONTROL = "shuffled"


@dataclass(frozen=True)
class Setup:
    """What all ablations of a student share; `taught` is its distillation, `label` the first columns of its tables."""

    home: Path
    given: Problem
    alone: Run
    taught: Distillation
    seeds: list[int]
    cluster: str
    label: dict[str, str]


def setup(home: Path, given: Problem, model: str, seeds: list[int], cluster: str, label: dict[str, str]) -> Setup:
    """Take a student and its distillation as 04 left them.

    Raises:
        BookError: 04 has not run.
    """
    chosen = load_json(home / "artifacts" / "student.json")
    values = chosen["students"][model]
    taught = parse(Distillation, {**values["teacher"], **chosen["own"]}, "student.json")
    return Setup(
        home, given, parse(Run, values["run"], "student.json"), taught, seeds, cluster, {**label, "model": model}
    )


def varied(jobs: dict[str, Job]) -> pd.DataFrame:
    """Settings in which jobs differ, one column each, by variant."""
    rows = {}
    for name, job in jobs.items():
        values = plain(job.run)
        taught, shape = values.pop("distillation") or {}, values.pop("student")
        rows[name] = {**values, **shape, **taught}
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.loc[:, [len(set(table[name])) > 1 for name in table]]


def ablate(given: Setup, name: str, cells: dict[str, Distillation | Run | Job]) -> pd.DataFrame:
    """Train the cells, and compare them with the plain student and with the shuffled teacher.

    Args:
        given: see `Setup`.
        name: of the table that is written, tables/ablation-<name>.csv.
        cells: variant -> what is trained; a distillation stands for the plain run with it.

    Returns:
        `compare` on all targets with seen items kept, with the settings that vary as columns.
    """
    jobs = {"plain": given.alone, CONTROL: replace(given.taught, shuffled=True)} | cells
    jobs = {
        key: replace(given.alone, distillation=it) if isinstance(it, Distillation) else it for key, it in jobs.items()
    }
    todo = plan(jobs, given.seeds, given.given)
    sweep(todo, given.home / "runs", given.cluster)
    table = compare(ranks(todo, given.home / "runs"), "plain", "kept", False, (CONTROL,))
    settings = varied({variant: todo[variant, given.seeds[0]] for variant in cells})
    table = table.merge(settings, "left", left_on="variant", right_index=True)
    for place, (column, value) in enumerate(given.label.items()):
        table.insert(place, column, value)
    return save_csv(table, given.home / "tables" / f"ablation-{name}.csv")


def taught_with(given: Problem, space: np.ndarray, owners: np.ndarray) -> Problem:
    """Give a problem the teacher that reduced vectors [n, r] of some users make."""
    return taught_by(given, teacher_rows(space, owners, len(given.teacher)))


def noise_like(teacher: Tensor, seed: int) -> Tensor:
    """Draw a teacher that knows nothing: Gaussian, with the covariance of the true one, for the same users; [U, r]."""
    has = ~teacher.isnan().any(1)
    values, vectors = torch.linalg.eigh(torch.cov(teacher[has].T))
    drawn = torch.randn(int(has.sum()), teacher.shape[1], generator=torch.Generator().manual_seed(seed))
    made = torch.full_like(teacher, torch.nan)
    made[has] = drawn @ (vectors * values.clamp_min(0).sqrt()).T
    return made


def only_some(teacher: Tensor, share: float, seed: int) -> Tensor:
    """Take the teacher of all but a share of the users away; a larger share holds the smaller. [U, r] -> [U, r]."""
    owners = (~teacher.isnan().any(1)).nonzero().squeeze(1)
    order = owners[torch.randperm(len(owners), generator=torch.Generator().manual_seed(seed))]
    kept = order[: max(1, round(share * len(owners)))]
    made = torch.full_like(teacher, torch.nan)
    made[kept] = teacher[kept]
    return made


def quarters(values: pd.Series) -> pd.Series:
    """Cut values into four groups of about the same size, in their order; fewer where values repeat."""
    return pd.qcut(values, 4, duplicates="drop").cat.rename_categories(str)


def gains_by(
    variant: list[pd.DataFrame], baseline: list[pd.DataFrame], group: Callable[[pd.DataFrame], pd.Series]
) -> pd.DataFrame:
    """Say who gains: the difference in NDCG@10 within groups of cases.

    Args:
        variant, baseline: per-case ranks, one frame per seed, of the same cases.
        group: cases -> group of each, a categorical in the order in which the groups are read; NaN is left out.

    Returns:
        One row per group: group, cases, users, ndcg@10 of the baseline, and delta_ndcg@10 with its test.
    """
    groups, rows = group(baseline[0]), []
    for name in groups.cat.categories:
        at = (groups == name).to_numpy()
        if not at.any():
            continue
        a, b = ([by_user(frame[at], "kept")["ndcg@10"] for frame in frames] for frames in (variant, baseline))
        test = paired(a, b)
        row = {"group": name, "cases": int(at.sum()), "users": len(b[0]), "ndcg@10": np.mean([one.mean() for one in b])}
        rows.append(row | {"delta_ndcg@10": test.pop("delta"), **test})
    table = pd.DataFrame(rows)
    table["p_holm"] = holm(table.pop("p"))
    return table.assign(verdict=[verdict(row) for row in table.to_dict("records")])

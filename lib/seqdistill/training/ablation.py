"""One ablation: its cells beside the plain student and the shuffled teachers; and which users and items gain."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from seqdistill.config import Distillation, TrainConfig, parse, to_dict
from seqdistill.embeddings.reducers import teacher_rows
from seqdistill.evaluation.significance import adjust_pvalues, by_user, compare, paired
from seqdistill.io import UserError, load_json, save_csv
from seqdistill.training.sweep import Job, Jobs, plan, ranks, sweep
from seqdistill.training.train import TrainingData

CONTROLS = {"student": "shuffled", "teacher": "shuffled-target", "teacher_frozen": "shuffled-frozen"}  # by projection


@dataclass(frozen=True)
class Setup:
    """What all ablations of a student share.

    literal: its distillation in the paper's form. taught: in the form that projects the student. label: the first
    columns of its tables.
    """

    home: Path
    given: TrainingData
    alone: TrainConfig
    literal: Distillation
    taught: Distillation
    seeds: list[int]
    cluster: str
    label: dict[str, str]


def setups(
    home: Path, given: TrainingData, first: str, seeds: list[int], cluster: str, label: dict[str, str]
) -> list[Setup]:
    """Take the students of 04 and their distillations, as 04 left them; the student named `first`, if any, comes first.

    Raises:
        UserError: 04 has not run, or not with that student.
    """
    chosen, found = load_json(home / "artifacts" / "student.json"), []
    if first and first not in chosen["students"]:
        raise UserError(f"04 has trained no {first!r}; there is {', '.join(chosen['students'])}.")
    for model in sorted(chosen["students"], key=lambda name: name != first):
        values = chosen["students"][model]
        literal = parse(Distillation, values["teacher"], "student.json")
        taught = parse(Distillation, {**values["teacher"], **chosen["own"]}, "student.json")
        alone = parse(TrainConfig, values["run"], "student.json")
        found.append(Setup(home, given, alone, literal, taught, seeds, cluster, {**label, "model": model}))
    return found


def shuffled(given: Setup, side: str) -> Distillation:
    """Control of a side of the projection: the setting of 04, every user with another user's profile."""
    setting = given.literal if side == "teacher" else replace(given.taught, projection=side)
    return replace(setting, shuffled=True)


def varied(jobs: dict[str, Job]) -> pd.DataFrame:
    """Settings in which jobs differ, one column each, by variant; what both a run and its teacher have: distil_*."""
    rows = {}
    for name, job in jobs.items():
        values = to_dict(job.run)
        taught, shape = values.pop("distillation") or {}, values.pop("model")
        own = {**values, **shape}
        rows[name] = own | {f"distil_{key}" if key in own else key: value for key, value in taught.items()}
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.loc[:, [len(set(map(str, table[name]))) > 1 for name in table]]


def planned(
    given: Setup, cells: dict[str, Distillation | TrainConfig | Job], own: list[str] | None = None
) -> tuple[Jobs, dict[str, str]]:
    """Plan an ablation: the plain student, the cells, a shuffled teacher for each side that a cell has.

    Args:
        given, cells: see `ablate`.
        own: cells with a teacher of another kind, whose control is that teacher, shuffled: "<cell>-shuffled".

    Returns:
        The runs, and the control of every taught cell.
    """
    runs = {
        name: replace(given.alone, distillation=it) if isinstance(it, Distillation) else it
        for name, it in cells.items()
    }
    sides = {name: (it.run if isinstance(it, Job) else it).distillation for name, it in runs.items()}
    controls = {name: CONTROLS[setting.projection] for name, setting in sides.items() if setting}
    for name in own or []:
        setting = replace(sides[name], shuffled=True)
        controls[name] = f"{name}-shuffled"
        runs[controls[name]] = runs[name]._replace(run=replace(runs[name].run, distillation=setting))
    wanted = {
        name: replace(given.alone, distillation=shuffled(given, side))
        for side, name in CONTROLS.items()
        if name in controls.values()
    }
    return plan({"plain": given.alone} | wanted | runs, given.seeds, given.given), controls


def ablate(
    given: Setup, name: str, cells: dict[str, Distillation | TrainConfig | Job], own: list[str] | None = None
) -> pd.DataFrame:
    """Train the cells, and compare them with the plain student and the shuffled teacher of their side.

    Args:
        given: see `Setup`.
        name: of the table that is written, tables/ablation-<name>.csv.
        cells: variant -> what is trained; a distillation stands for the plain run with it.
        own: cells that are tested against their own teacher, shuffled; the others against that of their side.

    Returns:
        `compare` on all targets with seen items kept, with the settings that vary as columns.
    """
    jobs, controls = planned(given, cells, own)
    sweep(jobs, given.home / "runs", given.cluster)
    found = ranks(jobs, given.home / "runs")
    against = dict.fromkeys((variant for variant in found if variant != "plain"), "plain")
    table = compare(found, against, "included", False, controls)
    settings = varied({variant: jobs[variant, given.seeds[0]] for variant in cells})
    table = table.merge(settings, "left", left_on="variant", right_index=True)
    for place, (column, value) in enumerate(given.label.items()):
        table.insert(place, column, value)
    table.attrs["runs"] = jobs
    return save_csv(table, given.home / "tables" / f"ablation-{name}.csv")


def taught_with(given: TrainingData, space: np.ndarray, owners: np.ndarray) -> TrainingData:
    """Give a problem the teacher that reduced vectors [n, r] of some users make."""
    return replace(given, teacher=teacher_rows(space, owners, len(given.teacher)))


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
    if values.min() == values.max():
        return values.astype(str).astype("category")
    return pd.qcut(values, 4, duplicates="drop").cat.rename_categories(str)


def gains_by(
    variant: list[pd.DataFrame],
    baseline: list[pd.DataFrame],
    groupings: dict[str, Callable[[pd.DataFrame], pd.Series]],
) -> pd.DataFrame:
    """Say who gains: the difference in NDCG@10 within groups of cases.

    Args:
        variant, baseline: per-case ranks, one frame per seed, of the same cases.
        groupings: name -> cases -> group of each, a categorical in the order in which the groups are read; NaN is left
            out.

    Returns:
        One row per group: variant (grouping and group), by, group, cases, users, ndcg@10 of the baseline, and
        delta_ndcg@10 with its test, corrected for all rows.
    """
    cut = [
        (by, name, (groups == name).to_numpy())
        for by, group in groupings.items()
        for groups in [group(baseline[0])]
        for name in groups.cat.categories
    ]
    cut, rows = [(by, name, at) for by, name, at in cut if at.any()], []
    for by, name, at in cut:
        a, b = ([by_user(frame[at], "included")["ndcg@10"] for frame in frames] for frames in (variant, baseline))
        row = {"variant": f"{by} {name}", "by": by, "group": name, "cases": int(at.sum()), "users": len(b[0])}
        test = paired(a, b, len(cut))
        row |= {"ndcg@10": np.mean([one.mean() for one in b]), "delta_ndcg@10": test.pop("delta"), **test}
        rows.append(row | {"once": len(variant) == len(baseline) == 1})
    return adjust_pvalues(pd.DataFrame(rows), [""])

"""Ablations: cells compared with the plain student and shuffled teachers; and which users and items gain."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import floor
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from seqdistill.config import Distillation, TrainConfig, parse, settings, to_dict
from seqdistill.embeddings.reducers import teacher_rows
from seqdistill.evaluation.significance import compare
from seqdistill.io import UserError, load_csv, load_json, save_csv, save_json
from seqdistill.training.sweep import Job, Jobs, plan, ranks, results, sweep
from seqdistill.training.train import TrainingData, with_teacher
from torch import Tensor

CONTROLS = {"student": "shuffled", "teacher": "shuffled-target", "teacher_frozen": "shuffled-frozen"}  # by projection


@dataclass(frozen=True)
class Setup:
    """What all ablations of a student share: its plain run, its distillation in the paper's form and in ours.

    label: the first columns of its tables. recorded: folder of a preset whose tables are read instead of training, if
    they were made from the same `teacher`: its sources, as 03 recorded them.
    """

    home: Path
    data: TrainingData
    alone: TrainConfig
    literal: Distillation
    taught: Distillation
    seeds: list[int]
    cluster: str
    label: dict[str, str]
    recorded: Path | None = None
    teacher: dict[str, str] = field(default_factory=dict)

    @property
    def runs(self) -> dict[str, TrainConfig]:
        """The runs of 04, by form."""
        forms = {"plain": None, "distilled": self.literal, "distilled-student": self.taught}
        return {form: replace(self.alone, distillation=one) for form, one in forms.items()}


def setups(
    home: Path, data: TrainingData, first: str, seeds: list[int], cluster: str, label: dict[str, str]
) -> list[Setup]:
    """Read the students of 04 and their distillations; the student named `first`, if any, comes first."""
    chosen = load_json(home / "artifacts" / "student.json")
    students, ready = chosen["students"], []
    if first and first not in students:
        raise UserError(f"04 has trained no {first!r}; there is {', '.join(students)}.")
    for model in sorted(students, key=lambda name: name != first):
        alone, setting = parse(TrainConfig, students[model]["run"], "student.json"), students[model]["teacher"]
        forms = (parse(Distillation, one, "student.json") for one in (setting, {**setting, **chosen["own"]}))
        ready.append(Setup(home, data, alone, *forms, seeds, cluster, {**label, "model": model}))
    return ready


def epochs_for(setup: Setup, budget: float) -> int:
    """Number of epochs for a share of a student's epochs; more if phase 1 would have none."""
    full, fraction = setup.alone.epochs, min(setup.literal.phase1_fraction, setup.taught.phase1_fraction)
    enough = (number for number in range(max(1, round(budget * full)), full) if round(number * fraction))
    return next(enough, max(full, round(budget * full)))


def shuffled(run: TrainConfig) -> TrainConfig:
    """The control of a distilled run: every user has another user's teacher."""
    return replace(run, distillation=replace(run.distillation, shuffled=True))


def varied(jobs: dict[str, Job]) -> pd.DataFrame:
    """Settings in which jobs differ, one column each, by variant; distil_* if a run has that setting, too."""
    rows = {}
    for name, job in jobs.items():
        values = to_dict(job.run)
        teacher = values.pop("distillation") or {}
        values |= values.pop("model")
        rows[name] = values | {f"distil_{key}" if key in values else key: value for key, value in teacher.items()}
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.loc[:, [len(set(map(str, table[name]))) > 1 for name in table]]


def planned(
    setup: Setup, cells: dict[str, Distillation | TrainConfig | Job], own: Sequence[str] = ()
) -> tuple[Jobs, dict[str, str]]:
    """Plan the plain student, the cells and their shuffled teachers; return the runs and each taught cell's control."""
    jobs, controls = {}, {}
    for name, cell in cells.items():
        run = replace(setup.alone, distillation=cell) if isinstance(cell, Distillation) else cell
        jobs[name] = run if isinstance(run, Job) else Job(run, setup.data)
        if jobs[name].run.distillation:
            controls[name] = f"{name}-shuffled" if name in own else CONTROLS[jobs[name].run.distillation.projection]
    jobs |= {controls[name]: jobs[name]._replace(run=shuffled(jobs[name].run)) for name in own}
    plain = {"plain": setup.alone}
    for projection, control in CONTROLS.items():  # with the settings of 04
        if control in controls.values():
            setting = setup.literal if projection == "teacher" else replace(setup.taught, projection=projection)
            plain[control] = shuffled(replace(setup.alone, distillation=setting))
    return plan(plain | jobs, setup.seeds, setup.data), controls


def ablate(
    setup: Setup, name: str, cells: dict[str, Distillation | TrainConfig | Job], own: Sequence[str] = ()
) -> pd.DataFrame:
    """Train the cells; compare them with the plain student and the shuffled teacher of their projection, or their own.

    A `Distillation` means the plain run with it; cells in `own` have another kind of teacher.
    """
    jobs, controls = planned(setup, cells, own)
    against = {variant: "plain" for variant, _ in jobs if variant != "plain"}
    columns = varied({variant: jobs[variant, setup.seeds[0]] for variant in cells})
    return compare_runs(setup, f"ablation-{name}", jobs, against, controls, columns)


def strength(setup: Setup, budgets: Sequence[float]) -> pd.DataFrame:
    """Compare plain student, our distillation and its control at shares of the epochs: strength.csv, by `epochs`."""
    variants, against, controls, columns = {}, {}, {}, {}
    for epochs in (epochs_for(setup, budget) for budget in budgets):
        alone = replace(setup.alone, epochs=epochs)
        taught = replace(alone, distillation=setup.taught)
        names = [f"{variant}, {epochs} epochs" for variant in ("plain", "distilled-student", "shuffled")]
        variants |= dict(zip(names, (alone, taught, shuffled(taught)), strict=True))
        against |= dict.fromkeys(names[1:], names[0])
        controls[names[1]] = names[2]
        columns |= dict.fromkeys(names, epochs)
    jobs = plan(variants, setup.seeds, setup.data)
    return compare_runs(setup, "strength", jobs, against, controls, pd.Series(columns, name="epochs").to_frame())


def against_best(setup: Setup, cells: dict[str, Job], first: str, rivals: Sequence[str]) -> pd.DataFrame:
    """Compare a cell with the one of its rivals that has the best mean validation NDCG@10: ablation-rival.csv."""
    jobs = plan({name: cells[name] for name in (first, *rivals)}, setup.seeds, setup.data)

    def make() -> pd.DataFrame:
        valid = pd.Series({name: run["valid_ndcg@10"] for name, run in results(jobs, setup.home / "runs").items()})
        best = valid.groupby(level=0).mean().drop(first).idxmax()
        pair = {name: frames for name, frames in ranks(jobs, setup.home / "runs").items() if name in (first, best)}
        return compare(pair, {first: best}, "included", False)

    return recorded_or_made(setup, "ablation-rival", jobs, make)


def compare_runs(
    setup: Setup, name: str, jobs: Jobs, against: dict[str, str], controls: dict[str, str], columns: pd.DataFrame
) -> pd.DataFrame:
    """Train runs and compare them on all targets, seen items included; columns: further ones, by variant."""

    def make() -> pd.DataFrame:
        sweep(jobs, setup.home / "runs", setup.cluster)
        table = compare(ranks(jobs, setup.home / "runs"), against, "included", False, controls)
        table = table.merge(columns, "left", left_on="variant", right_index=True)
        table = pd.concat([pd.DataFrame(setup.label, index=table.index), table], axis=1)
        table.attrs["runs"] = jobs
        return table

    return recorded_or_made(setup, name, jobs, make)


def recorded_or_made(setup: Setup, name: str, jobs: Jobs, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Make a table, or copy a recorded one, and write it to tables/<name>.csv, with its inputs as <name>.json.

    A recorded one may have more runs and seeds than needed. Teacher vectors are not compared: they vary by processor.
    """
    path = setup.home / "tables" / f"{name}.csv"
    made_with = {"data": setup.data.key, "seeds": setup.seeds, "teacher": setup.teacher}
    made_with["runs"] = {variant: settings(replace(job.run, seed=0)) for (variant, _), job in jobs.items()}
    if setup.recorded:
        source = setup.recorded / "tables" / path.name
        known, table = load_json(source.with_suffix(".json")), load_csv(source)
        same = all(known.get(part) == made_with[part] for part in ("data", "teacher"))
        same &= set(known["seeds"]) >= set(setup.seeds) and known["runs"].items() >= made_with["runs"].items()
        if not same:
            again = "run `make reproduce PRESET=full NOTEBOOK=05-ablations`, or set every: true"
            raise UserError(f"{path.name} was not recorded with these data, teacher and settings; {again}.")
        made_with = known
    else:
        table = make()
    save_csv(table, path)
    save_json(made_with, path.with_suffix(".json"))  # after the table, for which it vouches
    return table


def taught_with(data: TrainingData, space: np.ndarray, owners: np.ndarray, users: int = 0) -> TrainingData:
    """Give training data a teacher made of reduced vectors [n, r] of some users; U is `users`, or as before."""
    return with_teacher(data, teacher_rows(space, owners, users or len(data.teacher)))


def noise_like(teacher: Tensor, seed: int) -> Tensor:
    """Draw a teacher without knowledge: Gaussian, with the covariance of the true one, for the same users; [U, r]."""
    has = ~teacher.isnan().any(1)
    values, vectors = torch.linalg.eigh(torch.cov(teacher[has].T))
    drawn = torch.randn(int(has.sum()), teacher.shape[1], generator=torch.Generator().manual_seed(seed))
    noise = torch.full_like(teacher, torch.nan)
    noise[has] = drawn @ (vectors * values.clamp_min(0).sqrt()).T
    return noise


def only_some(teacher: Tensor, share: float, seed: int) -> Tensor:
    """Keep the teacher of a share of the users only; a larger share contains a smaller one. [U, r] -> [U, r]."""
    owners = (~teacher.isnan().any(1)).nonzero().squeeze(1)
    order = owners[torch.randperm(len(owners), generator=torch.Generator().manual_seed(seed))]
    chosen = order[: max(1, round(share * len(owners)))]
    return torch.full_like(teacher, torch.nan).index_copy(0, chosen, teacher[chosen])


def quarters(values: pd.Series) -> pd.Series:
    """Cut counts into four groups of about the same size, in order; fewer groups if values repeat."""
    if values.min() == values.max():
        return values.astype(str).astype("category")
    cut = pd.qcut(values, 4, duplicates="drop")
    return cut.cat.rename_categories(lambda bounds: f"{floor(bounds.left) + 1} to {floor(bounds.right)}")


def gains_by(
    variant: list[pd.DataFrame], baseline: list[pd.DataFrame], groupings: dict[str, Callable[[pd.DataFrame], pd.Series]]
) -> pd.DataFrame:
    """Difference in NDCG@10 of two systems, given by seed, in groups of cases: categoricals, made by `groupings`."""
    masks, labels = {}, []
    for by, group in groupings.items():
        names = group(baseline[0]).cat.remove_unused_categories()
        for name in names.cat.categories:
            masks[f"{by} {name}"] = [(names == name).to_numpy()] * len(baseline)
            labels.append((by, name))
    table = compare({"taught": variant, "plain": baseline}, {"taught": "plain"}, "included", False, groups=masks)
    groups, plain = (table[start::2].reset_index(drop=True) for start in (0, 1))
    first = pd.DataFrame({"variant": groups["group"]}).join(pd.DataFrame(labels, columns=["by", "group"]))
    first = first.assign(cases=groups["cases"] // len(baseline), users=groups["users"], **{"ndcg@10": plain["ndcg@10"]})
    return first.join(groups.loc[:, "delta_ndcg@10":"detectable"])

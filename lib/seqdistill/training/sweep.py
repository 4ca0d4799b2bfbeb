"""Many runs: variants x seeds, finished ones skipped, the rest spread over the cores of a machine or a cluster."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypeVar

import pandas as pd
import torch
from joblib import Parallel, delayed, effective_n_jobs
from safetensors import SafetensorError
from safetensors.torch import load_file
from tqdm import tqdm

from seqdistill.config import Distillation, ModelConfig, TrainConfig, parse, to_dict
from seqdistill.io import UserError, announce, digest, display_path, load_json, load_table
from seqdistill.training.cluster import connected, kind_of
from seqdistill.training.train import TrainingData, run_key, train

TRIES = 4
Config = TypeVar("Config", TrainConfig, ModelConfig, Distillation)


class Job(NamedTuple):
    """A run and the problem that it solves."""

    run: TrainConfig
    given: TrainingData


Jobs = dict[tuple[str, int], Job]  # (variant, seed) -> job


def grid(base: Config, **values: list) -> dict[str, Config]:
    """Cross values of a config's settings, the first varying fastest: "alpha 0.4, beta on" -> config.

    Raises:
        UserError: there is no such setting, or a value does not fit it.
    """
    cells = [dict(zip(values, reversed(cell), strict=True)) for cell in product(*reversed(values.values()))]
    names = [", ".join(f"{name} {word(value)}" for name, value in cell.items()) for cell in cells]
    return {name: parse(type(base), to_dict(base) | cell, "grid") for name, cell in zip(names, cells, strict=True)}


def word(value: object) -> str:
    """Write a setting as it stands in a variant's name."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def plan(variants: dict[str, TrainConfig | Job], seeds: list[int], given: TrainingData) -> Jobs:
    """Cross variants with seeds; a variant that brings no problem of its own solves `given`."""
    jobs = {name: Job(it, given) if isinstance(it, TrainConfig) else it for name, it in variants.items()}
    return {(name, seed): job._replace(run=replace(job.run, seed=seed)) for name, job in jobs.items() for seed in seeds}


def run_folder(job: Job, folder: Path) -> Path:
    """Folder of a job's run."""
    return folder / run_key(*job)


def missing(jobs: Jobs, folder: Path) -> Jobs:
    """Jobs that have not finished yet; of names for the same run, the last."""
    keyed = {run_folder(job, folder): name for name, job in jobs.items()}
    return {name: jobs[name] for path, name in keyed.items() if not (path / "metrics.json").exists()}


def drop_damaged(home: Path) -> None:
    """Name a finished run whose files cannot be read, and have it count as not trained."""
    files = {"metrics.json": load_json, "cost.json": load_json, "ranks.parquet": load_table}
    for name, read in {**files, "model.safetensors": load_file}.items():
        try:
            read(home / name)
        except (UserError, OSError, SafetensorError):
            announce(f"run {home.name}: {name} is damaged or gone; the run is trained anew")
            (home / "metrics.json").unlink(missing_ok=True)
            return


def cost(jobs: Jobs, folder: Path, workers: int) -> str:
    """Say what is left of a plan, and the time as far as finished runs with the same student and batch tell it."""

    def kind(run: dict) -> str:
        return digest([run["model"], run["batch"], run["loss"], run["windows"]])

    seconds: dict[str, list[float]] = {}  # kind of run -> CPU seconds per epoch
    for path in folder.glob("*/metrics.json"):
        done, spent = load_json(path), load_json(path.with_name("cost.json"))["cpu_seconds"]
        if "model" in done["config"]:  # IDGenRec's runs lie beside the students'
            seconds.setdefault(kind(done["config"]), []).append(spent / len(done["history"]))
    todo = [job.run for job in missing(jobs, folder).values()]
    known = [run.epochs * median(seconds[kind(to_dict(run))]) for run in todo if kind(to_dict(run)) in seconds]
    hours, runs = (
        sum(known) / min(workers, len(todo) or 1) / 3600,
        len({run_folder(job, folder) for job in jobs.values()}),
    )
    time = (
        f"about {hours:.2f} h for the {len(known)} whose like was measured" if known else "time unknown (none measured)"
    )
    return (
        f"{runs} runs, {runs - len(todo)} finished already; {len(todo)} to train, at most {workers} at a time: "
        f"at most {sum(run.epochs for run in todo)} epochs, {time}"
    )


def sweep(jobs: Jobs, folder: Path, cluster: str = "loky", workers: int | None = None) -> None:
    """Finish every run of a plan, one thread a run (outputs/bench/sweep.csv says why), and say first what it will cost.

    Where a worker is lost, what is missing goes on from its checkpoints on those that are left.

    Args:
        jobs: see `plan`.
        folder: parent of the runs' folders. On a cluster it is storage that all nodes share under the same path.
        cluster: see `connected`; every node has this package.
        workers: runs at a time, by default one a core; on a machine with a GPU one, since all would share the first.

    Raises:
        UserError: as `connected`; a run failed for a reason that its sentence names; or runs are still missing.
    """
    folder, error = folder.resolve(), None
    for home in {run_folder(job, folder) for job in jobs.values()}:
        if (home / "metrics.json").exists():
            drop_damaged(home)
    with connected(cluster) as lost:
        for _ in range(TRIES):
            if not (todo := missing(jobs, folder)):
                return
            at_once = min(workers or usual(cluster), effective_n_jobs(-1))
            why = f"a worker was lost ({type(error).__name__}), {listed(todo)} go on; " if error else ""
            try:
                train_all(todo, folder, at_once, f"sweep: {why}{cost(jobs, folder, at_once)}")
            except lost as raised:
                error = raised
    if todo := missing(jobs, folder):
        raise UserError(
            f"sweep: {listed(todo)} not finished after {TRIES} tries: workers were lost each time, or the nodes do not "
            f"share {display_path(folder)} or this code. Run it again: what was finished is kept."
        ) from error


def usual(cluster: str) -> int:
    """Runs at a time: one a core of the cluster, or one where this machine's processes would share its GPU."""
    return 1 if kind_of(cluster) == "loky" and torch.cuda.is_available() else effective_n_jobs(-1)


def listed(jobs: Jobs) -> str:
    """Name jobs in a sentence."""
    return ", ".join(f"{variant} (seed {seed})" for variant, seed in jobs)


def train_all(jobs: Jobs, folder: Path, workers: int, line: str) -> None:
    """Train jobs side by side; say a line first, then show how many are done."""
    announce(line)
    with tqdm(total=len(jobs), desc="runs") as bar:
        if not bar.disable:
            bar.write(line)
        pool = Parallel(n_jobs=workers)
        pool.print_progress = lambda: bar.update(pool.n_completed_tasks - bar.n)
        pool(delayed(train)(*job, folder) for job in jobs.values())


def results(jobs: Jobs, folder: Path) -> dict[tuple[str, int], dict]:
    """Read the metrics of every run of a plan."""
    return {name: load_json(run_folder(job, folder) / "metrics.json") for name, job in jobs.items()}


def ranks(jobs: Jobs, folder: Path) -> dict[str, list[pd.DataFrame]]:
    """Read the per-case ranks of every run of a plan: variant -> one frame per seed."""
    found: dict[str, list[pd.DataFrame]] = {}
    for (variant, _), job in jobs.items():
        found.setdefault(variant, []).append(load_table(run_folder(job, folder) / "ranks.parquet"))
    return found


def spent(jobs: Jobs, folder: Path) -> str:
    """Say what the runs of a plan took, whenever they were trained."""
    homes = {run_folder(job, folder) for job in jobs.values()}
    minutes = sum(load_json(home / "cost.json")["cpu_seconds"] for home in homes) / 60
    return f"{len(homes)} runs, {minutes:.0f} CPU minutes of training"

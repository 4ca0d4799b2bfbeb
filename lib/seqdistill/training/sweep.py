"""Many runs: variants x seeds, finished ones skipped, the rest spread over a machine, a Ray or a Dask cluster."""

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pandas as pd
import torch
from joblib import Parallel, delayed, effective_n_jobs, parallel_config
from tqdm import tqdm

from seqdistill.config import Distillation, TrainConfig, parse, to_dict
from seqdistill.evaluation.ranking import load_ranks
from seqdistill.io import UserError, announce, digest, display_path, load_json, require
from seqdistill.training.train import TrainingData, run_key, train

CLUSTERS = {"loky": "loky", "ray": "ray", "ray://": "ray", "dask": "dask", "tcp://": "dask", "tls://": "dask"}


class Job(NamedTuple):
    """A run and the data that it is trained on."""

    run: TrainConfig
    data: TrainingData


Jobs = dict[tuple[str, int], Job]  # (variant, seed) -> job


def grid(base: TrainConfig | Distillation, **values: list) -> dict[str, TrainConfig | Distillation]:
    """Cross values of a config's settings, the first varying fastest: "alpha 0.4, beta on" -> config."""
    cells = [dict(zip(values, reversed(cell), strict=True)) for cell in product(*reversed(values.values()))]
    names = [", ".join(f"{name} {word(value)}" for name, value in cell.items()) for cell in cells]
    return {name: parse(type(base), to_dict(base) | cell, "grid") for name, cell in zip(names, cells, strict=True)}


def word(value: object) -> str:
    """Write a setting as it stands in a variant's name."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def plan(variants: dict[str, TrainConfig | Job], seeds: list[int], data: TrainingData) -> Jobs:
    """Cross variants with seeds; a variant that is not a `Job` is trained on `data`."""
    jobs = {name: Job(one, data) if isinstance(one, TrainConfig) else one for name, one in variants.items()}
    return {(name, seed): job._replace(run=replace(job.run, seed=seed)) for name, job in jobs.items() for seed in seeds}


def run_folder(job: Job, runs: Path) -> Path:
    """Folder of a job's run."""
    return runs / run_key(*job)


def missing(jobs: Jobs, runs: Path) -> Jobs:
    """Jobs that have not finished yet; if several names mean the same run, the last."""
    names = {run_folder(job, runs): name for name, job in jobs.items()}
    return {name: jobs[name] for path, name in names.items() if not (path / "metrics.json").exists()}


def cost(jobs: Jobs, runs: Path, workers: int) -> str:
    """Say what is left of a plan: runs, epochs, and the time of those whose kind has been measured."""

    def kind(config: dict) -> str:  # one for all runs of IDGenRec, which lie beside the students'
        return digest([config.get(name) for name in ("model", "batch", "loss", "windows")])

    per_epoch: dict[str, list[float]] = defaultdict(list)  # kind of run -> CPU seconds
    for path in runs.glob("*/cost.json"):
        if (done := path.with_name("metrics.json")).exists():
            run = load_json(done)
            per_epoch[kind(run["config"])].append(load_json(path)["cpu_seconds"] / len(run["history"]))
    todo = [to_dict(job.run) for job in missing(jobs, runs).values()]
    known = [config["epochs"] * median(per_epoch[kind(config)]) for config in todo if kind(config) in per_epoch]
    hours = sum(known) / min(workers, len(todo) or 1) / 3600
    long = f"{hours:.2f} h" if hours >= 1 else f"{max(1, round(60 * hours))} min"
    time = f"about {long} for {len(known)} of them" if known else "time unknown"
    total, epochs = len({run_folder(job, runs) for job in jobs.values()}), sum(config["epochs"] for config in todo)
    return f"{total} runs, {len(todo)} to train, {workers} at a time: at most {epochs} epochs, {time}"


def sweep(jobs: Jobs, runs: Path, cluster: str = "loky", workers: int | None = None) -> None:
    """Finish every run of a plan, one thread per run (outputs/bench/sweep.csv says why); print the expected cost first.

    cluster: see `connected`; its nodes share this package and `runs` under the same paths. workers: runs at a time, by
    default one per core, or one if this machine's processes would share its GPU. An error, as of a worker that is lost,
    ends the sweep; called again, it resumes from the checkpoints.
    """
    runs = runs.resolve()
    if not (todo := missing(jobs, runs)):
        return
    with connected(cluster):
        at_once = workers or (1 if kind_of(cluster) == "loky" and torch.cuda.is_available() else effective_n_jobs(-1))
        announce(line := f"sweep: {cost(jobs, runs, at_once)}")
        pool, bar = Parallel(n_jobs=at_once), tqdm(desc="runs", total=len(todo))
        pool.print_progress = lambda: bar.update(pool.n_completed_tasks - bar.n)
        if not bar.disable:
            bar.write(line)
        with bar:  # no generator of results: Ray's back end has none
            pool(delayed(train)(*job, runs) for job in todo.values())
    if missing(jobs, runs):
        raise UserError(
            f"sweep: the workers do not share {display_path(runs)}; the runs that they finished are not there."
        )


def results(jobs: Jobs, runs: Path) -> dict[tuple[str, int], dict]:
    """Read the metrics of every run of a plan."""
    return {name: load_json(run_folder(job, runs) / "metrics.json") for name, job in jobs.items()}


def ranks(jobs: Jobs, runs: Path) -> dict[str, list[pd.DataFrame]]:
    """Read the per-case ranks of every run of a plan: variant -> one frame per seed."""
    frames: dict[str, list[pd.DataFrame]] = {}
    for (variant, _), job in jobs.items():
        frames.setdefault(variant, []).append(load_ranks(run_folder(job, runs) / "ranks.parquet"))
    return frames


def spent(jobs: Jobs, runs: Path) -> str:
    """Say what the runs of a plan took, whenever they were trained."""
    folders = {run_folder(job, runs) for job in jobs.values()}
    minutes = sum(load_json(folder / "cost.json")["cpu_seconds"] for folder in folders) / 60
    return f"{len(folders)} runs, {minutes:.0f} CPU minutes of training"


def kind_of(cluster: str) -> str:
    """The joblib backend that a cluster's name or address selects."""
    if (kind := "".join(cluster.partition("://")[:2])) not in CLUSTERS:
        raise UserError(f'cluster "{cluster}": choose loky, ray, dask, ray://host:10001 or tcp://host:8786.')
    return CLUSTERS[kind]


@contextmanager
def connected(cluster: str) -> Iterator[None]:
    """Let joblib use a cluster, one process of one thread per core.

    "loky": processes of this machine. "ray": the cluster that Ray finds (RAY_ADDRESS), else one on this machine; every
    process takes a GPU if there are any. "dask": one on this machine. Or an address: ray://host:10001, tcp://host:8786.
    """
    kind, address = kind_of(cluster), cluster if "://" in cluster else None
    if kind == "loky":
        with parallel_config("loky", inner_max_num_threads=1):
            yield
    elif kind == "ray":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray = require("ray", "ray")
        require("ray.util.joblib", "ray").register_ray()
        own = nullcontext() if ray.is_initialized() else ray.init(address, log_to_driver=False, logging_level="ERROR")
        with own:
            share = {"num_cpus": 1} | ({"num_gpus": 1} if ray.cluster_resources().get("GPU") else {})
            with parallel_config("ray", ray_remote_args=share):
                yield
    else:
        dask = require("distributed", "dask")
        where = {"address": address} if address else {"threads_per_worker": 1, "dashboard_address": None}
        with dask.Client(**where) as client, parallel_config("dask"):
            if max(client.nthreads().values(), default=1) > 1:  # runs in threads would share one random generator
                raise UserError("cluster: a run needs a process of its own; start Dask's workers with --nthreads 1.")
            yield

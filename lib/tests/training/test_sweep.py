import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch
from safetensors.torch import save_file
from seqdistill.config import Distillation, ModelConfig, TrainConfig, to_dict
from seqdistill.evaluation.ranking import save_ranks
from seqdistill.io import UserError, save_json
from seqdistill.training.sweep import (
    Job,
    connected,
    cost,
    grid,
    kind_of,
    missing,
    plan,
    ranks,
    results,
    run_folder,
    sweep,
)
from seqdistill.training.train import train

SMALL = TrainConfig(model=ModelConfig(dim=16, blocks=2, heads=2, length=10), epochs=4, batch=8, lr=0.01)
TAUGHT = replace(SMALL, distillation=Distillation())


@pytest.fixture
def told(capsys, monkeypatch):
    monkeypatch.setenv("SEQDISTILL_HEADLESS", "1")
    return lambda: capsys.readouterr().err


def same(jobs, one, other):
    equal = (
        a.equals(b)
        for name, frames in ranks(jobs, one).items()
        for a, b in zip(frames, ranks(jobs, other)[name], strict=True)
    )
    return all(equal) and results(jobs, one) == results(jobs, other)


def test_runs_do_not_share_a_gpu(data, tmp_path, monkeypatch, told):
    monkeypatch.setattr("seqdistill.training.sweep.train", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    sweep(plan({"plain": SMALL}, [0, 1], data), tmp_path)
    assert "2 to train, 1 at a time" in told()


def test_a_variant_may_bring_a_teacher_of_its_own(data, tmp_path):
    other = replace(data, teacher=torch.randn(40, 6))
    jobs = plan({"plain": SMALL, "ours": TAUGHT, "theirs": Job(TAUGHT, other), "again": Job(SMALL, other)}, [0], data)
    assert len({run_folder(job, tmp_path) for job in jobs.values()}) == 3  # without a teacher in it a run is the same
    assert list(missing(jobs, tmp_path)) == [("again", 0), ("ours", 0), ("theirs", 0)]
    sweep(jobs, tmp_path, workers=1)
    assert missing(jobs, tmp_path) == {} and len(list(tmp_path.glob("*/metrics.json"))) == 3
    found = {variant: run["valid_ndcg@10"] for (variant, _), run in results(jobs, tmp_path).items()}
    assert found["plain"] == found["again"] and found["ours"] != found["theirs"]


def test_a_grid_names_its_cells():
    cells = grid(Distillation(phase1_fraction=0.25), alpha=[0.4, 1.0], beta=[False, True])
    assert list(cells) == ["alpha 0.4, beta off", "alpha 1, beta off", "alpha 0.4, beta on", "alpha 1, beta on"]
    assert cells["alpha 1, beta off"] == Distillation(phase1_fraction=0.25, alpha=1, beta=False)
    assert grid(SMALL, loss=["sampled"], lr=[0.1]) == {"loss sampled, lr 0.1": replace(SMALL, loss="sampled", lr=0.1)}
    with pytest.raises(UserError, match='grid: "aplha" is not a setting \\(did you mean "alpha"\\?\\)'):
        grid(Distillation(), aplha=[1])


def measured(folder, job, seconds, epochs):
    save_json({"config": to_dict(job.run), "history": [{}] * epochs}, run_folder(job, folder) / "metrics.json")
    save_json({"cpu_seconds": seconds}, run_folder(job, folder) / "cost.json")
    save_ranks(pd.DataFrame({"rank_all": [1], "rank_unseen": [1]}), run_folder(job, folder) / "ranks.parquet")
    save_file({"item.weight": torch.zeros(1)}, run_folder(job, folder) / "model.safetensors")


def test_a_sweep_says_what_it_costs(data, tmp_path, told):
    hourly, wide = replace(SMALL, epochs=10), replace(SMALL, model=replace(SMALL.model, dim=32))
    jobs = plan({"plain": SMALL, "long": hourly, "wide": wide}, [0, 1], data)
    assert cost(jobs, tmp_path, 2) == "6 runs, 6 to train, 2 at a time: at most 36 epochs, time unknown"
    measured(tmp_path, jobs["plain", 0], 2 * 3600, 4)
    assert cost(jobs, tmp_path, 2) == "6 runs, 5 to train, 2 at a time: at most 32 epochs, about 6.00 h for 3 of them"
    measured(tmp_path, jobs["wide", 0], 3600, 4)
    assert cost(jobs, tmp_path, 1).endswith("4 to train, 1 at a time: at most 28 epochs, about 13.00 h for 4 of them")
    sweep({name: jobs[name] for name in [("plain", 0), ("plain", 1)]}, tmp_path, workers=1)
    assert told().startswith("sweep: 2 runs, 1 to train, 1 at a time: at most 4 epochs, about 2.00 h for 1 of them\n")


@contextmanager
def processes(monkeypatch):
    def workers():
        return [child for child in psutil.Process().children() if "popen_loky_posix" in " ".join(child.cmdline())]

    yield "loky", workers, lambda worker: worker.kill()


@contextmanager
def ray_nodes(monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 4)  # else Ray leaves one in the home folder
    import ray
    from ray.cluster_utils import Cluster

    soon = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 2}
    first = {"num_cpus": 2, "object_store_memory": 80_000_000, "include_dashboard": False, "_system_config": soon}
    cluster = Cluster(initialize_head=True, head_node_args=first)
    second = cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    raylet = psutil.Process(second.all_processes["raylet"][0].process.pid)
    try:
        leave = lambda _: cluster.remove_node(second, allow_graceful=False)  # noqa: E731
        yield "ray", lambda: raylet.children(recursive=True), leave
    finally:
        ray.shutdown()
        cluster.shutdown()


@contextmanager
def dask_workers(monkeypatch):
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        nannies = list(cluster.workers.values())
        workers = lambda: [psutil.Process(nanny.pid) for nanny in nannies]  # noqa: E731
        yield cluster.scheduler_address, workers, lambda worker: worker.kill()


def resumable(process):
    """Whether a process holds the lock of a run that has a checkpoint already."""
    locks = [Path(file.path) for file in process.open_files() if file.path.endswith("/lock")]
    return any((lock.parent / "checkpoint" / "checkpoint.safetensors").exists() for lock in locks)


@pytest.mark.parametrize(
    "workers", [processes, *(pytest.param(one, marks=pytest.mark.slow) for one in (ray_nodes, dask_workers))]
)
def test_a_lost_worker_loses_no_run(data, tmp_path, monkeypatch, workers):
    jobs, folder, killed = plan({"distilled": replace(TAUGHT, epochs=20)}, [0, 1, 2, 3], data), tmp_path / "runs", []
    homes = sorted(run_folder(job, folder) for job in jobs.values())

    def kill_one(there, kill):
        while not killed and not all((path / "metrics.json").exists() for path in homes):
            time.sleep(0.02)
            with suppress(psutil.Error):
                killed.extend([process for process in there() if resumable(process)][:1])
        kill(*killed)

    with workers(monkeypatch) as (cluster, there, kill):
        killer = threading.Thread(target=kill_one, args=[there, kill], daemon=True)
        killer.start()
        with suppress(Exception):  # Dask tries again by itself
            sweep(jobs, folder, cluster)
        killer.join()
        sweep(jobs, folder, cluster)
    assert not killed[0].is_running()
    for job in jobs.values():
        train(*job, tmp_path / "alone")
    assert same(jobs, folder, tmp_path / "alone")
    assert sorted(folder.iterdir()) == homes
    assert {len(run["history"]) for run in results(jobs, folder).values()} == {20}


def test_dask_workers_of_several_threads_are_refused():
    from distributed import LocalCluster

    threads = LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None)
    with threads, pytest.raises(UserError, match="--nthreads 1"), connected(threads.scheduler_address):
        pass


@pytest.mark.parametrize(("cluster", "module"), [("ray", "ray"), ("tcp://localhost:8786", "distributed")])
def test_a_cluster_that_is_not_installed_names_its_command(data, tmp_path, monkeypatch, cluster, module):
    monkeypatch.setitem(sys.modules, module, None)
    message = rf'{module} is not installed; `pip install "./lib\[{kind_of(cluster)}\]"` installs it'
    with pytest.raises(UserError, match=message):
        sweep(plan({"plain": SMALL}, [0], data), tmp_path, cluster)


def test_an_unknown_cluster_is_refused(data, tmp_path):
    for wrong in ("loki", "tcp", "loky://here", "dask://here:1"):
        with pytest.raises(UserError, match=f'cluster "{wrong}": choose loky, ray, dask'):
            sweep(plan({"plain": SMALL}, [0], data), tmp_path, wrong)

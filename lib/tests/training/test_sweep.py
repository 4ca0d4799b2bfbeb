import sys
from dataclasses import replace

import pytest
import torch
from seqdistill.config import Distillation, to_dict
from seqdistill.io import UserError, save_json
from seqdistill.training.sweep import Job, connected, cost, grid, missing, plan, ranks, results, run_folder, sweep
from seqdistill.training.train import train
from test_train import SMALL

TAUGHT = replace(SMALL, distillation=Distillation())


@pytest.fixture
def told(capsys, monkeypatch):
    monkeypatch.setenv("SEQDISTILL_HEADLESS", "1")
    return lambda: capsys.readouterr().err


def test_runs_do_not_share_a_gpu(data, tmp_path, monkeypatch, told):
    monkeypatch.setattr("seqdistill.training.sweep.train", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(UserError, match="do not share"):  # what nobody trained is nowhere
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


def measured(runs, job, seconds):
    """Leave what `cost` reads of a finished run of four epochs."""
    folder = run_folder(job, runs)
    save_json({"config": to_dict(job.run), "history": [{}] * 4}, folder / "metrics.json")
    save_json({"cpu_seconds": seconds}, folder / "cost.json")


def test_a_sweep_says_what_it_costs(data, tmp_path, told):
    longer, wide = replace(SMALL, epochs=10), replace(SMALL, model=replace(SMALL.model, dim=32))
    jobs = plan({"plain": SMALL, "long": longer, "wide": wide}, [0, 1], data)
    assert cost(jobs, tmp_path, 2) == "6 runs, 6 to train, 2 at a time: at most 36 epochs, time unknown"
    measured(tmp_path, jobs["plain", 0], 2 * 3600)
    assert cost(jobs, tmp_path, 2) == "6 runs, 5 to train, 2 at a time: at most 32 epochs, about 6.00 h for 3 of them"
    measured(tmp_path, jobs["wide", 0], 3600)
    assert cost(jobs, tmp_path, 1).endswith("4 to train, 1 at a time: at most 28 epochs, about 13.00 h for 4 of them")
    sweep({name: jobs[name] for name in [("plain", 0), ("plain", 1)]}, tmp_path, workers=1)
    assert told().startswith("sweep: 2 runs, 1 to train, 1 at a time: at most 4 epochs, about 2.00 h for 1 of them\n")


@pytest.mark.parametrize("cluster", ["loky", *(pytest.param(one, marks=pytest.mark.slow) for one in ("ray", "dask"))])
def test_a_cluster_trains_the_runs_that_one_process_would(data, tmp_path, monkeypatch, cluster):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 4)  # else Ray leaves one in the home folder
    jobs, folder = plan({"distilled": TAUGHT}, [0, 1], data), tmp_path / "runs"
    sweep(jobs, folder, cluster)
    sweep(jobs, folder, cluster)  # there is nothing left to do
    for job in jobs.values():
        train(*job, tmp_path / "alone")
    assert sorted(folder.iterdir()) == sorted(run_folder(job, folder) for job in jobs.values())
    assert results(jobs, folder) == results(jobs, tmp_path / "alone")
    one, other = (ranks(jobs, home)["distilled"] for home in (folder, tmp_path / "alone"))
    assert all(a.equals(b) for a, b in zip(one, other, strict=True))


def test_dask_workers_of_several_threads_are_refused():
    from distributed import LocalCluster

    threads = LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None)
    with threads, pytest.raises(UserError, match="--nthreads 1"), connected(threads.scheduler_address):
        pass


@pytest.mark.parametrize(
    ("cluster", "module", "extra"), [("ray", "ray", "ray"), ("tcp://localhost:8786", "distributed", "dask")]
)
def test_a_cluster_that_is_not_installed_names_its_command(data, tmp_path, monkeypatch, cluster, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    message = rf'{module} is not installed; `pip install "./lib\[{extra}\]"` installs it'
    with pytest.raises(UserError, match=message):
        sweep(plan({"plain": SMALL}, [0], data), tmp_path, cluster)


@pytest.mark.parametrize("wrong", ["loki", "tcp", "loky://here", "dask://here:1"])
def test_an_unknown_cluster_is_refused(data, tmp_path, wrong):
    with pytest.raises(UserError, match=f'cluster "{wrong}": choose loky, ray, dask'):
        sweep(plan({"plain": SMALL}, [0], data), tmp_path, wrong)

import os
import signal
import time
from dataclasses import replace
from multiprocessing import get_context

import pytest
import torch
from safetensors.torch import save_file
from seqdistill.config import Distillation, ItemText, ModelConfig, TrainConfig, settings, to_dict
from seqdistill.embeddings.reducers import save_teacher
from seqdistill.io import UserError, save_table
from seqdistill.training import checkpoint
from seqdistill.training import train as engine
from seqdistill.training.train import load_training_data, run_key, train, training_data
from test_train import SMALL, outcome


def same(one, other):
    return all(torch.equal(one[0][name], other[0][name]) for name in one[0]) and one[1].equals(other[1])


@pytest.mark.parametrize(("after", "causal"), [(1, True), (3, False)])
def test_a_resumed_run_equals_an_unbroken_one(data, tmp_path, after, causal):
    shape = replace(SMALL.model, causal=causal)
    teacher = Distillation(phase1_fraction=0.5, anneal=True)
    taught = replace(SMALL, model=shape, schedule="cosine", warmup=1.0, distillation=teacher)
    whole = outcome(taught, data, tmp_path / "whole")
    keep, saved = checkpoint.save, []

    def killed(*arguments):
        saved.append(keep(*arguments))
        if len(saved) == after:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "save", killed)
        train(taught, data, tmp_path / "broken")
    resumed = outcome(taught, data, tmp_path / "broken")
    assert same(whole, resumed) and whole[2] == resumed[2]


DEFAULTS = {
    TrainConfig: "distillation None, item_text None, epochs 20, patience 0, batch 64, lr 0.001, schedule constant, "
    "warmup 0.0, clip 1.0, loss full, negatives 256, validate_on included, windows all, mask_prob 0.2, "
    "mask_last_prob 0.1, precision fp32, compile False, seed 0",
    ModelConfig: "causal True, dim 64, blocks 2, heads 2, dropout 0.2, item_dropout 0.0, length 50, temperature 0.0, "
    "output_layer False, recurrent False",
    Distillation: "alpha 0.4, beta True, projection teacher, loss mse, temperature 0.1, block last, aggregation mean, "
    "gamma 0.1, phase1_fraction 0.5, patience 0, anneal False, shuffled False, probe False",
    ItemText: "id_dropout 0.2",
}


@pytest.mark.parametrize("config", DEFAULTS)
def test_a_default_that_changes_needs_another_engine_version(config):
    values = [f"{name} {value}" for name, value in to_dict(config()).items() if name != "model"]
    assert engine.ENGINE_VERSION == 2 and ", ".join(values) == DEFAULTS[config]


def test_a_run_is_named_by_what_differs_from_the_defaults():
    taught = TrainConfig(model=ModelConfig(blocks=1), distillation=Distillation(), seed=3)
    assert settings(taught) == {"model": {"blocks": 1}, "distillation": {"block": 1}, "seed": 3}
    assert settings(TrainConfig(item_text=ItemText())) == {"item_text": {}}
    assert settings(TrainConfig(model=ModelConfig())) == {}


def test_a_damaged_checkpoint_is_named(data, tmp_path):
    folder = tmp_path / run_key(SMALL, data) / "checkpoint"
    folder.mkdir(parents=True)
    (folder / checkpoint.FILE).write_bytes(b"cut")
    with pytest.raises(UserError, match=r"checkpoint\.safetensors: damaged .* remove it to train this run anew"):
        train(SMALL, data, tmp_path)


def test_a_run_killed_with_sigkill_goes_on_and_ends_as_an_unbroken_one(data, tmp_path, monkeypatch):
    long = replace(SMALL, epochs=12, distillation=Distillation())
    whole = outcome(long, data, tmp_path / "whole")
    path = tmp_path / "broken" / run_key(long, data) / "checkpoint" / "checkpoint.safetensors"
    child = get_context("spawn").Process(target=train, args=(long, data, tmp_path / "broken"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # sums in the order of this process
    child.start()
    while child.is_alive() and not path.exists():
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert path.exists() and not (path.parents[1] / "metrics.json").exists()
    epoch, trained = engine.epoch, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "epoch", lambda *parts: trained.append(1) or epoch(*parts))
        assert same(outcome(long, data, tmp_path / "broken"), whole)
    assert len(trained) < long.epochs


def test_two_processes_train_a_run_once(data, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("SEQDISTILL_HEADLESS", "1")
    runs = [get_context("spawn").Process(target=train, args=(SMALL, data, tmp_path)) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert [run.exitcode for run in runs] == [0, 0] and capfd.readouterr().err.count("CPU s") == 1
    names = {path.name for path in (tmp_path / run_key(SMALL, data)).iterdir()} - {"lock"}
    assert names == {"config.json", "cost.json", "metrics.json", "model.safetensors", "ranks.parquet"}


def test_keys_tell_runs_apart(data):
    taught, other = replace(SMALL, distillation=Distillation()), replace(data, teacher=data.teacher + 1)
    begun = [replace(data, start=torch.full((data.items, 16), value)) for value in (0.0, 1.0)]
    runs = [(SMALL, data), (replace(SMALL, seed=1), data), (taught, data), (taught, other)]
    assert len({run_key(*run) for run in runs} | {run_key(SMALL, start) for start in begun}) == 6
    assert run_key(SMALL, data) == run_key(SMALL, other), "which a plain student does not read"


def test_keys_follow_the_content(data, events):
    again = training_data(events.copy(), 30, data.teacher.clone())
    assert (again.key, again.digests) == (data.key, data.digests)
    moved = events.assign(item=events["item"].where(events.index != 7, 1 + events["item"] % 30))
    assert training_data(moved, 30).key != data.key != training_data(events, 31).key
    assert training_data(events, 30, data.teacher + 1e-6).digests != data.digests


def test_a_teacher_made_from_other_events_is_refused(data, events, tmp_path):
    for name in ("events", "items"):
        save_table(events, tmp_path / f"{name}.parquet", "new")
    save_file({"teacher": data.teacher}, tmp_path / "teacher.safetensors", metadata={"events": "old"})
    with pytest.raises(UserError, match=r"teacher\.safetensors: stale, made from other events"):
        load_training_data(tmp_path)
    save_table(events, tmp_path / "items.parquet", "old")
    with pytest.raises(UserError, match=r"items\.parquet: stale"):
        load_training_data(tmp_path)


def test_a_teacher_may_be_named_by_what_it_is_made_from(data, tmp_path):
    taught, moved = replace(SMALL, distillation=Distillation()), replace(data, teacher=data.teacher * 1.01)
    named, renamed = (replace(data, teacher_key=name) for name in ("facts", "profiles"))
    assert run_key(taught, named) == run_key(taught, replace(moved, teacher_key="facts"))
    assert len({run_key(taught, one) for one in (data, named, renamed)}) == 3
    assert run_key(SMALL, named) == run_key(SMALL, data)
    assert run_key(taught, engine.with_teacher(named, moved.teacher)) == run_key(taught, moved)
    for about, expected in (({}, moved), ({"name": "facts"}, named)):
        save_teacher(tmp_path / "teacher", moved.teacher, {"events": "key"} | about)
        read = engine.taught_by(renamed, tmp_path / "teacher", "key")
        assert run_key(taught, read) == run_key(taught, expected)

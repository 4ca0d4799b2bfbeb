from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from seqdistill import train as engine
from seqdistill.artifacts import BookError, load_json, load_table
from seqdistill.config import Distillation, Run, Student, parse, plain
from seqdistill.sweep import plan, ranks, sweep
from seqdistill.train import run_key, train

SMALL = Run(student=Student(dim=16, blocks=2, heads=2, length=10), epochs=4, batch=8, lr=0.01)


def outcome(config, given, folder):
    train(config, given, folder)
    home = folder / run_key(config, given)
    return load_file(home / "model.safetensors"), load_table(home / "ranks.parquet"), load_json(home / "metrics.json")


def test_the_circle_is_learned(given, tmp_path):
    result = train(replace(SMALL, epochs=20), given, tmp_path)
    assert result["test"]["kept"]["recall@5"] > 0.9


@pytest.mark.parametrize("beta", [True, False])
def test_alpha_zero_equals_the_plain_student(given, tmp_path, beta):
    taught = replace(SMALL, distillation=Distillation(alpha=0.0, beta=beta, share=1.0))
    for ours, theirs in zip(*(outcome(run, given, tmp_path)[0].items() for run in (taught, SMALL)), strict=True):
        assert ours[0] == theirs[0]
        torch.testing.assert_close(ours[1], theirs[1])


def test_the_saved_student_is_the_plain_student(given, tmp_path):
    taught = replace(SMALL, distillation=Distillation(side="student"))
    shapes = [{k: v.shape for k, v in outcome(run, given, tmp_path)[0].items()} for run in (SMALL, taught)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_resumed_run_equals_an_unbroken_one(given, tmp_path, monkeypatch, after):
    taught = replace(SMALL, distillation=Distillation(share=0.5))
    whole = outcome(taught, given, tmp_path / "whole")
    keep, calls = engine.keep, []

    def killed(*arguments):
        keep(*arguments)
        calls.append(1)
        if len(calls) == after:
            raise KeyboardInterrupt

    monkeypatch.setattr(engine, "keep", killed)
    with pytest.raises(KeyboardInterrupt):
        train(taught, given, tmp_path / "broken")
    monkeypatch.setattr(engine, "keep", keep)
    resumed = outcome(taught, given, tmp_path / "broken")
    assert all(torch.equal(whole[0][name], resumed[0][name]) for name in whole[0])
    assert whole[1].equals(resumed[1]) and whole[2] == resumed[2]


def test_a_finished_run_is_not_trained_again(given, tmp_path, monkeypatch):
    first = train(SMALL, given, tmp_path)
    monkeypatch.setattr(engine, "epoch", None)
    assert train(SMALL, given, tmp_path) == first


def test_keys_tell_runs_apart(given):
    other = replace(given, teacher_key="other")
    taught = replace(SMALL, distillation=Distillation())
    assert run_key(SMALL, given) == run_key(SMALL, other)
    keys = [
        run_key(SMALL, given),
        run_key(replace(SMALL, seed=1), given),
        run_key(taught, given),
        run_key(taught, other),
    ]
    assert len(set(keys)) == 4


def test_sweep_finishes_every_run_and_two_workers_equal_one(given, tmp_path):
    runs = plan({"plain": SMALL, "distilled": replace(SMALL, distillation=Distillation())}, [0, 1])
    sweep(runs, given, tmp_path / "two", workers=2)
    sweep(runs, given, tmp_path / "one", workers=1)
    one, two = (ranks(runs, given, tmp_path / name) for name in ("one", "two"))
    assert [len(frames) for frames in one.values()] == [2, 2]
    assert all(a.equals(b) for name in one for a, b in zip(one[name], two[name], strict=True))


def test_a_config_survives_json():
    taught = replace(SMALL, distillation=Distillation(side="frozen"))
    assert parse(Run, plain(taught), "test") == taught


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epocks": 3}, '"epocks" is not a setting of Run \\(did you mean "epochs"\\?\\)'),
        ({"student": {"dropout": 1.5}}, '"dropout" = 1.5'),
        ({"epochs": "many"}, "\"epochs\" = 'many'"),
    ],
)
def test_a_wrong_setting_is_named(values, message):
    with pytest.raises(BookError, match=message):
        parse(Run, values, "test")

import re
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from seqdistill.config import Distillation, ModelConfig, TrainConfig, parse, to_dict
from seqdistill.evaluation.ranking import load_ranks
from seqdistill.io import UserError, load_json, save_json
from seqdistill.training import loop
from seqdistill.training import train as engine
from seqdistill.training.loop import AdamW, training_rows
from seqdistill.training.train import run_key, train, training_data

SMALL = TrainConfig(model=ModelConfig(dim=16, blocks=2, heads=2, length=10), epochs=4, batch=8, lr=0.01)


def outcome(config, data, folder):
    train(config, data, folder)
    home = folder / run_key(config, data)
    return load_file(home / "model.safetensors"), load_ranks(home / "ranks.parquet"), load_json(home / "metrics.json")


@pytest.mark.parametrize(
    "setting",
    [
        {"precision": "bf16", "model": replace(SMALL.model, temperature=0.1)},
        {
            "model": replace(SMALL.model, causal=False),
            "mask_prob": 0.3,
            "mask_last_prob": 0.3,
            "epochs": 80,
            "lr": 0.005,
        },
    ],
    ids=["bf16", "bert4rec"],
)
def test_the_circle_is_learned(data, tmp_path, setting):
    result = train(replace(SMALL, **{"epochs": 20} | setting), data, tmp_path)
    assert result["test"]["included"]["recall@5"] > 0.9


def test_adamw_is_torchs_and_leaves_alone_what_has_no_gradient():
    ours, theirs = ([torch.nn.Parameter(torch.arange(1.0, size)) for size in (4, 3, 2)] for _ in range(2))
    mine, torchs = AdamW(ours, 0.1), torch.optim.AdamW(theirs, weight_decay=0.01, fused=True)
    for number in range(5):
        mine.lr = torchs.param_groups[0]["lr"] = 0.1 / (1 + number)
        for weights, optimizer in ((ours, mine), (theirs, torchs)):
            (weights[0].square().sum() + (weights[1].exp().sum() if number % 2 else 0)).backward()
            optimizer.step()
        torchs.zero_grad()
    assert all(map(torch.equal, ours, theirs)) and ours[2].item() == 1


def test_a_run_leaves_the_compiler_alone(tmp_path):
    code = (
        "import sys, pandas; from seqdistill import ModelConfig, TrainConfig, prepare, train;"
        "plays = [(user, item, item) for user in range(20) for item in range(6)];"
        "data = prepare(pandas.DataFrame(plays, columns=['user_id', 'item_id', 'timestamp']));"
        "train(TrainConfig(ModelConfig(dim=8), epochs=1), data, sys.argv[1]); sys.exit('torch._dynamo' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_an_annealed_alpha_reaches_zero_when_phase_one_is_over(data, tmp_path):
    run = replace(SMALL, distillation=Distillation(phase1_fraction=0.5, anneal=True))
    assert [loop.annealed(run, number).distillation.alpha for number in (0, 1, 2)] == pytest.approx([0.4, 0.2, 0.0])
    switched = replace(run, distillation=replace(run.distillation, anneal=False))
    curves = [[log["loss_model"] for log in train(one, data, tmp_path)["history"]] for one in (run, switched)]
    assert curves[0][0] == curves[1][0] and curves[0][2] != curves[1][2]


def test_a_run_without_gain_stops_and_keeps_its_best(data, tmp_path, monkeypatch):
    curve = iter([0.1, 0.3, 0.2, 0.2, 0.2, 0.9])
    real = engine.metrics
    monkeypatch.setattr(engine, "metrics", lambda ranks: real(ranks) | {"ndcg@10": next(curve, 0.0)})
    found = train(replace(SMALL, epochs=9, patience=3), data, tmp_path)
    assert len(found["history"]) == 5 and found["best_epoch"] == 2


def test_patience_waits_for_the_end_of_phase_one():
    alone = [{"valid_ndcg@10": value} for value in (0.5, 0.1, 0.1, 0.1, 0.1)]
    late = [log | {"loss_distil": 1.0} for log in alone[:3]] + alone[3:]
    run = replace(SMALL, epochs=9, patience=3)
    assert loop.finished(alone, run) and not loop.finished(late, run)
    assert not loop.finished(alone, replace(run, patience=0))


def test_phase_one_ends_by_its_share_or_its_patience_and_for_good():
    logs = [{"valid_ndcg@10": value, "loss_distil": 1.0} for value in (0.1, 0.3, 0.2, 0.2)]
    run = replace(SMALL, epochs=10, distillation=Distillation(phase1_fraction=0.4))
    assert [loop.in_phase_1(logs[:n], run) for n in range(5)] == [True] * 4 + [False]
    hasty = replace(run, distillation=Distillation(phase1_fraction=0.4, patience=1))
    assert [loop.in_phase_1(logs[:n], hasty) for n in range(4)] == [True] * 3 + [False]
    assert not loop.in_phase_1([*logs[:3], {"valid_ndcg@10": 0.9}], hasty)
    assert not loop.in_phase_1([], SMALL)


def test_progress_says_where_a_run_stands(data, tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(engine, "QUIET", -1.0)
    monkeypatch.setattr(engine, "announce", lines.append)
    train(SMALL, data, tmp_path)
    wanted = r"SASRec, seed 0 \([0-9a-f]{16}\): epoch 1 of 4, loss \d\.\d{3}, validation NDCG@10 0\.\d{4}, "
    assert re.fullmatch(wanted + r"\d+ sequences/s, at most \d+ min left", lines[0]) and len(lines) == 5


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_processes_train_the_model_that_one_would(events, tmp_path, compiled):
    exact = replace(SMALL, model=replace(SMALL.model, dropout=0.0), epochs=2, batch=7, compile=compiled)
    taught = replace(exact, batch=3, distillation=Distillation(loss="infonce", projection="student"))
    bert = replace(exact, model=replace(exact.model, causal=False))
    plan = [exact] if compiled else [replace(exact, distillation=Distillation()), taught, bert]
    save_json({"runs": [to_dict(run) for run in plan]}, tmp_path / "plan.json")
    events.to_parquet(tmp_path / "events.parquet")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    launch += [Path(__file__).parent / "two_processes.py", tmp_path]
    done = subprocess.run(launch, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    half = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    half[::2] = torch.nan
    whole = training_data(events, 30, half)
    for run in plan:
        two = load_json(tmp_path / "runs" / run_key(run, whole) / "metrics.json")
        one = train(run, whole, tmp_path / "one")
        for ours, theirs in zip(two["history"], one["history"], strict=True):
            losses = ["loss_model", *(("loss_distil", "target_variance") if "loss_distil" in theirs else ())]
            assert [ours[name] for name in losses] == pytest.approx([theirs[name] for name in losses], rel=1e-4)


@pytest.mark.parametrize(("causal", "beta", "projection"), [(True, True, "student"), (False, False, "teacher")])
def test_alpha_zero_equals_the_plain_student(data, tmp_path, causal, beta, projection):
    alone = replace(SMALL, model=replace(SMALL.model, causal=causal), epochs=2)
    setting = Distillation(alpha=0.0, beta=beta, phase1_fraction=1.0, projection=projection)
    ours, theirs = (outcome(run, data, tmp_path) for run in (replace(alone, distillation=setting), alone))
    torch.testing.assert_close(ours[0], theirs[0])
    steps = [[log["loss_model"] for log in run[2]["history"]] for run in (ours, theirs)]
    assert steps[0] == pytest.approx(steps[1], rel=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_phase_two_is_plain_training_from_the_weights_of_phase_one(data, causal):
    alone = replace(SMALL, model=replace(SMALL.model, causal=causal))
    taught, rows = replace(alone, distillation=Distillation(projection="student")), training_rows(data.train, alone)
    model, teacher, optimizer, machine = engine.fresh(taught, data)
    engine.epoch(rows, model, teacher, optimizer, taught, 0, machine)
    plain_model, _, plain_optimizer, _ = engine.fresh(alone, data)
    plain_model.load_state_dict(model.state_dict())
    plain_optimizer.state = deepcopy(optimizer.state[: len(plain_optimizer.trained)])
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    engine.epoch(rows, model, None, optimizer, taught, 1, machine)
    engine.epoch(rows, plain_model, None, plain_optimizer, alone, 1, machine)
    assert not before["item.weight"].equal(model.state_dict()["item.weight"])
    for name, weight in plain_model.state_dict().items():
        assert weight.equal(model.state_dict()[name]), name


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epocks": 3}, '"epocks" is not a setting \\(did you mean "epochs"\\?\\)'),
        ({"model": {"dropout": 1.5}}, '"model.dropout" = 1.5'),
        ({"model": {"heads": 3}}, '"heads" = 3 does not divide "dim" = 64'),
        ({"epochs": "many"}, "\"epochs\" = 'many'"),
        ({"epochs": 4, "distillation": {"phase1_fraction": 0.1}}, "of 4 epochs rounds to 0"),
    ],
)
def test_a_wrong_setting_is_named(values, message):
    with pytest.raises(UserError, match=message):
        parse(TrainConfig, values, "test")
    taught = replace(SMALL, distillation=Distillation(projection="teacher_frozen"))
    assert parse(TrainConfig, to_dict(taught), "test") == taught


def test_a_run_that_diverges_ends_with_its_epoch_and_a_lower_lr(data, tmp_path):
    config = replace(SMALL, lr=1e30)
    with pytest.raises(UserError, match=rf"{run_key(config, data)}.*epoch 1 of 4.*lower lr.*1e\+30"):
        train(config, data, tmp_path)


@pytest.mark.parametrize("form", ["float64", "numpy", "pandas", "transposed"])
def test_a_teacher_of_any_kind_is_the_same_run(data, form):
    teacher = torch.randn(40, 6)
    forms = {"float64": teacher.double(), "numpy": teacher.numpy(), "pandas": pd.DataFrame(teacher.numpy())}
    forms["transposed"] = teacher.T.contiguous().T
    ours, theirs = replace(data, teacher=teacher), replace(data, teacher=forms[form])
    assert ours.digests == theirs.digests and torch.equal(ours.teacher, theirs.teacher)


def test_a_teacher_that_fits_no_run_is_refused(data):
    teacher = torch.randn(40, 6)
    infinite = teacher.clone()
    infinite[3, 2] = torch.inf
    bad = [(teacher[:-1], "39"), (teacher[0], "6 values"), (infinite, "row 3 is neither")]
    for values, named in [*bad, (1000 * teacher, "not standardised"), (0 * teacher, "not standardised")]:
        with pytest.raises(UserError, match=named):
            replace(data, teacher=values)

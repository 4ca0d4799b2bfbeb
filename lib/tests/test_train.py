import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from seqdistill import train as engine
from seqdistill.artifacts import BookError, load_json, load_table, save_json, save_table
from seqdistill.config import Distillation, Run, Student, parse, plain
from seqdistill.epochs import AdamW, rate, training_rows
from seqdistill.splits import leave_last_k
from seqdistill.train import load_problem, probe, problem, run_key, student, train

SMALL = Run(student=Student(dim=16, blocks=2, heads=2, length=10), epochs=4, batch=8, lr=0.01)


def outcome(config, given, folder):
    train(config, given, folder)
    home = folder / run_key(config, given)
    return load_file(home / "model.safetensors"), load_table(home / "ranks.parquet"), load_json(home / "metrics.json")


BERT = replace(SMALL, student=replace(SMALL.student, causal=False), masked=0.3, last_share=0.3)


@pytest.mark.parametrize(
    ("setting", "least"),
    [
        ({}, 0.9),
        ({"schedule": "cosine", "warmup": 1.0, "windows": "last"}, 0.9),
        ({"loss": "sampled", "negatives": 10}, 0.9),
        ({"loss": "bce", "negatives": 5}, 0.8),
        ({"loss": "gbce", "negatives": 5, "epochs": 60}, 0.9),
        ({"precision": "bf16"}, 0.9),
        ({"student": replace(SMALL.student, temperature=0.1)}, 0.9),
    ],
)
def test_the_circle_is_learned(given, tmp_path, setting, least):
    result = train(replace(SMALL, **{"epochs": 20} | setting), given, tmp_path)
    assert result["test"]["kept"]["recall@5"] > least


def test_bert4rec_learns_the_circle(given, tmp_path):
    assert train(replace(BERT, epochs=80, lr=0.005), given, tmp_path)["test"]["kept"]["recall@5"] > 0.9


def test_adamw_is_torchs_and_leaves_alone_what_has_no_gradient():
    torch.manual_seed(0)
    ours = [
        torch.nn.Parameter(torch.randn(3, 2)),
        torch.nn.Parameter(torch.randn(4)),
        torch.nn.Parameter(torch.ones(1)),
    ]
    theirs = [torch.nn.Parameter(weight.detach().clone()) for weight in ours]
    mine, torchs = AdamW(ours, 0.1, 0.01), torch.optim.AdamW(theirs, weight_decay=0.01, fused=True)
    for number in range(5):
        mine.lr = torchs.param_groups[0]["lr"] = 0.1 / (1 + number)
        for weights, optimizer in ((ours, mine), (theirs, torchs)):
            (weights[0].square().sum() + (weights[1].exp().sum() if number % 2 else 0)).backward()
            optimizer.step()
            optimizer.zero_grad()
    for mine, theirs_ in zip(ours, theirs, strict=True):
        assert torch.equal(mine, theirs_)
    assert ours[2].item() == 1


def test_a_run_leaves_the_compiler_alone(tmp_path):
    code = (
        "import sys, numpy, pandas; from pathlib import Path; from seqdistill.train import problem, train;"
        "from seqdistill.config import Run, Student; user = numpy.repeat(range(20), 6);"
        "split = numpy.tile(['train'] * 4 + ['valid', 'test'], 20); item = 1 + numpy.arange(120) % 7;"
        "events = pandas.DataFrame({'user': user, 'item': item, 'time': range(120), 'split': split});"
        "train(Run(student=Student(dim=8), epochs=1), problem(events, 7), Path(sys.argv[1]));"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_the_learning_rate_rises_then_falls():
    run = replace(SMALL, epochs=10, warmup=2.0, schedule="cosine", lr=1.0)
    assert [rate(run, done) for done in (0, 1, 5, 10)] == pytest.approx([0, 0.5 * 0.9755283, 0.5, 0], abs=1e-6)
    assert [rate(replace(SMALL, lr=0.3), done) for done in (0, 4)] == [0.3, 0.3]


def test_a_run_without_gain_stops_and_keeps_its_best(given, tmp_path, monkeypatch):
    curve = iter([0.1, 0.3, 0.2, 0.2, 0.2, 0.9])
    real = engine.metrics
    monkeypatch.setattr(engine, "metrics", lambda ranks: real(ranks) | {"ndcg@10": next(curve, 0.0)})
    found = train(replace(SMALL, epochs=9, patience=3), given, tmp_path)
    assert len(found["history"]) == 5 and found["best_epoch"] == 2


def test_patience_waits_for_the_end_of_phase_one():
    alone = [{"valid_ndcg@10": 0.5}] + [{"valid_ndcg@10": 0.1}] * 4
    late = [{**log, "loss_distil": 1.0} for log in alone[:3]] + alone[3:]
    run = replace(SMALL, epochs=9, patience=3)
    assert engine.finished(alone, run) and not engine.finished(late, run)
    assert not engine.finished(alone, replace(run, patience=0))


def test_phase_one_ends_by_its_share_or_its_patience_and_for_good():
    logs = [{"valid_ndcg@10": value, "loss_distil": 1.0} for value in (0.1, 0.3, 0.2, 0.2)]
    run = replace(SMALL, epochs=10, distillation=Distillation(share=0.4))
    assert [engine.taught(logs[:n], run) for n in range(5)] == [True] * 4 + [False]
    hasty = replace(run, distillation=Distillation(share=0.4, patience=1))
    assert [engine.taught(logs[:n], hasty) for n in range(4)] == [True] * 3 + [False]
    assert not engine.taught([*logs[:3], {"valid_ndcg@10": 0.9}], hasty)
    assert not engine.taught([], SMALL)


def test_the_papers_windows_are_the_last_events(given):
    every, last = (training_rows(given.train, replace(SMALL, windows=kind)) for kind in ("all", "last"))
    assert len(last) == 40 < len(every)
    assert all((last.row(i) == given.train.row(i)[-11:]).all() for i in range(40))
    assert training_rows(given.train, BERT).lengths.max() == 10


def test_progress_says_where_a_run_stands(given, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "QUIET", -1.0)
    lines = []
    train(SMALL, given, tmp_path, lines.append)
    assert len(lines) == 5
    wanted = r"run [0-9a-f]{16}: epoch 1 of 4, loss \d\.\d{3}, validation NDCG@10 0\.\d{4}, \d+ sequences/s, at most \d+ min left"
    assert re.fullmatch(wanted, lines[0])


def test_two_processes_train_the_model_that_one_would(events, tmp_path):
    exact = replace(SMALL, student=replace(SMALL.student, dropout=0.0), epochs=3, batch=7)
    plan = [
        exact,
        replace(exact, distillation=Distillation(share=0.7)),
        replace(exact, batch=3, distillation=Distillation(share=0.7, loss="infonce", side="student")),
        replace(exact, student=replace(exact.student, causal=False)),
    ]
    save_json({"runs": [plain(run) for run in plan]}, tmp_path / "plan.json")
    events.to_parquet(tmp_path / "events.parquet")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    done = subprocess.run(
        [*launch, Path(__file__).parent / "two_processes.py", tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    half = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    half[::2] = torch.nan
    whole = problem(events, 30, half)
    for run in plan:
        two, one = (
            load_json(tmp_path / "runs" / run_key(run, whole) / "metrics.json"),
            train(run, whole, tmp_path / "one"),
        )
        for ours, theirs in zip(two["history"], one["history"], strict=True):
            losses = ["loss_model", *(("loss_distil", "target_variance") if "loss_distil" in theirs else ())]
            assert [ours[name] for name in losses] == pytest.approx([theirs[name] for name in losses], rel=1e-4)


@pytest.mark.parametrize("beta", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_alpha_zero_equals_the_plain_student(given, tmp_path, beta, causal):
    alone = replace(SMALL, student=replace(SMALL.student, causal=causal))
    taught = replace(alone, distillation=Distillation(alpha=0.0, beta=beta, share=1.0))
    for ours, theirs in zip(*(outcome(run, given, tmp_path)[0].items() for run in (taught, alone)), strict=True):
        assert ours[0] == theirs[0]
        torch.testing.assert_close(ours[1], theirs[1])


def test_the_saved_student_is_the_plain_student(given, tmp_path):
    taught = replace(SMALL, distillation=Distillation(side="student"))
    shapes = [{k: v.shape for k, v in outcome(run, given, tmp_path)[0].items()} for run in (SMALL, taught)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(("after", "causal"), [(1, True), (2, True), (3, True), (2, False)])
def test_a_resumed_run_equals_an_unbroken_one(given, tmp_path, monkeypatch, after, causal):
    shape = replace(SMALL.student, causal=causal)
    taught = replace(SMALL, student=shape, schedule="cosine", warmup=1.0, distillation=Distillation(share=0.5))
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


def same(one, other):
    return all(torch.equal(one[0][name], other[0][name]) for name in one[0]) and one[1].equals(other[1])


@pytest.mark.parametrize("damage", ["state", "best", "progress", "gone"])
def test_a_damaged_checkpoint_is_not_used(given, tmp_path, monkeypatch, damage):
    keep = engine.keep

    def killed(*arguments):
        keep(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "keep", killed)
    with pytest.raises(KeyboardInterrupt):
        train(SMALL, given, tmp_path / "broken")
    monkeypatch.setattr(engine, "keep", keep)
    checkpoint = tmp_path / "broken" / run_key(SMALL, given) / "checkpoint"
    names = {"state": "state-1.safetensors", "best": "best-1.safetensors", "progress": "progress.json"}
    if damage == "gone":
        (checkpoint / names["state"]).unlink()
    else:
        (checkpoint / names[damage]).write_bytes(b"{")
    monkeypatch.setenv("SEQDISTILL_LOG", str(tmp_path / "log"))
    assert same(outcome(SMALL, given, tmp_path / "broken"), outcome(SMALL, given, tmp_path / "whole"))
    assert "its checkpoint is damaged" in (tmp_path / "log").read_text()


def test_a_run_killed_with_sigkill_goes_on_and_ends_as_an_unbroken_one(given, tmp_path):
    long = replace(SMALL, epochs=12, distillation=Distillation())
    whole = outcome(long, given, tmp_path / "whole")
    checkpoint = tmp_path / "broken" / run_key(long, given) / "checkpoint" / "progress.json"
    child = get_context("spawn").Process(target=train, args=(long, given, tmp_path / "broken"))
    child.start()
    while child.is_alive() and not checkpoint.exists():
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert checkpoint.exists() and not (checkpoint.parent.parent / "metrics.json").exists()
    done = len(load_json(checkpoint)["history"])
    epoch, trained = engine.epoch, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "epoch", lambda *given: trained.append(1) or epoch(*given))
        assert same(outcome(long, given, tmp_path / "broken"), whole)
    assert len(trained) == long.epochs - done < long.epochs


def test_two_processes_train_a_run_once(given, tmp_path):
    runs = [get_context("spawn").Process(target=train, args=(SMALL, given, tmp_path)) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert [run.exitcode for run in runs] == [0, 0]
    home = tmp_path / run_key(SMALL, given)
    assert sorted(path.name for path in home.iterdir() if path.name != "lock") == [
        "config.json",
        "cost.json",
        "metrics.json",
        "model.safetensors",
        "ranks.parquet",
    ]


def test_the_saved_student_ranks_as_its_run_did(given, tmp_path):
    _, ranks, _ = outcome(SMALL, given, tmp_path)
    model = student(tmp_path / run_key(SMALL, given), given.items)
    assert engine.rank(given.test, engine.model_score(model)).equals(ranks)
    alone = [
        engine.user_vector(model(ids)[1][-2], ids > 0)
        for row in (0, 1)
        for ids in [torch.from_numpy(given.train.row(row)[-10:])[None]]
    ]
    read = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "probe_r2", lambda h, vectors: read.update(h=h, vectors=vectors) or 0.0)
        probe(model, given)
    torch.testing.assert_close(read["h"][:2], torch.cat(alone))
    assert len(read["h"]) == 39 and not read["vectors"].isnan().any()


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


def test_keys_follow_the_content(given, events):
    again = problem(events.copy(), 30, given.teacher.clone())
    assert (again.events_key, again.teacher_key) == (given.events_key, given.teacher_key)
    moved = events.assign(item=events["item"].where(events.index != 7, 1 + events["item"] % 30))
    assert problem(moved, 30).events_key != given.events_key != problem(events, 31).events_key
    assert problem(events, 30, given.teacher + 1e-6).teacher_key != given.teacher_key


def test_a_teacher_made_from_other_events_is_refused(given, events, tmp_path):
    for name in ("events", "items"):
        save_table(events, tmp_path / f"{name}.parquet", "new")
    save_file({"teacher": given.teacher}, tmp_path / "teacher.safetensors", metadata={"events": "old"})
    with pytest.raises(BookError, match=r"teacher\.safetensors: stale, made from other events"):
        load_problem(tmp_path)
    save_table(events, tmp_path / "items.parquet", "old")
    with pytest.raises(BookError, match=r"items\.parquet: stale"):
        load_problem(tmp_path)


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


def test_a_phase_1_that_rounds_to_nothing_is_refused():
    with pytest.raises(BookError, match="of 4 epochs rounds to 0"):
        replace(SMALL, distillation=Distillation(share=0.1))


def test_own_arrays_need_five_lines(tmp_path):
    users, items = np.repeat(np.arange(20), 8), np.tile(np.arange(1, 9), 20)
    events = pd.DataFrame({"user": users, "item": items, "time": np.tile(np.arange(8), 20)})
    events["split"] = leave_last_k(events, 1)
    given = problem(events, items=8)
    run = Run(student=Student(dim=16, blocks=1, heads=1, length=8), epochs=30, batch=8, lr=0.01)
    found = train(run, given, tmp_path)
    assert found["test"]["kept"]["recall@5"] == 1
    assert 0 < found["coverage@10"] <= 1
    model = student(tmp_path / run_key(run, given), items=8)
    assert model.score(torch.tensor([[1, 2, 3]])).argmax().item() + 1 == 4

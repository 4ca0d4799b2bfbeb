from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import presets
import pytest
from seqbook.idgenrec import rivals
from seqbook.idgenrec import train as idgenrun
from seqbook.idgenrec.ids import templates, word_tokenizer
from seqbook.idgenrec.model import IDGenRec, scratch
from seqdistill.config import Distillation, to_dict
from seqdistill.evaluation.ranking import MISS, load_ranks
from seqdistill.io import UserError, load_json, save_json
from seqdistill.training.sweep import cost, plan, run_folder, sweep
from seqdistill.training.train import ENGINE_VERSION
from test_idgenrec import SMALL, TEXTS, TINY


def test_the_rank_is_the_place_in_the_list_and_beyond_it_a_miss(given):
    chosen = rivals.last_cases(given.test, 3, 0)
    target = given.test.targets[chosen]
    seen = int(given.test.histories.row(chosen[1])[0])
    other = next(item for item in range(1, 31) if item not in {seen, *target})
    lists = np.array([[target[0], other], [seen, target[1]], [other, 0]])
    ranks = idgenrun.ranked(given, chosen, lists)
    assert ranks["rank_all"].tolist() == [1, 2, MISS] and ranks["rank_unseen"].tolist() == [1, 1, MISS]
    assert ranks["item"].tolist() == target.tolist() and ranks["position"].tolist() == [1, 1, 1]


@pytest.fixture
def chosen(given):
    return rivals.last_cases(given.test, 6, 0)


def test_a_rerun_reads_the_finished_run(given, chosen, tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(idgenrun, "announce", lines.append)
    first = idgenrun.train(TINY, given, TEXTS, chosen, tmp_path)
    assert len(lines) == 3 and lines[1].endswith("min left") and "generator" in lines[1]
    assert idgenrun.train(TINY, given, TEXTS, chosen, tmp_path) == first and len(lines) == 3
    swept = idgenrun.sweep({("IDGenRec", 0): TINY}, given, TEXTS, chosen, tmp_path)["IDGenRec", 0]
    home = tmp_path / idgenrun.key(TINY, given, TEXTS, chosen)
    assert first["folder"] == swept["folder"] == home
    assert load_ranks(home / "ranks.parquet")["user"].tolist() == given.test.histories.users[chosen].tolist()
    assert {path.name for path in home.iterdir()} >= {"config.json", "ids.json", "model.safetensors", "cost.json"}
    assert first["infer_cases"] == 6 and first["prefixes_per_epoch"] == 24 < first["prefixes"]
    passes = [log["cpu_s"] for log in first["history"] if log["trained"] == "recommender"]
    expected = np.mean(passes) / 24 * first["prefixes"]
    assert rivals.cost(first)["train_cpu_s_per_epoch"] == pytest.approx(expected)
    assert rivals.cost(first, 2.0)["train_cpu_s_per_epoch"] == pytest.approx(2 * expected)
    assert len(set(load_json(home / "ids.json")["ids"])) == 30
    assert "1 to train" in cost(plan({"plain": SMALL}, [0], given), tmp_path, 1)  # the students' sweep looks past it


def test_a_killed_run_goes_on_from_its_last_epoch(given, chosen, tmp_path, monkeypatch):
    lines = []

    def killed(line):
        lines.append(line)
        if len(lines) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(idgenrun, "announce", killed)
    with pytest.raises(KeyboardInterrupt):
        idgenrun.train(TINY, given, TEXTS, chosen, tmp_path / "cut")
    cut, whole = (idgenrun.train(TINY, given, TEXTS, chosen, tmp_path / name) for name in ("cut", "whole"))
    assert [line.split(":")[1][:14] for line in lines] == [f" epoch {number} of 3 " for number in (1, 2, 3, 1, 2, 3)]
    assert [log["loss"] for log in cut["history"]] == [log["loss"] for log in whole["history"]]
    ranks = [load_ranks(run["folder"] / "ranks.parquet") for run in (cut, whole)]
    ids = [load_json(run["folder"] / "ids.json") for run in (cut, whole)]
    assert ranks[0].equals(ranks[1]) and ids[0] == ids[1] and not (cut["folder"] / "checkpoint").exists()


def test_the_students_epochs_are_timed_as_many_at_once_as_the_rivals_train(given, tmp_path, monkeypatch):
    alone = SimpleNamespace(alone=SMALL)
    monkeypatch.setattr(rivals, "setups", lambda *arguments: [alone])
    assert len(rivals.epoch_seconds(SMALL, given, 2)) == 2
    timed = []
    times = lambda tasks: [timed.append(task[1]) or [float(len(timed))] * 2 for task in tasks]  # noqa: E731
    monkeypatch.setattr(rivals, "Parallel", lambda n_jobs: times)
    assert rivals.student_seconds(tmp_path, given, 3) == 2 and timed == [(SMALL, given)] * 3


def test_weights_of_a_folder_stand_for_those_of_the_hub(given, tmp_path):
    tokenizer = word_tokenizer([*TEXTS, *templates()])
    named = {name: str(tmp_path / name) for name in ("recommender", "generator")}
    for folder in named.values():
        scratch(TINY, len(tokenizer)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    system = idgenrun.start(IDGenRec(**named, id_tokens=4), given, TEXTS)
    assert len({tuple(row) for row in system.ids}) == len(TEXTS)


def test_students_are_those_that_04_has_trained(given, tmp_path):
    students = {"SASRec": {"run": to_dict(SMALL), "teacher": to_dict(Distillation())}}
    save_json({"students": students, "own": {"projection": "student"}}, tmp_path / "artifacts" / "student.json")
    jobs = plan({"plain": SMALL, "distilled": replace(SMALL, distillation=Distillation())}, [0, 1], given)
    sweep(jobs, tmp_path / "runs", workers=1)
    found = rivals.students(tmp_path, given, [0, 1], [], "")
    assert {name: len(frames) for name, frames in found.items()} == {"SASRec plain": 2, "SASRec distilled": 2}
    expected = load_ranks(run_folder(jobs["plain", 1], tmp_path / "runs") / "ranks.parquet")
    assert found["SASRec plain"][1].equals(expected)
    with pytest.raises(UserError, match="run 04-distillation first"):
        rivals.students(tmp_path, given, [2], [], "")


def test_cases_are_each_users_last(given):
    last, users = rivals.last_cases(given.test, 0, 0), pd.Series(given.test.histories.users)
    assert last.tolist() == users.drop_duplicates(keep="last").index.tolist()
    some, again = (rivals.last_cases(given.test, 7, 0).tolist() for _ in range(2))
    assert len(some) == 7 and set(some) <= set(last) and again == some == sorted(some)


def test_variants_cross_seeds_with_the_ways_of_writing_a_user_id():
    values = presets.values_of("beauty", "07-efficiency")["idgenrec"]
    assert {run.user_ids for run in rivals.variants(values, [0], "beauty").values()} == {"prefix", "leaking"}
    jobs = rivals.variants(values, [0, 1], "beauty", without_user_ids=True)
    assert [run.user_ids for run in jobs.values()] == ["prefix"] * 2 + ["none"] * 2 + ["leaking"] * 2
    assert all(run.seed == seed for (_, seed), run in jobs.items()) and len({name for name, _ in jobs}) == 3
    assert jobs["IDGenRec", 0].recommender == "google-t5/t5-small@df1b051c49625cf57a3d0d8d3863ed4d13564fe4"


WRONG = {
    "name both": {"recommender": "t5"},
    '"heads" = 4 does not divide "width" = 10': {"width": 10, "heads": 4},
    '"rouns" is not a setting \\(did you mean "rounds"\\?\\)': {"rouns": 2},
}


@pytest.mark.parametrize("says", WRONG)
def test_settings_are_checked(says):
    with pytest.raises(UserError, match=says):
        rivals.variants(WRONG[says], [0], "here")


def test_a_default_that_changes_needs_another_engine_version():
    known = {"recommender": "", "generator": "", "layers": 2, "width": 64, "heads": 2, "tag_epochs": 10, "rounds": 3}
    known |= {"recommender_epochs": 10, "generator_epochs": 1, "samples": 0, "generator_samples": 0, "batch": 64}
    known |= {"recommender_lr": 1e-3, "generator_lr": 1e-8, "beams": 10, "history": 20, "id_tokens": 10, "seed": 0}
    assert ENGINE_VERSION == 2 and to_dict(IDGenRec()) == known | {"user_ids": "prefix"}

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from seqbook import explorer as explore
from seqbook.reporting import figures
from seqdistill.config import Distillation, ModelConfig, TrainConfig, to_dict
from seqdistill.io import UserError, save_json, save_table
from seqdistill.training.sweep import Job
from seqdistill.training.train import load_training_data, run_key, train

RUN = TrainConfig(ModelConfig(dim=8, blocks=1, heads=1, length=10), epochs=3, batch=16, lr=0.01, seed=1)
TAUGHT = Distillation(phase1_fraction=0.4)


@pytest.fixture
def home(given, events, tmp_path):
    """What 01 to 04 leave: tables, vectors, the map, and two trained students."""
    artifacts = tmp_path / "artifacts"
    titles = [None if item == 4 else f"Title {item}" for item in range(30)]
    tables = {"events": events, "items": pd.DataFrame({"item": range(1, 31), "item_id": range(30), "title": titles})}
    tables["users"] = pd.DataFrame({"user": range(40), "user_id": [f"u{i}" for i in range(40)]})
    tables["profiles"] = pd.DataFrame({"user": [0, 1, *range(1, 40)], "text": [f"A viewer, {i}" for i in range(41)]})
    for name, table in tables.items():
        save_table(table, artifacts / f"{name}.parquet", "key")
    save_file({"teacher": given.teacher}, artifacts / "teacher.safetensors", metadata={"events": "key"})
    angle = np.linspace(0, 3, 40, dtype=np.float32)
    save_file({"vectors": torch.tensor(np.stack([np.cos(angle), np.sin(angle)], 1))}, artifacts / "reducer.safetensors")
    (tmp_path / "figures").mkdir()
    pd.DataFrame({"x": angle, "y": angle}).to_csv(tmp_path / "figures" / "map.csv", index=False)
    chosen = {"SASRec": {"run": to_dict(replace(RUN, seed=0)), "teacher": to_dict(TAUGHT)}}
    save_json({"students": chosen, "own": {}}, artifacts / "student.json")
    for run in (RUN, replace(RUN, distillation=TAUGHT)):
        train(run, load_training_data(artifacts), tmp_path / "runs")
    return tmp_path


@pytest.fixture
def world(home):
    return explore.load(home, "SASRec", 1)


def test_a_user_is_shown_as_the_chapters_left_it(world, events):
    assert world.texts[1] == "A viewer, 1\nA viewer, 2" and world.titles[5] == "4"
    own = events[events["user"] == 7]
    for test in (False, True):
        assert [*explore.events_of(world, 7, test)] == own.loc[(own["split"] == "test") == test, "item"].tolist()
    near = explore.neighbours(world, 7, 4).index.tolist()
    assert set(near[:2]) == {6, 8} and set(near[2:]) == {5, 9}
    assert explore.introduced(world, 7).index[0] in ("u6", "u8")


def test_lists_are_those_of_the_two_students_without_what_was_chosen(home, world):
    given = load_training_data(home / "artifacts")
    lists = explore.recommended(world, 7)
    history = explore.events_of(world, 7, test=False)
    for name, run in {"plain": RUN, "distilled": replace(RUN, distillation=TAUGHT)}.items():
        model = explore.load_model(home / "runs" / run_key(*Job(run, given)))
        scores = model.score(torch.tensor(history[-10:])[None])[0].clone()
        scores[history - 1] = -torch.inf
        assert lists[name] == (scores.topk(10).indices + 1).tolist()
    assert lists["plain"] != lists["distilled"]
    table = explore.side_by_side(world, 7)
    ticked = [item in explore.events_of(world, 7, test=True) for item in lists["plain"]]
    assert table["plain"].str.endswith(" ✓").tolist() == ticked


def test_an_added_event_counts_and_leaves_the_list(world):
    before = explore.recommended(world, 7)
    first = before["plain"][0]
    after = explore.recommended(world, 7, (first,))
    assert first not in after["plain"] and after != before
    ranks = [before["plain"].index(item) + 1 if item in before["plain"] else "new" for item in after["plain"]]
    assert explore.changed(world, 7, first)["plain: before"].tolist() == ranks and "new" in ranks


def test_the_panel_follows_its_menus(world):
    users, added, shown = explore.panel(world, 7, figures.explore).children
    assert users.value == 7 and len(users.options) == 40 and added.options[0] == ("nothing", 0)
    assert len(added.options) == 31 and shown is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda home: (home / "figures" / "map.csv").write_text("x,y\n1,2\n"), r"map\.csv: stale"),
        (lambda home: save_json({"students": {"BERT4Rec": {}}}, home / "artifacts" / "student.json"), "no 'SASRec'"),
        (lambda home: [path.unlink() for path in home.glob("runs/*/metrics.json")], 'no SASRec "plain" with seed 1'),
    ],
)
def test_what_is_missing_or_stale_is_named(home, change, message):
    change(home)
    with pytest.raises(UserError, match=message):
        explore.load(home, "SASRec", 1)


def test_where_04_distilled_none_the_plain_student_stands_alone(home):
    given = load_training_data(home / "artifacts")
    (home / "runs" / run_key(replace(RUN, distillation=TAUGHT), given) / "metrics.json").unlink()
    assert set(explore.load(home, "SASRec", 1).students) == {"plain"}
    with pytest.raises(UserError, match='no SASRec "distilled" with seed 1; there is plain'):
        explore.students(home, "SASRec", 1, "distilled")

"""The README's example: from a plain table of interactions to recommendations by the table's own ids."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from seqdistill import Distillation, ModelConfig, TrainConfig, load_model, prepare, recommend, train
from seqdistill.io import UserError

CONFIG = TrainConfig(model=ModelConfig(dim=16, blocks=1, heads=1, length=8), epochs=30, batch=8, lr=0.01)


@pytest.fixture
def interactions():
    """30 users walk round a circle of 20 items from different places; rows in no order."""
    rows = [(f"u{user}", f"i{(user + step) % 20}", 1_600_000_000 + step) for user in range(30) for step in range(8)]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]).sample(frac=1, random_state=0)


def test_the_import_is_fast_and_loads_no_torch():
    code = (
        "import sys, time; begun = time.perf_counter(); import seqdistill; spent = time.perf_counter() - begun;"
        "assert spent < 0.2 and not {'torch', 'pandas', 'numpy'} & set(sys.modules), spent;"
        "assert 'train' in dir(seqdistill) and not hasattr(seqdistill, 'tarin')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_equal_events_of_other_items_are_another_run(interactions, tmp_path):
    renamed = interactions.assign(item_id=interactions["item_id"].str.replace("i", "j"))
    first, second = (train(CONFIG, prepare(table), tmp_path)["folder"] for table in (interactions, renamed))
    assert first != second and set(recommend(load_model(second), prepare(renamed))["item_id"].str[0]) == {"j"}


def test_from_a_table_to_recommendations(interactions, tmp_path):
    data = prepare(interactions)
    run = train(CONFIG, data, tmp_path)
    model = load_model(run["folder"])
    assert run["test"]["included"]["recall@5"] == 1 and 0 < run["coverage@10"] <= 1
    table = recommend(model, data, ["u3", "u0"], k=2)
    assert table.columns.tolist() == ["user_id", "item_id", "rank"]
    assert table["user_id"].tolist() == ["u3", "u3", "u0", "u0"] and table["rank"].tolist() == [1, 2, 1, 2]
    assert table["item_id"].tolist()[::2] == ["i11", "i8"]  # what follows i10, and i7
    everyone = recommend(model, data, k=5)
    assert len(everyone) == 150 and everyone["user_id"].nunique() == 30 and recommend(model, data, []).empty
    assert not everyone.merge(interactions, on=["user_id", "item_id"]).size
    with pytest.raises(UserError, match="interactions: a pandas table is expected, not str"):
        prepare("plays.csv")
    with pytest.raises(UserError, match="recommend: unknown user_id: u99"):
        recommend(model, data, ["u99"])


@pytest.mark.parametrize("form", ["mapping", "index", "column"])
def test_teacher_vectors_go_by_user_id(interactions, tmp_path, form):
    vectors = {"u7": [1.0, 2.0], "u2": [3.0, 4.0]}
    table = pd.DataFrame(vectors).T
    forms = {"mapping": vectors, "index": table, "column": table.reset_index(names="user_id")}
    data = prepare(interactions, teacher=forms[form])
    ids = data.users.sort_values("user")["user_id"].tolist()
    assert data.teacher.dtype == torch.float32 and data.teacher.shape == (30, 2)
    assert data.teacher[ids.index("u7")].tolist() == [1, 2] and data.teacher[ids.index("u2")].tolist() == [3, 4]
    assert np.isnan(data.teacher.numpy()).any(1).sum() == 28
    config = TrainConfig(model=CONFIG.model, epochs=2, distillation=Distillation())
    assert "loss_distil" in train(config, data, tmp_path)["history"][0]


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ({"nobody": [1.0]}, 'teacher: "nobody" is not a user_id of the interactions'),
        ({"u1": [1.0, float("nan")]}, 'the vector of "u1" holds NaN'),
        ({"u1": [1.0], "u2": [1.0, 2.0]}, "teacher: all vectors must have one length"),
        (np.ones((30, 2)), "not ndarray"),
    ],
)
def test_teacher_vectors_that_do_not_fit_are_named(interactions, vectors, message):
    with pytest.raises(UserError, match=message):
        prepare(interactions, teacher=vectors)


def test_later_interactions_go_by_the_items_ids(interactions, tmp_path):
    data = prepare(interactions)
    model = load_model(train(CONFIG, data, tmp_path)["folder"])
    user = interactions["user_id"].iloc[0]
    before = recommend(model, data, [user], k=3)
    last = interactions[interactions["user_id"] == user].tail(1)
    new = pd.concat([interactions, last.assign(item_id="a-new-item", timestamp=last["timestamp"] + 10**6)])
    pd.testing.assert_frame_equal(recommend(model, prepare(new), [user], k=3), before)
    once = pd.DataFrame({"user_id": ["new"], "item_id": interactions["item_id"].iloc[:1], "timestamp": [5]})
    assert len(recommend(model, prepare(once, protocol=None), ["new"], k=3)) == 3
    fewer = interactions[~interactions["item_id"].isin(["i1"])]
    assert set(recommend(model, prepare(fewer), k=2)["item_id"]) <= set(interactions["item_id"])
    renamed = prepare(interactions.assign(item_id="z" + interactions["item_id"]))
    with pytest.raises(UserError, match=rf"knows no item of user {data.users['user_id'].iloc[0]} \(30 such\)"):
        recommend(model, renamed)
    model.item_ids = None
    with pytest.raises(UserError, match="recommend: the student knows"):
        recommend(model, prepare(new))
    with pytest.raises(UserError, match="holds no finished run"):
        load_model(tmp_path / "nowhere")

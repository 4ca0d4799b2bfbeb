import collections
import sys
from dataclasses import replace

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from seqdistill.config import Distillation, ModelConfig, TrainConfig, gru4rec
from seqdistill.evaluation.ranking import model_score, rank
from seqdistill.io import UserError
from seqdistill.serving import export as serving
from seqdistill.training.sweep import Job, run_folder
from seqdistill.training.train import load_model, train, training_data

ITEMS = 60
SHAPE = ModelConfig(dim=16, blocks=2, heads=2, length=50)
RUNS = {"SASRec": TrainConfig(model=SHAPE, epochs=2, batch=16, lr=0.01)}
RUNS["BERT4Rec"] = replace(RUNS["SASRec"], model=replace(SHAPE, causal=False))
KINDS = [(model, variant) for model in RUNS for variant in ("plain", "distilled")] + [("GRU4Rec", "plain")]


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """Five trained students, each beside its ONNX model and its opened session."""
    torch.set_num_threads(1)
    home, rng = tmp_path_factory.mktemp("serving"), np.random.default_rng(0)
    rows = [(user, item + 1, place) for user in range(30) for place, item in enumerate(rng.permutation(ITEMS)[:12])]
    events = pd.DataFrame(rows, columns=["user", "item", "time"])
    events["split"] = np.where(events["time"] < 10, "train", np.where(events["time"] < 11, "valid", "test"))
    given = training_data(events, ITEMS, torch.randn(30, 6, generator=torch.Generator().manual_seed(0)))
    found = {}
    for model, variant in KINDS:
        run = gru4rec(RUNS["SASRec"]) if model == "GRU4Rec" else RUNS[model]
        run = replace(run, distillation=Distillation()) if variant == "distilled" else run
        train(run, given, home)
        net = load_model(run_folder(Job(run, given), home))
        path = serving.save_onnx(net, home / f"{model}-{variant}.onnx")
        found[model, variant] = (net, path, serving.session(path))
    return given, found


@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_onnx_scores_are_those_of_pytorch_whatever_the_batch_and_its_lengths(house, kind):
    net, _, run = house[1][kind]
    rng = np.random.default_rng(0)
    for longest in range(1, net.max_history + 1):
        ids = np.zeros((1 + longest % 8, longest), dtype=np.int64)
        for row, length in zip(ids, [longest, *rng.integers(1, longest + 1, len(ids) - 1)], strict=True):
            row[:length] = rng.integers(1, ITEMS + 1, length)
        ours, theirs = net.score(torch.from_numpy(ids)).numpy(), run(ids)
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-4)


@pytest.mark.parametrize("model", RUNS)
def test_plain_and_distilled_are_the_same_graph(house, model):
    graphs = [onnx.load(house[1][model, variant][1]).graph for variant in ("plain", "distilled")]
    nodes = [[node.op_type for node in graph.node] for graph in graphs]
    shapes = [collections.Counter(tuple(weight.dims) for weight in graph.initializer) for graph in graphs]
    assert nodes[0] == nodes[1] and len(nodes[0]) > 50
    assert shapes[0] == shapes[1] and shapes[0][ITEMS + 1 + (model == "BERT4Rec"), SHAPE.dim] == 1


@pytest.mark.parametrize("model", RUNS)
def test_int8_moves_scores_a_little_and_ranks_less(house, model, tmp_path):
    given, found = house
    net, path, run = found[model, "plain"]
    small = serving.quantised(path, tmp_path / "int8.onnx")
    ids = torch.randint(1, ITEMS + 1, (8, 20)).numpy()
    moved, whole = serving.session(small)(ids), run(ids)
    assert 0 < np.abs(moved - whole).max() < 0.25 * whole.std()
    scores = model_score(net), serving.run_score(serving.session(small), net.max_history)
    ours, theirs = (rank(given.test, score) for score in scores)
    assert 0 < (ours["rank_all"] != theirs["rank_all"]).mean() < 0.9
    assert np.corrcoef(ours["rank_all"], theirs["rank_all"])[0, 1] > 0.95
    types = {weight.data_type for weight in onnx.load(small).graph.initializer if len(weight.dims) == 2}
    assert onnx.TensorProto.INT8 in types


@pytest.fixture(scope="module")
def shop(house):
    net, _, run = house[1]["SASRec", "plain"]
    items = pd.DataFrame({"item": range(1, ITEMS + 1), "item_id": [f"B{i}" for i in range(1, ITEMS + 1)]})
    items["title"] = [None, *(f"Book {i}" for i in range(2, ITEMS + 1))]
    return net, serving.served(run, net.max_history, items)


def test_top_10_leaves_out_what_was_seen_and_names_the_rest(shop):
    net, model = shop
    history = [f"B{i}" for i in range(2, 58)]  # longer than the student reads
    found = serving.top(model, history)
    assert set(found["item_id"]) == {"B1", "B58", "B59", "B60"}, "items that it can no longer read were seen as well"
    assert found.set_index("item_id").loc["B1", "title"] == "B1"
    few = serving.top(model, ["B5", "B9"])
    scores = net.score(torch.tensor([[5, 9]]))[0].clone()
    scores[[4, 8]] = -torch.inf
    order = scores.argsort(descending=True)[:10] + 1
    assert few["item_id"].tolist() == [f"B{i}" for i in order.tolist()]
    assert few["title"].tolist() == [f"Book {i}" if i > 1 else "B1" for i in order.tolist()]
    np.testing.assert_allclose(few["score"], scores[order - 1], atol=1e-4)


def test_bad_requests_and_a_model_of_nan_are_refused_by_name(shop):
    _, model = shop
    bad = {"not in the catalogue: X1, X2": ["B1", "X2", "X1"], "history is empty": [], 'the text "318"': "318"}
    for says, history in bad.items():
        with pytest.raises(UserError, match=says):
            serving.top(model, history)
    with pytest.raises(UserError, match="NaN or infinite"):
        serving.top(model._replace(run=lambda ids: np.full((1, ITEMS), np.nan, np.float32)), ["B5"])
    with pytest.raises(UserError, match="row 1 has no item"):
        serving.run_score(model.run, model.max_history)(np.arange(2), torch.tensor([[3, 4], [0, 0]]))


def test_the_catalogue_may_come_in_any_order_but_must_be_the_students(shop):
    _, model = shop
    twice = model.items.assign(item_id=model.items["item_id"].replace("B9", "B5"))
    mixed = serving.served(model.run, model.max_history, model.items.sample(frac=1, random_state=0))
    assert serving.top(mixed, ["B5"]).equals(serving.top(model, ["B5"]))
    for wrong in (model.items.assign(item=model.items["item"] - 1), twice):
        with pytest.raises(UserError, match=r'"item" must hold 1, 2, \.\.\. once each, and "item_id" no id twice'):
            serving.served(model.run, model.max_history, wrong)
    short = serving.served(model.run, model.max_history, model.items[:-1])
    with pytest.raises(UserError, match=f"scores {ITEMS} items, the catalogue holds {ITEMS - 1}"):
        serving.top(short, ["B5"])


@pytest.mark.parametrize("kind", ["int32", "float64", "Int64"])
def test_a_catalogue_may_hold_any_kind_of_whole_numbers(shop, kind):
    items = shop[1].items.astype({"item": kind}).assign(item_id=shop[1].items["item"].astype(kind))
    model = serving.served(shop[1].run, shop[1].max_history, items)
    expected = serving.top(shop[1], ["B5", "B9"])["item_id"].str.removeprefix("B").tolist()
    for history in (["5", "9"], [5, 9]):
        assert serving.top(model, history)["item_id"].tolist() == expected


def test_a_missing_extra_is_named_where_it_is_needed(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"onnxruntime is not installed; .*\[serve\]"):
        serving.session(tmp_path / "student.onnx")

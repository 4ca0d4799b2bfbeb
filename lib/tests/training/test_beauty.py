"""Benchmarks on Beauty, whose data are not in the repository: lines about items, and the paper's loss."""

import bench_form
import bench_items
import bench_little
import bench_search
import numpy as np
import pandas as pd
import pytest
from seqdistill.config import ModelConfig, TrainConfig
from seqdistill.data import Dataset
from seqdistill.io import digest
from seqdistill.profiles.answers import load_shipped
from seqdistill.profiles.chat import Answer, Failure
from seqdistill.profiles.prompts import template

BEAUTY = "amazon-beauty-5core"
TITLES = ["Soap", "Comb", "Oil", "Wax", "OPI Nail Lacquer, Blue"]  # the last in the prompt's examples, too


class Writer:
    """In place of an LLM: repeats the item of the last message; refuses wax."""

    name = "writer"

    def __init__(self):
        self.asked = []

    def answers(self, chats, sampling):
        for index, chat in enumerate(chats):
            self.asked.append(chat[-1]["content"])
            refused = "Wax" in chat[-1]["content"]
            answer = Failure("empty answer") if refused else Answer(f"Use: {chat[-1]['content']}", 1, 1, 0.1, "stop")
            yield index, answer


@pytest.fixture
def dataset():
    items = pd.DataFrame({"item": range(1, 6), "item_id": [f"id {name}" for name in TITLES], "title": TITLES})
    return Dataset(None, None, items, False, "beauty", (), name="small")


def test_items_are_described_once_and_new_ones_added(dataset, tmp_path, monkeypatch):
    writer = Writer()
    for name, value in {"data_dir": lambda: tmp_path, "open_llm": lambda _: writer, "LEAST": 0.5}.items():
        monkeypatch.setattr(bench_items, name, value)
    first = bench_items.lines_of(dataset, np.array([2, 1]), "qwen2.5-coder-0.5b")
    assert first.to_dict() == {2: 'Use: "Comb"', 1: 'Use: "Soap"'} and writer.asked == ['"Comb"', '"Soap"']
    (tmp_path / "cache" / "answers.sqlite").unlink()  # what is shipped is enough
    more = bench_items.lines_of(dataset, np.array([2, 1, 5, 4, 3]), "qwen2.5-coder-0.5b")
    assert more.index.tolist() == [2, 1, 3] and writer.asked[2:] == ['"Wax"', '"Oil"']
    kept = load_shipped(tmp_path / "profiles" / "small" / "items" / "qwen2.5-coder-0.5b.parquet")
    assert kept["user_id"].tolist() == ["id Comb", "id Soap", "id Oil"]


def unit(rows):
    rows = rows - rows.mean(0)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_described_items_are_ranked_by_titles_and_lines_with_their_weights(monkeypatch):
    rng = np.random.default_rng(0)
    titles, lines = rng.normal(size=(9, 4)), rng.normal(size=(8, 4))  # item 9 has no lines
    items = pd.DataFrame({"item": range(1, 10), "item_id": range(1, 10), "title": [str(item) for item in range(1, 10)]})
    history = {user: rng.permutation(8)[:3] + 1 for user in range(6)}  # two items and the target
    rows = [
        (user, item, split)
        for user, known in history.items()
        for item, split in zip(known, ("train",) * 2 + ("valid",), strict=True)
    ]
    rows += [
        (0, 9, "train"),
        (6, 9, "train"),
        (6, 1, "valid"),
        (7, 1, "train"),
        (7, 9, "valid"),
        (8, 2, "train"),
        (8, 2, "valid"),
    ]
    events = pd.DataFrame(rows, columns=["user", "item", "split"])

    def encode(texts, _):
        return np.stack(
            [titles[int(text.strip('"')) - 1] if '"' in text else lines[int(text) - 1] for text in texts]
        ), 0

    monkeypatch.setattr(bench_items, "encode", encode)
    dataset = Dataset(None, None, items, False, "beauty", ())
    table = bench_items.zero_shot(dataset, events, pd.Series({item: str(item) for item in range(1, 9)}))
    assert set(table["users"]) == {6} and set(table["items"]) == {8}  # 6, 7 and 8 lack a history or a new target
    for (name, weights), percentile in zip(bench_items.ARMS.items(), table["percentile"], strict=True):
        blocks = [weight**0.5 * unit(block) for weight, block in zip(weights, (titles[:8], lines), strict=True)]
        vectors = np.hstack(blocks)
        scores = unit(np.stack([vectors[known[:2] - 1].mean(0) for known in history.values()])) @ unit(vectors).T
        ahead = [
            sum(row[item - 1] > row[known[2] - 1] for item in range(1, 9) if item not in known)
            for row, known in zip(scores, history.values(), strict=True)
        ]
        assert percentile == pytest.approx(1 - np.mean(ahead) / 5), name
    assert len(set(table["percentile"])) > 2


def test_the_prompt_is_that_of_the_shipped_lines():
    asked = digest([template("beauty-item"), bench_items.SETTINGS])
    assert asked[:16] == "3c8e4ff3a558d06c", "another prompt or setting: every shipped line would be asked for again"


def test_a_form_is_recorded_by_seed_and_tested_against_its_control(data, tmp_path, monkeypatch):
    run = TrainConfig(ModelConfig(dim=8, blocks=1, heads=1, length=10), epochs=2, batch=16)
    for module, name, value in (
        (bench_form, "SEEDS", [0, 1]),
        (bench_form, "RUNS", tmp_path),
        (bench_little, "RUNS", tmp_path),
    ):
        monkeypatch.setattr(module, name, value)
    study = bench_form.Study({"model": "SASRec"}, data, None, {}, [], {"profile": data}, run, {})
    jobs = bench_form.planned(study, bench_form.FORMS)
    table, target = bench_form.compared(jobs, [*bench_form.FORMS], study.first)[0], bench_form.variances(jobs)
    assert set(table.query("control != ''")["variant"]) == set(bench_form.FORMS)
    names = [f"{name}{control}" for name in bench_form.FORMS for control in ("", "-shuffled")]
    assert target[["variant", "seed"]].to_numpy().tolist() == [[name, seed] for name in names for seed in (0, 1)]
    fixed = target[target["variant"].str.contains("frozen")]
    assert fixed["variance_start"].to_numpy() == pytest.approx(fixed["variance_end"].to_numpy(), rel=0.2)
    assert target["probe_r2"].notna().all()
    assert set(bench_form.best_epochs(jobs).index) == {"plain", *names}


def test_the_recorded_searches_name_the_settings_that_they_chose():
    bert = bench_search.chosen(BEAUTY, "BERT4Rec")
    assert (bert.epochs, bert.model.dropout, bert.mask_prob, bert.lr) == (96, 0.1, 0.5, 1e-3)
    assert bench_search.chosen(BEAUTY, "SASRec") == bench_search.BEAUTY

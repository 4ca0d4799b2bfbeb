"""Lines by an LLM about items: what is asked and kept, what is ranked with them, and what the teacher is made of."""

import bench_items
import numpy as np
import pandas as pd
import pytest
from seqdistill.data import Dataset
from seqdistill.profiles.answers import load_shipped
from seqdistill.profiles.chat import Answer, Failure, forget

TITLES = ["Soap", "Comb", "Oil", "Wax"]


class Writer:
    """In place of an LLM: repeats the item of the last message; refuses wax."""

    name = "writer"

    def __init__(self):
        self.asked = []

    def answers(self, chats, sampling, save=forget):
        for index, chat in enumerate(chats):
            self.asked.append(chat[-1]["content"])
            refused = "Wax" in chat[-1]["content"]
            answer = Failure("empty answer") if refused else Answer(f"Use: {chat[-1]['content']}", 1, 1, 0.1, "stop")
            save(index, answer)
            yield index, answer


@pytest.fixture
def dataset():
    items = pd.DataFrame({"item": range(1, 5), "item_id": [f"id {name}" for name in TITLES], "title": TITLES})
    return Dataset(None, None, items, False, "beauty", (), name="small")


def test_items_are_described_once_and_new_ones_added(dataset, tmp_path, monkeypatch):
    writer = Writer()
    for name, value in {"data_dir": lambda: tmp_path, "open_llm": lambda _: writer, "EVERY": 2}.items():
        monkeypatch.setattr(bench_items, name, value)
    first = bench_items.lines_of(dataset, np.array([2, 1]), "qwen2.5-coder-0.5b")
    assert first.to_dict() == {2: 'Use: "Comb"', 1: 'Use: "Soap"'} and writer.asked == ['"Comb"', '"Soap"']
    (tmp_path / "cache" / "answers.sqlite").unlink()  # what is shipped is enough
    more = bench_items.lines_of(dataset, np.array([2, 1, 4, 3]), "qwen2.5-coder-0.5b")
    assert more.index.tolist() == [2, 1, 3] and writer.asked[2:] == ['"Wax"', '"Oil"']
    kept = load_shipped(tmp_path / "profiles" / "small" / "items" / "qwen2.5-coder-0.5b.parquet")
    assert kept["user_id"].tolist() == ["id Comb", "id Soap", "id Oil"]


def test_only_described_items_are_ranked_and_repeats_left_out(dataset, monkeypatch):
    rows = [(0, 1, "train"), (0, 4, "train"), (0, 2, "valid")]  # item 4 has no line
    rows += [(1, 1, "train"), (1, 1, "valid"), (2, 3, "train"), (2, 2, "valid"), (3, 4, "train"), (3, 2, "valid")]
    events = pd.DataFrame(rows, columns=["user", "item", "split"])
    lines = pd.Series({1: "clean", 2: "clean", 3: "shine"})
    vectors = {"clean": [1.0, 0.0], "shine": [0.0, 1.0]}

    def encode(texts, _):
        return np.array([vectors.get(text, [0.5, 0.5]) for text in texts]), 0

    monkeypatch.setattr(bench_items, "encode", encode)
    table = bench_items.zero_shot(dataset, events, lines).set_index("variant")
    assert table["users"].tolist() == [2] * 4 and table["items"].tolist() == [3] * 4
    # By lines, user 0 (soap) finds the comb first of two, user 2 (oil) last: level with the soap, a tie counts against.
    assert table["percentile"].to_dict() == {name: 0.5 for name in bench_items.ARMS} | {"titles": 0.0}

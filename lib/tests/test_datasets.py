import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqdistill import datasets
from seqdistill.artifacts import BookError


def test_movielens_small_counts(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQDISTILL_DATA", str(tmp_path))
    data = datasets.load("movielens-small", 1)
    counts = datasets.statistics(data.events)
    assert (counts["users"], counts["items"], counts["interactions"]) == (671, 9066, 100004)
    assert len(datasets.load("movielens-small", 5).items) == 3496


def test_codes_decode_to_the_raw_rows(raw):
    data = datasets.load("books", 1)
    decoded = data.events.merge(data.users, on="user").merge(data.items[["item", "item_id"]], on="item")
    expected = pd.read_csv(raw / "interactions.csv", dtype=str)
    found = set(zip(decoded["user_id"], decoded["item_id"], decoded["time"].astype(str), strict=True))
    assert found == set(zip(expected["user_id"], expected["item_id"], expected["timestamp"], strict=True))


def test_order_within_a_user_is_by_time_and_ties_keep_file_order(raw):
    text = "user_id,item_id,timestamp\n1,5,20\n1,3,10\n1,9,10\n1,4,10\n"
    (raw / "interactions.csv").write_text(text)
    assert datasets.load("books", 1).items["item_id"].tolist() == ["3", "4", "5", "9"]
    assert datasets.load("books", 1).events["item"].tolist() == [1, 4, 2, 3]


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=80), st.integers(1, 4))
def test_core_is_a_fixed_point_that_meets_the_minimum(pairs, minimum):
    kept = datasets.core(pd.DataFrame(pairs, columns=["user_id", "item_id"]), minimum)
    assert len(datasets.core(kept, minimum)) == len(kept)
    assert kept.empty or min(kept["user_id"].value_counts().min(), kept["item_id"].value_counts().min()) >= minimum


HOSTILE = {
    "bad rating": ("interactions.csv", "user_id,item_id,timestamp,rating\n1,5,10,four\n", 'row 2, column "rating"'),
    "bad time": (
        "interactions.csv",
        "user_id,item_id,timestamp\n1,5,10\n1,6,noon\n",
        "row 3, column \"timestamp\": 'noon'",
    ),
    "infinite time": ("interactions.csv", "user_id,item_id,timestamp\n1,5,inf\n", "a number is expected"),
    "empty id": ("interactions.csv", "user_id,item_id,timestamp\n1,,10\n", 'row 2, column "item_id"'),
    "unknown item": ("interactions.csv", "user_id,item_id,timestamp\n1,99,10\n", "not in items.csv"),
    "unknown user": ("interactions.csv", "user_id,item_id,timestamp\n77,5,10\n", "not in users.csv"),
    "short row": ("interactions.csv", "user_id,item_id,timestamp\n1,5,10\n1,6\n", "row 3"),
    "long row": ("interactions.csv", "user_id,item_id,timestamp\n1,5,10\n1,6,11,12,13\n", "line 3"),
    "no column": ("interactions.csv", "user,item_id,timestamp\n1,5,10\n", 'no column "user_id"'),
    "no order": ("interactions.csv", "user_id,item_id\n1,5\n", '"timestamp" or "position"'),
    "wrong delimiter": ("interactions.csv", "user_id;item_id;timestamp\n1;5;10\n", 'no column "user_id"'),
    "empty file": ("interactions.csv", "", "the file is empty"),
    "header only": ("users.csv", "user_id\n", "no rows"),
    "double user": ("users.csv", "user_id\n1\n1\n", "stands here twice"),
    "double item": ("items.csv", "item_id,title\n5,A\n5,B\n", 'row 3, column "item_id"'),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_named(raw, case):
    name, text, message = HOSTILE[case]
    (raw / name).write_text(text)
    with pytest.raises(BookError) as caught:
        datasets.load("books", 1)
    assert name in str(caught.value) and message in str(caught.value)


def test_bytes_that_are_no_utf8_are_named(raw):
    (raw / "items.csv").write_bytes(b"item_id,title\n5,Am\xe9lie\n")
    with pytest.raises(BookError, match=r"items.csv: byte \d+ is not UTF-8"):
        datasets.load("books", 1)


def test_missing_file_is_named(raw):
    (raw / "items.csv").unlink()
    with pytest.raises(BookError, match=r"items\.csv: no such file"):
        datasets.load("books", 1)


def test_filter_that_leaves_nothing_says_so(raw):
    with pytest.raises(BookError, match="at least 50 events"):
        datasets.load("books", 50)

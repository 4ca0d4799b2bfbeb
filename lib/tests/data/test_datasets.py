from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqdistill import data as datasets
from seqdistill.data.tables import canonical, filtered, frequent
from seqdistill.io import UserError

EVENTS = "user_id,item_id,timestamp\n"


def test_movielens_small_counts(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQDISTILL_DATA", str(tmp_path))
    data = datasets.load("movielens-small", 1)
    counts = datasets.statistics(data.events)
    assert (counts["users"], counts["items"], counts["interactions"]) == (671, 9066, 100004)
    assert len(datasets.load("movielens-small", 5).items) == 3496
    assert data.domain == "movies" and data.dated


def decoded(data):
    """Events of a data set under the ids of its files, in table order."""
    ids = data.items.set_index("item")["item_id"].loc[data.events["item"]].tolist()
    users = data.users.set_index("user")["user_id"].loc[data.events["user"]].tolist()
    return list(zip(users, ids, data.events["time"].tolist(), strict=True))


def test_codes_decode_to_the_raw_rows_and_the_first_users_can_be_kept(raw):
    expected = pd.read_csv(raw / "interactions.csv", dtype={"user_id": str, "item_id": str})
    expected = expected[["user_id", "item_id", "timestamp"]].itertuples(index=False, name=None)
    assert sorted(decoded(datasets.load("books", 1))) == sorted(expected)
    data = datasets.load("books", 1, first_users=2)
    assert data.users["user_id"].tolist() == ["0", "1"] and "the first 2 of 8 users kept" in data.notes


def test_order_within_a_user_is_by_time_and_ties_keep_file_order(raw):
    (raw / "interactions.csv").write_text(EVENTS + "1,5,20\n1,3,10\n1,9,10\n1,4,10\n")
    data = datasets.load("books", 1)
    assert data.items["item_id"].tolist() == ["3", "4", "5", "9"]
    assert data.events["item"].tolist() == [1, 4, 2, 3]
    assert "2 events at the same time as an earlier one of the same user: kept in file order" in data.notes


IDS = st.text("ab019é", min_size=1, max_size=4)


@settings(max_examples=60)
@given(st.lists(st.tuples(IDS, IDS, st.integers(-5, 5)), min_size=1, max_size=60, unique=True))
def test_coding_and_decoding_is_the_identity_and_keeps_order(rows):
    user, item, time = map(pd.Series, zip(*rows, strict=True))
    items = pd.DataFrame({"item_id": item.unique(), "title": ""}, dtype="str")
    ids = {"user_id": user.astype("category"), "item_id": item.astype("category")}
    events = pd.DataFrame({**ids, "time": time, "value": np.nan})
    found = decoded(filtered(canonical(events, items, True, "generic"), "x"))
    assert sorted(found) == sorted(rows)
    for name in user.unique():
        own = [row for row in rows if row[0] == name]
        assert [row for row in found if row[0] == name] == sorted(own, key=lambda row: row[2])


PAIRS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=80)


@settings(max_examples=50)
@given(PAIRS, st.integers(1, 4))
def test_core_and_one_pass_are_what_is_left_when_rare_events_are_dropped(pairs, minimum):
    user, item = np.array(pairs).T
    keep, left = frequent(user, item, minimum), [*range(len(pairs))]
    while True:
        users, items = (Counter(codes[place] for place in left) for codes in (user, item))
        fewer = [place for place in left if users[user[place]] >= minimum and items[item[place]] >= minimum]
        if fewer == left:
            break
        left = fewer
    assert np.flatnonzero(keep).tolist() == left
    once = frequent(user, item, minimum, "single")
    counts = [np.unique(codes, return_inverse=True, return_counts=True)[1:] for codes in (user, item)]
    assert (once == np.logical_and(*(count[place] >= minimum for place, count in counts))).all()


def test_one_pass_by_hand(raw):
    """Item 3 has two events; without them user 2 has one event left, which one pass keeps and the core does not."""
    rows = [(1, 4), (1, 5), (2, 4), (2, 3), (3, 4), (3, 5), (4, 3)]
    text = "".join(f"{user},{item},{time}\n" for time, (user, item) in enumerate(rows))
    (raw / "interactions.csv").write_text("user_id,item_id,position\n" + text)
    kept = {kind: [row[:2] for row in decoded(datasets.load("books", 2, kind=kind))] for kind in ("single", "core")}
    assert kept["single"] == [("1", "4"), ("1", "5"), ("2", "4"), ("2", "3"), ("3", "4"), ("3", "5")]
    assert kept["core"] == [("1", "4"), ("1", "5"), ("3", "4"), ("3", "5")]
    assert not datasets.load("books", 1).dated


def test_converted_tables_are_used_while_the_raw_files_are_the_same(raw, tmp_path, monkeypatch):
    before, single = datasets.load("books", 2), datasets.load("books", 4, kind="single")
    datasets.convert("books")
    assert datasets.present()["books"]["interactions"] == datasets.statistics(single.events)["interactions"]
    monkeypatch.setattr("seqdistill.data.generic.read_csv", None)
    after = datasets.load("books", 2)
    monkeypatch.undo()
    monkeypatch.setenv("SEQDISTILL_DATA", str(tmp_path))
    for name in ("events", "users", "items"):
        pd.testing.assert_frame_equal(getattr(after, name), getattr(before, name))
    assert (after.notes, after.key, after.domain) == (before.notes, before.key, before.domain)
    (raw / "interactions.csv").write_text(EVENTS + "1,5,10\n")
    assert len(datasets.load("books", 1).events) == 1


def test_convert_copies_files_from_elsewhere_only_if_they_are_good(raw, tmp_path):
    (raw / "dataset.yaml").write_text("domain: movies")
    datasets.convert("novels", raw)
    assert datasets.load("novels", 1).events.equals(datasets.load("books", 1).events)
    assert datasets.load("novels", 1).domain == "movies"
    (raw / "dataset.yaml").unlink()
    with pytest.raises(UserError, match=r"dataset\.yaml: left from other files"):
        datasets.convert("novels", raw)
    (raw / "interactions.csv").write_text(EVENTS + "1,5,noon\n")
    with pytest.raises(UserError, match="Nothing was written"):
        datasets.convert("poems", raw)
    assert not (tmp_path / "poems").exists()


@pytest.mark.parametrize(
    ("name", "minimum", "first_users", "kind", "message"),
    [
        ("books", 50, None, "core", "books: no user and item are left with at least 50 events"),
        ("books", 1, 0, "core", '"first_users" is 0'),
        ("books", 1, None, "cores", '"cores" is not a filter; choose one of core, single'),
        ("../books", 1, None, "core", '"../books" cannot name a data set'),
        ("/tmp", 1, None, "core", '"/tmp" cannot name a data set'),
        ("beuty", 1, None, "core", '"beuty" is not a data set \\(did you mean "beauty"\\?\\)'),
    ],
)
def test_what_cannot_be_loaded_is_named(raw, name, minimum, first_users, kind, message):
    with pytest.raises(UserError, match=message):
        datasets.load(name, minimum, first_users, kind)

import numpy as np
import pandas as pd
import pytest
from seqdistill import data as datasets
from seqdistill.io import UserError

EVENTS = "user_id,item_id,timestamp\n"


def decoded(data):
    """Events of a data set under the ids of its files, in table order."""
    ids = data.items.set_index("item")["item_id"].loc[data.events["item"]].tolist()
    users = data.users.set_index("user")["user_id"].loc[data.events["user"]].tolist()
    return list(zip(users, ids, data.events["time"].tolist(), strict=True))


def test_the_first_users_can_be_kept(raw):
    data = datasets.load("books", 1, first_users=2)
    assert data.users["user_id"].tolist() == ["0", "1"] and "the first 2 of 8 users kept" in data.notes


def test_one_pass_by_hand(raw):
    """Item 3 has two events; without them user 2 has one event left, which one pass keeps and the core does not."""
    rows = ["1,4,0", "1,5,1", "2,4,2", "2,3,3", "3,4,4", "3,5,5", "4,3,6"]
    (raw / "interactions.csv").write_text("\n".join(["user_id,item_id,position", *rows]))
    for kind, left in (("single", [0, 1, 2, 3, 4, 5]), ("core", [0, 1, 4, 5])):
        assert datasets.load("books", 2, kind=kind).events["time"].tolist() == left
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


def test_convert_copies_good_files_and_replaces_others_by_force_alone(raw, tmp_path):
    (raw / "dataset.yaml").write_text("domain: movies")
    for _ in range(2):  # the second time the same files are there
        datasets.convert("novels", raw)
    copy, before = tmp_path / "novels" / "raw" / "interactions.csv", (raw / "interactions.csv").read_bytes()
    assert datasets.load("novels", 1).events.equals(datasets.load("books", 1).events)
    assert datasets.load("novels", 1).domain == "movies"
    (raw / "interactions.csv").write_bytes(before + b"1,5,99,3\n")
    with pytest.raises(UserError, match="FORCE=1"):
        datasets.convert("novels", raw)
    assert copy.read_bytes() == before
    datasets.convert("novels", raw, force=True)
    assert copy.read_bytes() != before
    (raw / "dataset.yaml").unlink()
    with pytest.raises(UserError, match=r"dataset\.yaml: left from other files"):
        datasets.convert("novels", raw, force=True)
    (raw / "interactions.csv").write_text(EVENTS + "1,5,noon\n")
    with pytest.raises(UserError, match="Nothing was written"):
        datasets.convert("poems", raw)
    assert not (tmp_path / "poems").exists()
    with pytest.raises(UserError, match=r"RAW: .*nowhere is no folder"):
        datasets.convert("books", tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("books", 50), "books: no user and item are left with at least 50 events"),
        (("books", 1, 0), '"first_users" is 0'),
        (("books", 1, None, "cores"), '"cores" is not a filter; choose one of core, single'),
        (("../books", 1), '"../books" cannot name a data set'),
        (("/tmp", 1), '"/tmp" cannot name a data set'),
        (("beuty", 1), '"beuty" is not a data set \\(did you mean "beauty"\\?\\)'),
    ],
)
def test_what_cannot_be_loaded_is_named(raw, asked, message):
    with pytest.raises(UserError, match=message):
        datasets.load(*asked)


PLAYS = pd.DataFrame({"user_id": ["bob", "ann", "bob", "bob", "ann"], "item_id": [10, 9, 9, 9, 9]})
PLAYS["timestamp"] = pd.to_datetime([f"1970-01-0{day}" for day in (3, 2, 2, 2, 4)])
PLAYS["rating"] = [4, 5, 3.5, 3.5, 2]
SONGS = pd.DataFrame({"item_id": [9, 8], "title": ["Nine", None], "year": [1990, 1991], "length": [None, 2.5]})


def test_ids_are_mapped_and_events_sorted():
    data = datasets.coded(PLAYS, SONGS)
    assert data.events.columns.tolist() == ["user", "item", "time", "value"]
    day = 86400
    assert data.events.values.tolist() == [[0, 1, day, 5], [0, 1, 3 * day, 2], [1, 1, day, 3.5], [1, 2, 2 * day, 4]]
    assert data.users.to_dict("list") == {"user": [0, 1], "user_id": ["ann", "bob"]}
    assert data.items.columns.tolist() == ["item", "item_id", "title", "year", "length"]
    assert data.items.values.tolist() == [[1, 9, "Nine", "1990", ""], [2, 10, "item 10", "", ""]]
    assert data.dated and "1 repeated events dropped" in data.notes
    assert any(note.startswith("1 items (1 events, 20.0%) are not in the list") for note in data.notes)


def test_one_second_holds_several_events_in_order_and_positions_need_no_times():
    near = pd.DataFrame({"user_id": 1, "item_id": [1, 2], "timestamp": pd.to_datetime([1.5e9, 1.1e9])})
    assert datasets.coded(near).events["item"].tolist() == [2, 1]
    assert len(datasets.coded(near.assign(item_id=1)).events) == 2, "not the same event twice"
    placed = datasets.coded(near.drop(columns="timestamp").assign(position=[1.0, 0.0]))
    assert placed.events["item"].tolist() == [2, 1] and not placed.dated
    assert placed.events["time"].dtype == "int64" and placed.events["value"].isna().all()
    assert placed.users["user_id"].tolist() == [1]
    note = "1 events at the same time as an earlier one of the same user: kept in file order"
    assert note in datasets.coded(near.assign(timestamp=7)).notes


@pytest.mark.parametrize(
    ("events", "items", "message"),
    [
        (PLAYS.rename(columns={"user_id": "user"}), None, "interactions: no column \"user_id\" (found 'user'"),
        (PLAYS.drop(columns="timestamp"), None, 'no column "timestamp"'),
        (PLAYS.iloc[:0], None, "interactions: no rows"),
        (PLAYS.assign(user_id=["a", None, "b", "c", "d"]), None, 'interactions, row 1, column "user_id"'),
        (PLAYS.assign(rating=[1, 2, "x", "y", 3]), None, "row 2, column \"rating\": 'x': a number is expected (2 such"),
        (PLAYS.assign(timestamp=[1, 2, 3.5, 4, 5]), None, 'row 2, column "timestamp"'),
        (PLAYS.assign(timestamp=[1, 2, 3, np.nan, 4]), None, 'row 3, column "timestamp"'),
        (PLAYS.assign(timestamp=[1, 2, 3, pd.NaT, 4]), None, 'row 3, column "timestamp"'),
        (PLAYS.assign(timestamp=1_700_000_000_000), None, "a time between 1900 and 2100"),
        (PLAYS, SONGS.drop(columns="title"), 'items: no column "title"'),
        (PLAYS, SONGS.assign(item_id=["a", "b"]), "the first 9; at most 20% may be. It lists ['a', 'b']"),
        (PLAYS, pd.concat([SONGS, SONGS]), "items, row 2, column \"item_id\": '9': the id stands here twice"),
    ],
)
def test_unusable_tables_are_named(events, items, message):
    with pytest.raises(UserError) as caught:
        datasets.coded(events, items)
    assert message in str(caught.value)

import numpy as np
import pandas as pd
import pytest
from seqdistill.data import coded
from seqdistill.io import UserError

PLAYS = pd.DataFrame(
    {
        "user_id": ["bob", "ann", "bob", "bob", "ann"],
        "item_id": [10, 9, 9, 9, 9],
        "timestamp": pd.to_datetime(["1970-01-03", "1970-01-02", "1970-01-02", "1970-01-02", "1970-01-04"]),
        "rating": [4, 5, 3.5, 3.5, 2],
    }
)
SONGS = pd.DataFrame({"item_id": [9, 8], "title": ["Nine", None], "year": [1990, 1991], "length": [None, 2.5]})


def test_ids_are_mapped_and_events_sorted():
    data = coded(PLAYS, SONGS)
    assert data.events.to_dict("list") == {
        "user": [0, 0, 1, 1],
        "item": [1, 1, 1, 2],
        "time": [86400, 259200, 86400, 172800],
        "value": [5.0, 2.0, 3.5, 4.0],
    }
    assert data.users.to_dict("list") == {"user": [0, 1], "user_id": ["ann", "bob"]}
    assert data.items.to_dict("list") == {
        "item": [1, 2],
        "item_id": [9, 10],
        "title": ["Nine", "item 10"],
        "year": ["1990", ""],
        "length": ["", ""],
    }
    assert data.dated and "1 repeated events dropped" in data.notes
    assert any(note.startswith("1 items (1 events, 20.0%) are not in the list") for note in data.notes)


def test_one_second_holds_several_events_in_order_and_positions_need_no_times():
    near = pd.DataFrame({"user_id": 1, "item_id": [1, 2], "timestamp": pd.to_datetime([1.5e9, 1.1e9])})
    assert coded(near).events["item"].tolist() == [2, 1]
    assert len(coded(near.assign(item_id=1)).events) == 2, "not the same event twice"
    placed = coded(near.drop(columns="timestamp").assign(position=[1.0, 0.0]))
    assert placed.events["item"].tolist() == [2, 1] and not placed.dated
    assert placed.events["time"].dtype == "int64" and placed.events["value"].isna().all()
    assert placed.users["user_id"].tolist() == [1]


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
        (PLAYS, pd.concat([SONGS, SONGS]), "items, row 2, column \"item_id\": '9': the id stands here twice"),
    ],
)
def test_unusable_tables_are_named(events, items, message):
    with pytest.raises(UserError) as caught:
        coded(events, items)
    assert message in str(caught.value)

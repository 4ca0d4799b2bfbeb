import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqdistill.artifacts import BookError
from seqdistill.sequences import cases, padded, ragged, windows
from seqdistill.splits import audit, leave_last_k


def table(lengths: list[int]) -> pd.DataFrame:
    users = np.repeat(np.arange(len(lengths)), lengths)
    return pd.DataFrame({"user": users, "item": np.arange(len(users)) + 1, "time": np.arange(len(users))})


@given(st.lists(st.integers(1, 30), min_size=1, max_size=10), st.integers(1, 5))
def test_last_k_test_the_one_before_validates(lengths, k):
    events = table([*lengths, 40])
    split = leave_last_k(events, k)
    audit(events.assign(split=split))
    for user, length in enumerate([*lengths, 40]):
        own = split[events["user"] == user].tolist()
        assert (
            own == ["train"] * length
            if length < k + 3
            else own == ["train"] * (length - k - 1) + ["valid"] + ["test"] * k
        )


def test_no_user_long_enough_is_an_error():
    with pytest.raises(BookError, match="13 events"):
        leave_last_k(table([5, 12]), 10)


def test_audit_finds_a_leak():
    events = table([5]).assign(split=["train", "valid", "train", "test", "test"])
    with pytest.raises(BookError, match="user 0: its split goes back"):
        audit(events)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(1, 12))
def test_windows_make_every_event_but_the_first_a_target_once(lengths, length):
    rows = ragged(table([*lengths, 2]))
    cut = windows(rows, length)
    targets = np.concatenate([cut.row(index)[1:] for index in range(len(cut))])
    expected = np.concatenate([rows.row(index)[1:] for index in range(len(rows))])
    assert sorted(targets) == sorted(expected)
    assert np.diff(cut.offsets).max() <= length + 1


def test_a_case_sees_the_true_history_and_never_its_target(events):
    test = cases(events, "test")
    assert len(test) == (events["split"] == "test").sum()
    for index in range(len(test)):
        own = events[events["user"] == test.histories.users[index]]
        cut = len(own) - 2 + test.position[index]
        assert test.histories.row(index).tolist() == own["item"].iloc[:cut].tolist()
        assert test.targets[index] == own["item"].iloc[cut]


def test_padding_is_on_the_right():
    rows = ragged(table([1, 3]))
    assert padded(rows, np.array([0, 1])).tolist() == [[1, 0, 0], [2, 3, 4]]

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqdistill import data as datasets
from seqdistill.data.sequences import batches, cases, ragged, windows
from seqdistill.data.splits import LABELS, Protocol, audit, boundary, global_time, hard_targets, leave_last_k, split
from seqdistill.io import UserError
from seqdistill.profiles import generate as profiles


def table(lengths: list[int]) -> pd.DataFrame:
    users = np.repeat(np.arange(len(lengths)), lengths)
    return pd.DataFrame({"user": users, "item": np.arange(len(users)) + 1, "time": np.arange(len(users))})


def timed(rows: list[tuple[int, int, int]]) -> pd.DataFrame:
    """Events (user, item, time), sorted, with twenty more users who make every protocol possible."""
    rows = [*rows, *((100 + user, 1 + step, 4 * step + user % 3) for user in range(20) for step in range(8))]
    frame = pd.DataFrame(rows, columns=["user", "item", "time"]).sort_values(["user", "time"], kind="stable")
    return frame.assign(user=frame["user"].rank(method="dense").astype(int) - 1).reset_index(drop=True)


EVENTS = st.lists(st.tuples(st.integers(0, 8), st.integers(1, 12), st.integers(0, 40)), max_size=60).map(timed)
PROTOCOLS = [
    Protocol("leave_one_out"),
    Protocol("leave_last_k", last_k=3),
    Protocol("global_time"),
    Protocol("global_time", quantile=0.6, targets="all", valid_share=0.4, seed=3),
]


@given(EVENTS, st.sampled_from(PROTOCOLS))
def test_a_split_labels_every_event_passes_the_audit_and_follows_its_seed(events, protocol):
    found = split(events, protocol)
    assert set(found) <= set(LABELS) and found.index.equals(events.index)
    assert not audit(events.assign(split=found), protocol)["found"].any()
    assert split(events, protocol).equals(found)


@given(EVENTS, st.sampled_from(["last", "all"]), st.floats(0.3, 0.9), st.floats(0.1, 0.5), st.integers(0, 5))
def test_global_time_is_what_the_paper_says(events, targets, quantile, share, seed):
    protocol = Protocol("global_time", 1, quantile, targets, share, seed)
    found = events.assign(split=global_time(events, protocol))
    border = boundary(events, quantile)
    place = quantile * (len(events) - 1)  # of the quantile among the sorted times
    assert (events["time"] < border).sum() <= place + 1e-6 and place - 1e-6 < (events["time"] <= border).sum()
    early, late = found[found["time"] <= border], found[found["time"] > border]
    assert not (late["split"] == "train").any() and not (late["split"] == "valid").any()
    outside = early.groupby("user")["split"].agg(lambda own: (own != "train").all())
    assert outside.sum() == round(share * len(outside))
    assert set(early[early["user"].isin(outside[~outside].index)]["split"]) == {"train"}
    for _, own in early[early["user"].isin(outside[outside].index)].groupby("user"):
        assert own["split"].tolist()[:-1] == ["input"] * (len(own) - 1)
        assert own["split"].iloc[-1] == "valid" or len(own) == 1
    for user, own in late.groupby("user"):
        known = user in outside.index
        first = "test" if targets == "all" else "input"
        expected = [first] * (len(own) - 1) + ["test"]
        if not known:
            expected[0] = "input" if len(own) > 1 else "unused"
        assert own["split"].tolist() == expected


def test_movielens_small_has_few_test_users_and_few_of_them_known_before():
    """What the book says of the paper's protocol on this data."""
    data = datasets.load("movielens-small", 1)
    assert [*datasets.statistics(data.events).values()][:3] == [671, 9066, 100004]
    found = data.events.assign(split=global_time(data.events, Protocol("global_time")))
    late = found["time"] > boundary(found, 0.8)
    assert found.loc[late, "user"].nunique() == (found["split"] == "test").sum() == 147
    assert found.loc[~late & found["user"].isin(found.loc[late, "user"]), "user"].nunique() == 23
    assert found.loc[~late, "user"].nunique() * 0.2 == pytest.approx((found["split"] == "valid").sum(), abs=1)


def test_too_little_is_an_error():
    with pytest.raises(UserError, match="13 events"):
        leave_last_k(table([5, 12]), 10)
    with pytest.raises(UserError, match="leaves no event to test"):
        global_time(table([5, 5]).assign(time=1), Protocol("global_time"))
    with pytest.raises(UserError, match="the order of events, not their times"):
        split(table([5, 5]), Protocol("global_time"), dated=False)


HALF, ONE = Protocol("global_time", quantile=0.5), Protocol("leave_one_out")
LEAKS = {
    "after a target of its user": ("train valid train test train", ONE),
    "beyond the last 1": ("train train valid test test", ONE),
    "without a label": ("train train none valid test", ONE),
    "without history": ("test unused unused unused unused", ONE),
    "validation target after a test target": ("input test input valid test", Protocol("leave_last_k")),
    "after the boundary": ("train train train train train", HALF),
    "at or before the boundary": ("input test input input test", HALF),
    "a validation user in training": ("train valid input input test", HALF),
    "before an earlier one": ("train train train valid test", ONE),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_audit_finds_a_leak(leak):
    labels, protocol = LEAKS[leak]
    times = [0, 2, 1, 3, 4] if leak == "before an earlier one" else range(5)
    with pytest.raises(UserError, match=f"split: user 0: .*{leak}"):
        audit(table([5]).assign(split=labels.split(), time=times), protocol)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: f"{protocol.label}-{protocol.targets}")
def test_no_target_reaches_a_training_sequence_or_a_profile(protocol):
    """Every held-out event becomes an item of its own; none of these is in a training window or a profile's input."""
    events = timed([])
    events["split"] = split(events, protocol)
    held = events["split"] != "train"
    events.loc[held, "item"] = 1000 + np.arange(held.sum())
    train = events[~held]
    seen = [pair for _, *pair in batches(windows(ragged(train), 4), 8, np.random.default_rng(0))]
    assert max(ids.max() for pair in seen for ids in pair) < 1000
    assert all(cases(events, which).targets.min() >= 1000 for which in ("valid", "test"))
    items = pd.DataFrame({"item": events["item"].unique(), "title": "A title"})
    found = profiles.histories(train.assign(value=np.nan), items)
    assert max(history["item"].max() for history in found.values()) < 1000
    assert set(found) == set(train["user"])
    with pytest.raises(UserError, match="outside the training split"):
        profiles.histories(events.assign(value=np.nan), items)


@given(EVENTS, st.sampled_from(PROTOCOLS), st.sampled_from(["valid", "test"]))
def test_a_case_sees_the_true_history_and_never_its_target(events, protocol, which):
    events = events.assign(split=split(events, protocol))
    found = cases(events, which)
    held = events.index[events["split"] == which]
    assert len(found) == len(held)
    for index, at in enumerate(held):
        own = events[events["user"] == events["user"][at]]
        assert found.histories.users[index] == events["user"][at] and found.times[index] == events["time"][at]
        assert found.histories.row(index).tolist() == own["item"].loc[: at - 1].tolist()
        assert found.targets[index] == events["item"][at]
        assert found.position[index] == (own["split"].loc[: at - 1] == which).sum()


def test_events_in_another_order_are_refused():
    events = pd.DataFrame({"user": [0] * 6 + [1] * 6, "item": 1, "time": [*range(6)] * 2})
    assert split(events, ONE).value_counts()["test"] == 2
    for wrong in (events[::-1], events.sort_values("time"), events.assign(time=-events["time"])):
        with pytest.raises(UserError, match="has no time or comes too late; sort the events by user, then time"):
            split(wrong, ONE)


def test_targets_that_repeat_the_history_or_share_their_time_are_counted():
    events = pd.DataFrame({"user": [0, 0, 0, 0, 1, 1], "item": [1, 2, 1, 3, 1, 2], "time": [5, 6, 7, 7, 1, 2]})
    counted = hard_targets(events.assign(split=["train", "train", "valid", "test", "train", "test"]))
    assert counted["targets"].tolist() == [3, 3] and counted["such"].tolist() == [1, 2]


def test_a_search_sees_no_event_that_the_book_tests_on(raw, monkeypatch):
    import bench_search

    monkeypatch.setattr(bench_search, "TEST", {"books": 2})
    monkeypatch.setattr(bench_search, "TARGETS", {"books": 1})
    rows = [f"{user},{item},{10 * user + place},3\n" for user in (1, 2) for place, item in enumerate([5, 6] * 5)]
    (raw / "interactions.csv").write_text("user_id,item_id,timestamp,rating\n" + "".join(rows))
    found, events = bench_search.without_test("books"), datasets.load("books", 5).events
    last = events.groupby("user").tail(2)
    assert len(found.test) == 2 and found.test.times.max() < last["time"].min() + 10
    for user, ends in events[leave_last_k(events, 2) != "test"].groupby("user")["time"]:
        assert found.test.times[found.test.histories.users == user].tolist() == [ends.max()]


def test_of_few_users_the_others_are_tested_alone(events):
    import little_sources

    left, owners = little_sources.few(events, 7)
    train, test = (left[left["split"] == split] for split in ("train", "test"))
    assert len(owners) == 7 and set(train["user"]) == set(owners) == set(left.loc[left["split"] == "valid", "user"])
    assert len(test) == (events["split"] == "test").sum() and set(little_sources.few(events, 3)[1]) < set(owners)
    assert len(cases(left, "test")) == len(cases(events, "test"))

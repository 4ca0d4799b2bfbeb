import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from seqbook.cold import cold_items, counts, newcomers
from seqdistill.data.sequences import cases
from seqdistill.data.splits import Protocol, split
from test_splits import EVENTS, PROTOCOLS, timed


@given(EVENTS, st.sampled_from(PROTOCOLS), st.floats(0.1, 1), st.integers(0, 3))
def test_cold_items_lose_training_events_and_nothing_else(events, protocol, share, seed):
    events = events.assign(split=split(events, protocol))
    left, removed, reduced = cold_items(events, share, seed=seed)
    targets = set(events.loc[events["split"] == "test", "item"])
    assert len(removed) + len(reduced) == round(share * len(targets)) and 0 <= len(reduced) - len(removed) <= 1
    assert set(removed) | set(reduced) <= targets and not set(removed) & set(reduced)
    before, after = (frame[frame["split"] == "train"].groupby("item").size() for frame in (events, left))
    for item, count in before.items():
        now = after.get(item, 0)
        if item in removed:
            assert now == 0
        elif item in reduced:
            assert min(count, 6) <= now <= min(count, 9)
        else:
            assert now == count
    others = [frame[frame["split"] != "train"].reset_index(drop=True) for frame in (events, left)]
    assert others[0].equals(others[1])
    assert left.equals(left.sort_values(["user", "time"], kind="stable"))
    again = cold_items(events, share, seed=seed)
    assert again[0].equals(left) and (again[1] == removed).all() and (again[2] == reduced).all()


@given(EVENTS, st.floats(0, 1), st.integers(0, 4), st.integers(0, 4))
def test_shares_and_bounds_are_those_asked_for(events, removed, low, more):
    events = events.assign(split=split(events, Protocol("leave_last_k", last_k=3)))
    left, gone, starved = cold_items(events, 0.8, removed, (low, low + more))
    assert len(gone) == int(removed * (len(gone) + len(starved)))
    before, after = counts(events, 12), counts(left, 12)
    for item in starved - 1:
        assert min(before[item], low) <= after[item] <= min(before[item], low + more)


def test_cold_items_draws_other_items_with_another_seed():
    events = timed([(0, item, item) for item in range(1, 40)])
    events = events.assign(split=split(events, Protocol("global_time", targets="all")))
    drawn = {tuple(cold_items(events, 0.4, seed=seed)[1]) for seed in range(5)}
    assert drawn != {tuple(cold_items(events, 0.4)[1])}


@given(EVENTS, st.sampled_from(PROTOCOLS), st.floats(0.1, 0.5), st.integers(1, 5), st.integers(0, 3))
def test_newcomers_are_not_trained_on_and_are_tested_from_their_first_events(events, protocol, share, most, seed):
    events = events.assign(split=split(events, protocol))
    late = newcomers(events, share, most, seed)
    new = set(late.loc[late["split"].isin(["test", "input"]) & ~late["split"].eq(events["split"]), "user"])
    tested = cases(late, "test")
    assert not new & set(late.loc[late["split"].isin(["train", "valid"]), "user"])
    assert (tested.histories.lengths == tested.position + 1).all() and tested.position.max() < most
    drawn = np.random.default_rng(seed).choice(
        users := events["user"].unique(), round(share * len(users)), replace=False
    )
    others = ~events["user"].isin(drawn)
    before, after = events["split"][others], late["split"][others]
    assert (after[before != "test"] == before[before != "test"]).all() and (after[before == "test"] == "unused").all()
    assert len(np.unique(tested.histories.users)) <= round(share * events["user"].nunique())

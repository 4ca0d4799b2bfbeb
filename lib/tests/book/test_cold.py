"""Cold items: what is taken out of training and what must stay; comparisons by group; the score that reads texts."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from seqbook import cold, text_score
from seqbook.cold import cold_items, counts, newcomers
from seqdistill.config import ModelConfig
from seqdistill.data.sequences import cases
from seqdistill.data.splits import Protocol, split
from seqdistill.evaluation.baselines import text_knn
from seqdistill.evaluation.ranking import model_score, rank
from seqdistill.models.transformer import SequentialRecommender
from seqdistill.profiles.facts import histories, history_lines
from seqdistill.training.train import training_data
from test_splits import EVENTS, PROTOCOLS, timed


@given(EVENTS, st.sampled_from(PROTOCOLS), st.floats(0.1, 1), st.floats(0, 1), st.integers(0, 4), st.integers(0, 4))
def test_cold_items_lose_as_many_training_events_as_asked_for_and_nothing_else(
    events, protocol, share, removed, low, more
):
    events = events.assign(split=split(events, protocol))
    left, gone, starved = cold_items(events, share, removed, (low, low + more))
    targets, cold = set(events.loc[events["split"] == "test", "item"]), {*gone, *starved}
    assert len(cold) == len(gone) + len(starved) == round(share * len(targets)) and cold <= targets
    assert len(gone) == int(removed * len(cold))
    least, most, after = counts(events, 12), counts(events, 12), counts(left, 12)
    least[gone - 1] = most[gone - 1] = 0
    least[starved - 1], most[starved - 1] = least[starved - 1].clip(max=low), most[starved - 1].clip(max=low + more)
    assert (least <= after).all() and (after <= most).all()
    others = [frame[frame["split"] != "train"].reset_index(drop=True) for frame in (events, left)]
    assert others[0].equals(others[1])
    assert left.equals(left.sort_values(["user", "time"], kind="stable"))


def test_cold_items_draws_other_items_with_another_seed():
    events = timed([(0, item, item) for item in range(1, 40)])
    events = events.assign(split=split(events, Protocol("global_time", targets="all")))
    assert len({tuple(cold_items(events, 0.4, seed=seed)[1]) for seed in range(5)}) > 1


@given(EVENTS, st.sampled_from(PROTOCOLS), st.floats(0.1, 0.5), st.integers(1, 5), st.integers(0, 3))
def test_newcomers_are_not_trained_on_and_are_tested_from_their_first_events(events, protocol, share, most, seed):
    events = events.assign(split=split(events, protocol))
    late = newcomers(events, share, most, seed)
    new = set(late.loc[late["split"].isin(["test", "input"]) & ~late["split"].eq(events["split"]), "user"])
    tested = cases(late, "test")
    assert not new & set(late.loc[late["split"].isin(["train", "valid"]), "user"])
    assert (tested.histories.lengths == tested.position + 1).all() and tested.position.max() < most
    users = events["user"].unique()
    drawn = np.random.default_rng(seed).choice(users, round(share * len(users)), replace=False)
    others = ~events["user"].isin(drawn)
    before, after = events["split"][others], late["split"][others]
    assert (after[before != "test"] == before[before != "test"]).all() and (after[before == "test"] == "unused").all()
    assert len(np.unique(tested.histories.users)) <= round(share * events["user"].nunique())


@settings(max_examples=8)
@given(EVENTS, st.sampled_from(PROTOCOLS), st.integers(0, 3))
def test_no_removed_item_is_trained_on_or_written_about(events, protocol, seed):
    events = events.assign(split=split(events, protocol), value=1.0 + events["item"] % 5)
    items = pd.DataFrame({"item": range(1, 13), "title": [f"Title {i}." for i in range(1, 13)], "categories": "a|b"})
    left, removed, _ = drawn = cold_items(events, 0.6, seed=seed)
    assert not np.isin(training_data(left, 12).train.items, removed).any()
    found, facts = histories(left[left["split"] == "train"], items), cold.write_facts(left, items)
    texts = " ".join([*facts.values(), *(line for one in found.values() for line in history_lines(one))])
    assert not [item for item in removed if f"Title {item}." in texts]
    assert cold.titles_named(events, facts, items, removed) == 0
    test = left.loc[left["split"] == "test"]
    affected = test[np.isin(test["item"], np.concatenate(drawn[1:]))]
    found = {"users": len(set(left["user"])), "items": len(set(left["item"])), "interactions": len(left)}
    found |= {"removed": len(removed), "reduced": len(drawn[2])}
    assert cold.statistics(drawn) == found | {"test_users_with_cold_items": len(set(affected["user"]))}


def test_the_leak_is_counted():
    events = pd.DataFrame({"user": 0, "item": range(1, 8), "time": range(7), "value": np.nan})
    events["split"] = ["train"] * 6 + ["test"]
    items = pd.DataFrame({"item": range(1, 8), "title": [f"Title {i}." for i in range(1, 8)]})
    left = events[~events["item"].isin([2, 6])]
    of_all, of_left = cold.write_facts(events, items), cold.write_facts(left, items)  # of the three latest, 4 5 6
    assert [cold.titles_named(events, facts, items, np.array([2, 6])) for facts in (of_all, of_left)] == [1, 0]


def test_text_knn_by_hand():
    s = 3**0.5 / 2
    score = text_knn(np.array([[1, 0], [-0.5, s], [-0.5, -s]]) + 7)  # what all texts share does not count
    found = score(np.arange(2), torch.tensor([[1, 0], [1, 2]]))
    torch.testing.assert_close(found, torch.tensor([[1, -0.5, -0.5], [0.25, 0.25, -0.5]]))


@pytest.mark.parametrize("config", [{}, {"causal": False}, {"temperature": 0.1}])
def test_a_score_with_the_term_is_what_its_definition_says(config, given):
    model = SequentialRecommender(30, ModelConfig(dim=8, length=12, dropout=0, **config)).eval()
    texts, unseen = np.random.default_rng(0).standard_normal((30, 5)).astype(np.float32), np.arange(30) < 4
    h, read = text_score.states(model, given.test.histories), (torch.randn(8, 5), torch.randn(5))
    score = text_score.profile_score(model, h, read, texts, unseen, 0.7, 1.5)
    profile = h @ read[0] + read[1]
    wanted = h @ model.catalogue().detach().T + 0.7 * profile @ torch.from_numpy(texts).T
    wanted[:, :4] += 1.5
    torch.testing.assert_close(score(np.arange(len(h)), h), wanted)
    plain = text_score.profile_score(model, h, read, texts, unseen, 0.0, 0.0)
    assert rank(given.test, plain).equals(rank(given.test, model_score(model)))


def test_a_profile_that_is_linear_in_the_state_is_reconstructed():
    h, weights = torch.randn(200, 4) * 3 + 1, torch.randn(4, 6)
    profile = h @ weights + 2
    for ridge, expected in ((1e-6, profile), (1e9, profile.mean(0).expand(200, -1))):
        found = text_score.reconstruction(h, profile.numpy(), ridge)
        torch.testing.assert_close(h @ found[0] + found[1], expected, atol=1e-3, rtol=0)


def test_the_choice_is_the_best_on_removed_items_that_costs_little():
    rows = [(0, 0, 0.0, 0.10), (1, 0, 0.2, 0.099), (1, 1, 0.3, 0.097), (2, 0, 0.2, 0.0995)]
    grid = pd.DataFrame(rows, columns=["weight", "lift", "removed", "unaffected"])
    assert [text_score.cheapest(grid, least)["weight"] for least in (0.1, 0.0985, 0.5)] == [0, 2, 0]
    assert text_score.cheapest(grid, 0.09)["lift"] == 1

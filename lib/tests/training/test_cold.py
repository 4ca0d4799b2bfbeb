"""Cold items: what is taken out of training and what must stay; comparisons by group; the score that reads texts."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from seqdistill.config import ModelConfig
from seqdistill.data import cold as cold_data
from seqdistill.data.cold import cold_items
from seqdistill.data.sequences import cases
from seqdistill.data.splits import split
from seqdistill.evaluation.baselines import text_knn
from seqdistill.evaluation.ranking import model_score, rank
from seqdistill.io import UserError
from seqdistill.models.transformer import SequentialRecommender
from seqdistill.profiles.facts import histories, history_lines
from seqdistill.reporting import cold_tables, report
from seqdistill.serving import text_score
from seqdistill.training import cold
from seqdistill.training.train import training_data
from test_splits import EVENTS, PROTOCOLS


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
    assert cold_data.statistics(drawn) == {
        "users": len(set(left["user"])),
        "items": len(set(left["item"])),
        "interactions": len(left),
        "removed": len(removed),
        "reduced": len(drawn[2]),
        "test_users_with_cold_items": len(set(affected["user"])),
    }


def test_the_leak_is_counted():
    events = pd.DataFrame({"user": 0, "item": range(1, 8), "time": range(7), "value": np.nan})
    events["split"] = ["train"] * 6 + ["test"]
    items = pd.DataFrame({"item": range(1, 8), "title": [f"Title {i}." for i in range(1, 8)]})
    left = events[~events["item"].isin([2, 6])]
    assert (
        cold.titles_named(events, cold.write_facts(events, items), items, np.array([2, 6])) == 1
    )  # of the three latest, 4 5 6
    assert cold.titles_named(events, cold.write_facts(left, items), items, np.array([2, 6])) == 0


def test_the_papers_counts_are_an_expectation():
    paper = report.paper("cold_data").assign(source="paper")
    ours = paper.iloc[[0]].assign(source="ours", items=16_000, removed=5_000)
    said = cold.expectation(pd.concat([ours, paper], ignore_index=True), "beauty")
    assert "users +0.0%: *met*" in said and "items +2.0%: *met*" in said and "removed +20.5%: *not met*" in said
    assert (
        cold.expectation(pd.concat([ours.assign(dataset="mine"), paper]), "mine") == "The paper has no counts for mine."
    )


def ranked(kept):
    return pd.DataFrame(
        {"user": [0, 0, 1], "item": [1, 2, 3], "position": [0, 1, 0], "rank_all": kept, "rank_unseen": kept}
    )


def test_a_comparison_within_groups_by_hand():
    a, b = [ranked([1, 99, 99]), ranked([99, 99, 3])], [ranked([99, 99, 99]), ranked([99, 1, 99])]
    marks = [np.array([True, False, True]), np.array([False, True, False])]
    table = cold_tables.compare_within({"x a": a, "x b": b}, marks, {"x b": "x a"}).set_index("variant")
    # user 0: a has 1 in seed 0 and 0 in seed 1, b the other way round; user 1 counts in seed 0 only
    assert table["ndcg@10"].tolist() == [0.25, 0.25] and table.loc["x b", "delta_ndcg@10"] == 0
    assert table["cases"].tolist() == [3, 3] and table["users"].tolist() == [2, 2]
    assert table.loc["x a", "ndcg@10_std"] == pytest.approx(np.std([0.5, 0.0], ddof=1))


def test_a_user_counts_in_the_seeds_that_have_them_and_seeds_keep_their_spread():
    index = pd.MultiIndex.from_tuples([(0, 0), (0, 1), (1, 0)], names=["seed", "user"])
    first, second = cold_tables.by_seed(pd.Series([1.0, 4.0, 3.0], index=index))
    assert ((first + second) / 2).tolist() == [2.0, 4.0]
    assert second.mean() - first.mean() == pytest.approx(3.0 - 2.5)


def test_a_comparison_within_groups_needs_cases_and_the_same_ones():
    with pytest.raises(UserError, match="no test case of any seed"):
        cold_tables.compare_within({"x a": [ranked([1, 1, 1])]}, [np.zeros(3, bool)], {})
    other = ranked([1, 1, 1]).assign(user=[0, 0, 2])
    with pytest.raises(UserError, match="x b and x a"):
        cold_tables.compare_within({"x a": [ranked([1, 1, 1])], "x b": [other]}, [np.ones(3, bool)], {"x b": "x a"})


def test_groups_and_distribution_by_hand():
    drawn = (pd.DataFrame(), np.array([1]), np.array([2]))
    frames = [ranked([1, 5, 10])]
    marked = {group: cold_tables.masks(frames, [drawn], group)[0].tolist() for group in cold_data.GROUPS}
    assert marked == {
        "removed": [True, False, False],
        "reduced": [False, True, False],
        "affected": [True, True, False],
        "unaffected": [False, False, True],
    }
    curve = cold_tables.distribution({"x a": frames}, [drawn], 10, "affected").set_index("percentile")
    assert curve["median"].iloc[0] == pytest.approx(0.3)
    assert curve["share"].iloc[[0, 10, 49, 50, 100]].tolist() == [0, 0.5, 0.5, 1, 1]


def test_removed_targets_are_told_apart_by_the_last_item_of_the_history():
    splits = ["train", "train", "test", "test"]
    events = pd.DataFrame({"user": 0, "item": [3, 4, 1, 1], "time": range(4), "split": splits})
    drawn = (events, np.array([1]), np.array([], int))  # item 1 never trained: the second history ends in it
    ranks = pd.DataFrame({"user": 0, "item": [1, 1], "position": [0, 1], "rank_all": [4, 1], "rank_unseen": [4, 1]})
    shares = cold_tables.top_half([ranks], [cases(events, "test")], [drawn], 4)
    assert shares == {"known": 0.0, "unknown": 1.0}


def test_counts_of_training_events_are_grouped_at_the_named_bounds():
    numbers = np.array([0, 1, 2, 3, 5, 6, 9, 10, 20, 21])
    names = np.asarray(pd.cut(numbers, cold_tables.COUNTS, labels=cold_tables.COUNT_NAMES))
    assert names.tolist() == ["0", "1-2", "1-2", "3-5", "3-5", "6-9", "6-9", "10-20", "10-20", "more"]


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
    vectors, biases = text_score.with_profile_term(model, read, texts, unseen, 0.7, 1.5)
    profile = h @ read[0] + read[1]
    wanted = h @ model.catalogue().detach().T + 0.7 * profile @ torch.from_numpy(texts).T
    wanted[:, :4] += 1.5
    torch.testing.assert_close(h @ vectors.T + biases, wanted)
    plain = text_score.linear_score(h, *text_score.with_profile_term(model, read, texts, unseen, 0.0, 0.0))
    assert rank(given.test, plain).equals(rank(given.test, model_score(model)))


def test_a_profile_that_is_linear_in_the_state_is_reconstructed():
    h, weights = torch.randn(200, 4) * 3 + 1, torch.randn(4, 6)
    found = text_score.reconstruction(h, (h @ weights + 2).numpy(), ridge=1e-6)
    torch.testing.assert_close(h @ found[0] + found[1], h @ weights + 2, atol=1e-3, rtol=0)
    shrunk = text_score.reconstruction(h, (h @ weights + 2).numpy(), ridge=1e9)
    torch.testing.assert_close(h @ shrunk[0] + shrunk[1], (h @ weights + 2).mean(0).expand(200, -1), atol=1e-3, rtol=0)


def test_the_choice_is_the_best_on_removed_items_that_costs_little():
    rows = [(0, 0, 0.0, 0.10), (1, 0, 0.2, 0.099), (1, 1, 0.3, 0.097), (2, 0, 0.2, 0.0995)]
    grid = pd.DataFrame(rows, columns=["weight", "lift", "removed", "unaffected"])
    assert [text_score.cheapest(grid, least)["weight"] for least in (0.1, 0.0985, 0.5)] == [0, 2, 0]
    assert text_score.cheapest(grid, 0.09)["lift"] == 1

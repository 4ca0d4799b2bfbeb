import little_sources
import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from seqbook.zero_shot import category_auc, compare_sources, similarity_ranks
from seqdistill.embeddings.teachers import centred
from seqdistill.evaluation.ranking import MISS
from sklearn.metrics import roc_auc_score


@settings(max_examples=25)
@given(st.integers(0, 1000))
def test_rank_by_similarity_is_a_count_among_the_unseen(seed):
    rng = np.random.default_rng(seed)
    users, items = rng.standard_normal((4, 5)), rng.standard_normal((30, 5))
    targets, seen = rng.integers(1, 31, 4), [rng.choice(np.arange(1, 31), 8, replace=False) for _ in range(4)]
    scores = centred(users) @ centred(items).T
    for row, rank in enumerate(similarity_ranks(users, items, targets, seen)):
        rivals = [item for item in range(1, 31) if item not in seen[row]]
        ahead = 1 + sum(scores[row, item - 1] > scores[row, targets[row] - 1] for item in rivals)
        assert rank == (MISS if targets[row] in seen[row] else ahead)


@given(st.integers(0, 1000))
def test_category_auc_is_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    users, categories = rng.standard_normal((6, 3)), rng.standard_normal((9, 3))
    categories[4] = categories[5]  # a tie
    relevant = rng.random((6, 9)) < 0.4
    relevant[0], relevant[1], relevant[2:, 0], relevant[2:, 1] = True, False, True, False
    scores = centred(users) @ centred(categories).T
    expected = [np.nan] * 2 + [roc_auc_score(relevant[row], scores[row]) for row in range(2, 6)]
    np.testing.assert_allclose(category_auc(users, categories, relevant), expected, atol=1e-12)


def test_sources_that_carry_the_target_win_and_the_shuffled_one_is_at_chance():
    rng, items = np.random.default_rng(0), np.random.default_rng(1).standard_normal((30, 8)).astype(np.float32)
    targets = rng.integers(1, 31, 40)
    knows, seen = items[targets - 1], [np.setdiff1d(rng.integers(1, 31, 6), [target]) for target in targets]
    vectors = {"profile": knows, "item-text": knows, "shuffled": knows[rng.permutation(40)]}
    vectors["noise"] = rng.standard_normal((40, 8)).astype(np.float32)
    categories, relevant = items[[0, 1]], np.tile([True, False], (40, 1))
    table = compare_sources(vectors, items, categories, relevant, targets, seen).set_index("source")
    assert table.loc["profile", "item_percentile"] == table.loc["item-text", "item_percentile"] > 0.9
    assert table.loc[["shuffled", "noise"], "item_percentile"].between(0.3, 0.7).all()
    shown = table.loc[["profile", "item-text", "noise"]]
    assert (shown["p_holm"] >= shown["p"]).all() and table.loc["profile", "p_holm"] == 3 * table.loc["profile", "p"]
    rivals = np.array([30 - len(history) for history in seen])
    for source, rows in vectors.items():
        ranks, auc = similarity_ranks(rows, items, targets, seen), category_auc(rows, categories, relevant)
        expected = [auc, 1 - (ranks - 1) / (rivals - 1), ranks <= 10, (ranks <= 10) / np.log2(ranks + 1)]
        found = table.loc[source, ["category_auc", "item_percentile", "recall@10", "ndcg@10"]].astype(float)
        np.testing.assert_allclose(found, [np.mean(values) for values in expected])
    assert table.loc["profile", "ci_low"] > 0.2 and np.isnan(table.loc["shuffled", "delta"])


def test_the_little_study_ranks_each_users_own_validation_item_among_the_unseen():
    events = pd.DataFrame({"user": np.repeat([3, 7], 3), "item": [1, 2, 3, 4, 5, 6]})
    events["split"] = ["train", "train", "valid"] * 2
    catalogue, owners = np.eye(6, dtype=np.float32), np.array([3, 7])
    knows = 2 * catalogue[[0, 3]] + catalogue[[2, 5]]  # a seen item is nearer than the target
    vectors = {"facts": knows, "knows": knows, "errs": -knows}
    table = little_sources.zero_shot(events, owners, vectors, catalogue).set_index("variant")
    assert table.loc["knows", ["users", "zero_shot_ndcg@10", "percentile", "delta"]].tolist() == [2, 1, 1, 0]
    assert table.loc["errs", "percentile"] == 0 and table.loc["errs", "delta"] == -1


def test_profiles_that_repeat_an_example_of_the_prompt_are_counted():
    texts = pd.Series(["It is for fewer wrinkles and less sun damage, from drugstore brands.", "A buyer of soap."])
    assert little_sources.copied(texts, "beauty", "insight") == 0.5


def test_profiles_are_extended_to_users_without_one_where_cheap_vectors_predict_them():
    rng = np.random.default_rng(0)
    features, known = rng.standard_normal((300, 8)).astype(np.float32), np.arange(300) < 150
    vectors = (features @ rng.standard_normal((8, 5))).astype(np.float32)
    hidden = np.where(known[:, None], vectors, 0).astype(np.float32)
    all_vectors, r2 = little_sources.extended(hidden, features, known)
    assert (all_vectors[known] == vectors[known]).all() and r2 > 0.98
    assert np.abs(all_vectors[~known] - vectors[~known]).mean() < 0.1 * np.abs(vectors).mean()
    _, unrelated = little_sources.extended(rng.standard_normal((300, 5)).astype(np.float32), features, known)
    assert unrelated < 0.1


def test_a_share_of_the_users_gets_another_users_vector_and_a_larger_share_holds_the_smaller():
    vectors = np.arange(40.0)[:, None]
    changed = [set(np.flatnonzero(little_sources.exchanged(vectors, share) != vectors)) for share in (0.1, 0.5, 1.0)]
    assert [len(users) for users in changed] == [4, 20, 40] and changed[0] < changed[1] < changed[2]
    assert sorted(little_sources.exchanged(vectors, 0.5)[:, 0]) == list(range(40))

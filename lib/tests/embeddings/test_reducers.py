import numpy as np
import pytest
import torch
from seqdistill.embeddings import reducers
from seqdistill.io import UserError
from seqdistill.training.train import load_teacher
from sklearn.preprocessing import scale


def cloud(n=80, seed=0):
    """Three dimensions of taste in 20 columns, with a little noise."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, 3)) @ np.random.default_rng(7).standard_normal((3, 20))).astype(np.float32) + 0.01


def test_pca_of_three_dimensions_keeps_all_and_transforms_later_users():
    vectors = cloud()
    reduced, transform = reducers.fit(vectors[:60], "pca", 3)
    values = reducers.diagnostics(vectors[:60], reduced)
    assert values["explained_variance"] == pytest.approx(1, abs=1e-5) and 2 < values["effective_rank"] <= 3
    both, _ = reducers.fit(vectors, "pca", 3)
    later = transform(vectors[60:])
    np.testing.assert_allclose(transform(vectors[:60]), reduced, atol=1e-5)
    assert later.shape == (20, 3) and not np.allclose(later, both[60:], atol=1e-3), "later users must not be fitted on"


def test_pca_by_hand_and_with_a_sign_of_its_own():
    """The largest entry of each principal component is positive, so that another LAPACK gives the same teacher."""
    vectors = np.array([[1.0, 2, -9], [-1, -2, 9], [2, -1, 0], [-2, 1, 0]])
    reduced, _ = reducers.fit(vectors, "pca", 2)
    np.testing.assert_allclose(reduced, [[-(86**0.5), 0], [86**0.5, 0], [0, 5**0.5], [0, -(5**0.5)]], atol=1e-5)


@pytest.mark.parametrize("kind", ["umap", "pca", "none"])
def test_a_saved_reducer_reduces_as_the_fitted_one(kind, tmp_path):
    vectors = cloud()
    _, transform = reducers.fit(vectors[:60], kind, 2, 10, 3)
    settings = {"kind": kind, "components": "2", "neighbors": "10", "seed": "3", "metric": "cosine"}
    reducers.save_reducer(tmp_path / "r.safetensors", vectors[:60], settings)
    loaded, stored = reducers.load_reducer(tmp_path / "r.safetensors")
    numbers = {name: int(stored[name]) for name in ("components", "neighbors", "seed")}
    _, again = reducers.fit(loaded, stored["kind"], metric=stored["metric"], **numbers)
    assert np.array_equal(loaded, vectors[:60]) and stored == settings
    np.testing.assert_allclose(again(vectors[60:]), transform(vectors[60:]), atol=1e-4)


def test_umap_with_a_seed_is_repeatable_and_keeps_neighbours():
    vectors = cloud()
    first, _ = reducers.fit(vectors, "umap", 2, 10, 0)
    assert np.array_equal(first, reducers.fit(vectors, "umap", 2, 10, 0)[0])
    values, chance = reducers.diagnostics(vectors, first), 10 / 79
    assert values["neighbour_overlap"] > 2 * chance and values["trustworthiness"] > 0.8
    mixed = reducers.diagnostics(vectors, first[np.random.default_rng(0).permutation(80)])
    assert mixed["trustworthiness"] < 0.6 and mixed["explained_variance"] < 0.2


@pytest.mark.parametrize("equal", [slice(0, 10), slice(20, 80)])
def test_umap_gives_equal_rows_one_place(equal, tmp_path):
    vectors = cloud(140)
    vectors[equal] = vectors[equal.start]
    reduced, transform = reducers.fit(vectors, "umap", 2, 10)
    assert len(np.unique(reduced[equal], axis=0)) == 1 and len(np.unique(reduced, axis=0)) > 60
    alone, _ = reducers.fit(vectors[~np.isin(np.arange(140), np.arange(140)[equal][1:])], "umap", 2, 10)
    np.testing.assert_array_equal(np.delete(reduced, np.arange(140)[equal][1:], 0), alone)
    assert len(np.unique(transform(np.repeat(vectors[30:31], 5, 0)), axis=0)) == 1


@pytest.mark.parametrize("kind", reducers.REDUCERS)
def test_a_constant_teacher_and_too_few_distinct_rows_are_refused(kind):
    with pytest.raises(UserError, match="all 200 vectors are equal"):
        reducers.fit(np.repeat(cloud(1), 200, 0), kind, 2)
    if kind != "none":
        with pytest.raises(UserError, match=f"{kind}: 4 distinct vectors"):
            reducers.fit(np.repeat(cloud(4), 50, 0), kind, 5)


def test_effective_rank_and_explained_variance_by_hand():
    before = np.array([[2.0, 0, 1], [-2, 0, 1], [0, 2, 1], [0, -2, 1]])
    values = reducers.diagnostics(before, before[:, :2], 1)
    assert values["effective_rank"] == pytest.approx(2) and values["explained_variance"] == pytest.approx(1)
    assert reducers.diagnostics(before, before[:, :1], 1)["explained_variance"] == pytest.approx(0.5)


@pytest.mark.parametrize(("kind", "message"), [("tsne", '"tsne" is not a reducer'), ("pca", "are too few")])
def test_what_cannot_be_reduced_is_named(kind, message):
    with pytest.raises(UserError, match=message):
        reducers.fit(cloud(), kind, 100)


def test_too_few_users_for_neighbours_are_named():
    with pytest.raises(UserError, match="8 users have a profile; more than 20"):
        reducers.diagnostics(np.eye(8), np.eye(8))


def test_a_teacher_has_a_row_for_every_user_the_mean_of_several_profiles():
    space = np.array([[1.0, 5.0], [3.0, 5.0], [5.0, 5.0]])
    alone = reducers.teacher_rows(space, np.array([3, 0, 2]), 4)
    z = 1.5**0.5
    np.testing.assert_allclose(alone, [[0, 0], [np.nan, np.nan], [z, 0], [-z, 0]], rtol=1e-6)
    assert alone.is_contiguous()
    several = reducers.teacher_rows(space, np.array([0, 0, 2]), 3)
    np.testing.assert_allclose(several, [[-z / 2, 0], [np.nan, np.nan], [z, 0]], rtol=1e-6)


def test_a_nearly_constant_dimension_is_not_blown_up():
    vectors = np.random.default_rng(0).standard_normal((50, 3))
    vectors[:, 1] *= 1e-9
    rows = reducers.standardised(vectors).numpy()
    np.testing.assert_allclose(rows[:, [0, 2]], scale(vectors[:, [0, 2]]), atol=1e-6)
    assert not rows[:, 1].any()


def test_a_teacher_is_read_as_it_was_written_whatever_its_layout(tmp_path):
    teacher = torch.arange(6.0).view(2, 3).T
    reducers.save_teacher(tmp_path / "teacher.safetensors", teacher, {"events": "key"})
    assert torch.equal(load_teacher(tmp_path / "teacher.safetensors", "key"), teacher)


def test_a_teacher_is_named_by_what_it_was_made_from_unless_by_umap():
    about = {"events": "key", "source": "facts"}
    assert reducers.named(about, "umap", 20) == about
    names = {
        reducers.named(made, "pca", latest)["name"]
        for made in (about, {**about, "source": "profile"})
        for latest in (20, 20, 30)
    }
    assert len(names) == 4

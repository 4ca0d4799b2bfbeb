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


def test_a_saved_reducer_reduces_as_the_fitted_one(tmp_path):
    vectors, settings = cloud(), {"kind": "umap", "components": "2"}
    _, transform = reducers.fit(vectors[:60], "umap", 2)
    reducers.save_reducer(tmp_path / "r.safetensors", vectors[:60], settings)
    loaded, stored = reducers.load_reducer(tmp_path / "r.safetensors")
    _, again = reducers.fit(loaded, stored["kind"], int(stored["components"]))
    assert stored == settings
    np.testing.assert_allclose(again(vectors[60:]), transform(vectors[60:]), atol=1e-4)


def test_umap_with_a_seed_is_repeatable_and_keeps_neighbours():
    vectors = cloud()
    first, _ = reducers.fit(vectors, "umap", 2, 10, 0)
    assert first.shape == (80, 2)
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


REFUSED = [
    *((np.repeat(cloud(1), 200, 0), kind, 2, "all 200 vectors are equal") for kind in reducers.REDUCERS),
    *((np.repeat(cloud(4), 50, 0), kind, 5, f"{kind}: 4 distinct vectors") for kind in ("umap", "pca")),
    (cloud(), "tsne", 100, '"tsne" is not a reducer'),
    (cloud(), "pca", 100, "are too few"),
]


@pytest.mark.parametrize(("vectors", "kind", "components", "message"), REFUSED)
def test_what_cannot_be_reduced_is_named(vectors, kind, components, message):
    with pytest.raises(UserError, match=message):
        reducers.fit(vectors, kind, components)


def test_too_few_users_for_neighbours_are_named():
    with pytest.raises(UserError, match="8 users have a profile; more than 20"):
        reducers.diagnostics(np.eye(8), np.eye(8))


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
    assert reducers.teacher_rows(np.eye(3), np.array([3, 0, 2]), 4).is_contiguous()


def test_a_teacher_is_named_by_what_it_was_made_from_unless_by_umap():
    about = {"events": "key", "source": "facts"}
    assert reducers.named(about, "umap", 20) == about
    made = [(about, 20), (about, 20), (about, 30), (about | {"source": "profile"}, 20)]
    assert len({reducers.named(sources, "pca", latest)["name"] for sources, latest in made}) == 3

"""Vectors -> teacher vectors of the student's size, and what is lost on the way."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from seqdistill.io import UserError, save_with, unusable

Transform = Callable[[np.ndarray], np.ndarray]
REDUCERS = ("umap", "pca", "none")
SAMPLE = 2000  # rows that quadratic diagnostics look at


def fit(
    vectors: np.ndarray, kind: str, components: int, neighbors: int = 15, seed: int = 0, metric: str = "cosine"
) -> tuple[np.ndarray, Transform]:
    """Fit a reducer on training users.

    `umap` is McInnes et al. (2018); its fixed seed makes it single-threaded and repeatable. `none` keeps the vectors.

    Args:
        vectors: [n, e].
        kind: umap, pca or none.
        components: r; without effect for `none`.
        neighbors, metric: UMAP's.
        seed: of UMAP.

    Returns:
        Reduced vectors [n, r], and a function that reduces the vectors of users who come later.

    Raises:
        UserError: the kind is not known, or there are too few vectors for so many components or neighbours.
    """
    if kind not in REDUCERS:
        raise UserError(f'reducers: "{kind}" is not a reducer; choose one of {", ".join(REDUCERS)}.')
    if kind == "none":
        return vectors.astype(np.float32), lambda more: more.astype(np.float32)
    if kind == "pca":
        if min(vectors.shape) < components:
            raise UserError(
                f"pca: {vectors.shape[0]} vectors of {vectors.shape[1]} dimensions are too few for {components} "
                "components; set `components` of 03-embeddings lower."
            )
        mean = vectors.mean(0)
        basis = np.linalg.svd(vectors - mean, full_matrices=False)[2][:components]
        return pca_transform(mean, basis)(vectors), pca_transform(mean, basis)
    if len(vectors) <= max(components + 1, neighbors):
        raise UserError(
            f"umap: {len(vectors)} vectors are too few for {components} components and {neighbors} neighbours; "
            "set `components` and `neighbors` of 03-embeddings lower."
        )
    from umap import UMAP  # compiles for seconds

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_jobs value 1 overridden")
        reducer = UMAP(n_components=components, n_neighbors=neighbors, metric=metric, random_state=seed)
        reduced = reducer.fit_transform(vectors).astype(np.float32)
    return reduced, lambda more: reducer.transform(more).astype(np.float32)


def pca_transform(mean: np.ndarray, basis: np.ndarray) -> Transform:
    """Project onto principal components, mean [e] and basis [r, e]."""
    signs = np.sign(basis[np.arange(len(basis)), np.abs(basis).argmax(1)])
    return lambda vectors: ((vectors - mean) @ (basis * signs[:, None]).T).astype(np.float32)


def save_reducer(path: Path, vectors: np.ndarray, settings: dict[str, str]) -> None:
    """Save what a reducer is made from: the vectors that it was fitted on, and its settings as text.

    UMAP can be stored by pickle only; from these it can be fitted again.
    """
    data = {"vectors": np.ascontiguousarray(vectors, np.float32)}
    save_with(lambda temporary: save_file(data, temporary, metadata=settings), path)


def load_reducer(path: Path) -> tuple[np.ndarray, dict[str, str]]:
    """Read what `save_reducer` wrote: vectors and settings.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        with safe_open(path, "np") as tensors:
            return tensors.get_tensor("vectors"), tensors.metadata()
    except FileNotFoundError:
        raise unusable(path, "no such file") from None
    except SafetensorError as error:
        raise unusable(path, f"damaged ({error})") from None


def standardised(vectors: np.ndarray) -> torch.Tensor:
    """Centre each dimension and give it unit variance; a constant one becomes 0. [n, r] -> [n, r]."""
    centred = torch.from_numpy(vectors).float() - torch.from_numpy(vectors).float().mean(0)
    std = centred.std(0, correction=0)
    return torch.where(std > 1e-6, centred / std.clamp_min(1e-6), 0.0)


def teacher_rows(space: np.ndarray, owners: np.ndarray, users: int) -> torch.Tensor:
    """Standardise the vectors [n, r] of some users into the teacher of all; what is not there is NaN.

    Returns:
        [U, r]; or, where an owner stands in `owners` P times at most for as many profiles, [U, P, r].
    """
    place = pd.Series(owners).groupby(owners).cumcount().to_numpy(copy=True)
    rows = torch.full((users, place.max() + 1, space.shape[1]), torch.nan)
    rows[torch.from_numpy(np.array(owners)), torch.from_numpy(place)] = standardised(space)
    return rows.squeeze(1)


def save_teacher(path: Path, teacher: torch.Tensor, about: dict[str, str]) -> None:
    """Write a teacher with what it was made from."""
    save_with(lambda temporary: save_file({"teacher": teacher.numpy()}, temporary, metadata=about), path)


def neighbours(vectors: np.ndarray, k: int, metric: str) -> np.ndarray:
    """Indices of the k nearest other rows, [n, k]."""
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=k, metric=metric).fit(vectors).kneighbors(return_distance=False)


def neighbour_overlap(before: np.ndarray, after: np.ndarray, k: int) -> float:
    """Mean share of the k nearest neighbours (cosine) that are still among the k nearest (Euclidean) afterwards."""
    pairs = zip(neighbours(before, k, "cosine"), neighbours(after, k, "euclidean"), strict=True)
    return float(np.mean([len(np.intersect1d(a, b)) / k for a, b in pairs]))


def effective_rank(vectors: np.ndarray) -> float:
    """Exponential of the entropy of the normalised singular values (Roy and Vetterli, 2007), of centred vectors."""
    values = np.linalg.svd(vectors - vectors.mean(0), compute_uv=False)
    shares = values[values > 1e-12] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def explained_variance(before: np.ndarray, after: np.ndarray) -> float:
    """Share of the variance of `before` that the best linear map from `after` gives back; for PCA its usual figure."""
    centred, reduced = before - before.mean(0), after - after.mean(0)
    found, *_ = np.linalg.lstsq(reduced, centred, rcond=None)
    return float(1 - ((centred - reduced @ found) ** 2).sum() / (centred**2).sum())


def diagnostics(before: np.ndarray, after: np.ndarray, k: int = 10) -> dict[str, float]:
    """What a reduction keeps: trustworthiness (Venna and Kaski, 2001), neighbour overlap, variance, effective rank.

    Args:
        before, after: the same users' vectors [n, e] and [n, r]; beyond `SAMPLE` users an even sample is looked at.
        k: neighbours.

    Raises:
        UserError: there are too few users for so many neighbours.
    """
    from sklearn.manifold import trustworthiness

    if len(before) <= 2 * k:
        raise UserError(
            f"reducers: {len(before)} users have a profile; more than {2 * k} are needed to compare neighbours."
        )
    step = max(1, len(before) // SAMPLE)
    before, after = before[::step], after[::step]
    return {
        "trustworthiness": float(trustworthiness(before, after, n_neighbors=k, metric="cosine")),
        "neighbour_overlap": neighbour_overlap(before, after, k),
        "explained_variance": explained_variance(before, after),
        "effective_rank": effective_rank(after),
    }

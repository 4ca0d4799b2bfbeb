"""Vectors -> teacher vectors of the student's width, and what the reduction loses."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.manifold import trustworthiness
from sklearn.metrics import r2_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from seqdistill.io import UserError, digest, readable, require, save_with

Transform = Callable[[np.ndarray], np.ndarray]
REDUCERS = ("umap", "pca", "none")
MILD = 0.1  # standardised teachers have a root mean square above this and below its inverse
SAMPLE = 2000  # rows that diagnostics of quadratic cost use


def distinct(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows [n, e] -> those that differ, in order, [m, e], and the place of each row among them, [n]."""
    copies, _ = pd.factorize(pd.Series([row.tobytes() for row in vectors]))
    return vectors[pd.Series(copies).drop_duplicates().index], copies


def fit(
    vectors: np.ndarray, kind: str, components: int, neighbors: int = 15, seed: int = 0, metric: str = "cosine"
) -> tuple[np.ndarray, Transform]:
    """Fit a reducer on the vectors of training users, [n, e] -> [n, r].

    Returns reduced vectors, and a function that reduces those of later users. `umap` is McInnes et al. (2018); it alone
    uses neighbors, seed (single-threaded, so repeatable) and metric. `none` keeps the vectors.
    """
    if np.ptp(vectors, axis=0).max() < 1e-6:
        raise UserError(f"reducers: all {len(vectors)} vectors are equal: a teacher must tell users apart.")
    if kind not in REDUCERS:
        raise UserError(f'reducers: "{kind}" is not a reducer; choose one of {", ".join(REDUCERS)}.')
    if kind == "none":
        return vectors.astype(np.float32), lambda more: more.astype(np.float32)
    rows, _ = distinct(vectors)
    needed = components if kind == "pca" else 1 + max(components + 1, neighbors)
    if len(rows) < needed or (kind == "pca" and vectors.shape[1] < components):
        raise UserError(
            f"{kind}: {len(rows)} distinct vectors of {vectors.shape[1]} dimensions are too few for {components} "
            f"components: {needed} are needed; set `components` and `neighbors` of 03-embeddings lower."
        )
    if kind == "pca":
        vectors = vectors.astype(np.float64)  # float32 would leave the last components to the processor's rounding
        reducer = PCA(components, svd_solver="full")
        reduced = reducer.fit_transform(vectors).astype(np.float32)
        return reduced, lambda more: reducer.transform(more).astype(np.float32)
    UMAP = require("umap", "text").UMAP  # compiles for seconds

    def of_distinct(reduce: Transform, vectors: np.ndarray) -> np.ndarray:
        rows, copies = distinct(vectors)  # UMAP separates equal rows, and does so differently in every process
        return reduce(rows)[copies].astype(np.float32)

    reducer = UMAP(n_components=components, n_neighbors=neighbors, metric=metric, random_state=seed, n_jobs=1)
    return of_distinct(reducer.fit_transform, vectors), partial(of_distinct, reducer.transform)


def save_reducer(path: Path, vectors: np.ndarray, settings: dict[str, str]) -> None:
    """Save the vectors that a reducer is fitted on, and its settings as text; UMAP itself could only be pickled."""
    tensors = {"vectors": np.ascontiguousarray(vectors, np.float32)}
    save_with(lambda temporary: save_file(tensors, temporary, metadata=settings), path)


def load_reducer(path: Path) -> tuple[np.ndarray, dict[str, str]]:
    """Read what `save_reducer` wrote: vectors and settings; see `io.readable`."""
    with readable(path), safe_open(path, "np") as tensors:
        return tensors.get_tensor("vectors"), tensors.metadata()


def standardised(vectors: np.ndarray) -> torch.Tensor:
    """Centre each dimension and give it unit variance; a constant one becomes 0. [n, r] -> [n, r]."""
    scaler = StandardScaler().fit(vectors)
    return torch.from_numpy(np.where(scaler.var_ > 1e-12, scaler.transform(vectors), 0)).float()


def checked_teacher(values: object, users: int) -> torch.Tensor:
    """Take a teacher [U, r] from torch, numpy or pandas; UserError if its shape, values or scale are invalid."""
    values = values if isinstance(values, torch.Tensor) else torch.from_numpy(np.array(values))
    teacher, why = values.detach().cpu().float().contiguous(), ""
    if teacher.ndim != 2 or len(teacher) < users:
        shape = " x ".join(map(str, teacher.shape))
        why = f"{shape} values; a row for each of {users} users is expected, NaN for no teacher"
    elif len(bad := (~teacher.isfinite().all(1) & ~teacher.isnan().all(1)).nonzero()):
        why = f"row {int(bad[0])} is neither finite nor, for a user without a teacher, NaN throughout"
    elif (size := float(teacher.square().nanmean().sqrt())) < MILD or size > 1 / MILD:
        why = f"values of {size:.3g} (root mean square) are not standardised; mean 0 and variance 1 in every column"
        why += " are expected: use `embeddings.reducers.standardised`"
    if why:
        raise UserError(f"teacher: {why}.")
    return teacher


def teacher_rows(space: np.ndarray, owners: np.ndarray, users: int) -> torch.Tensor:
    """Standardise vectors [n, r] into the teacher of all users, [U, r]: means by owner, NaN for the others."""
    means = pd.DataFrame(standardised(space).numpy()).groupby(np.asarray(owners)).mean()
    return torch.from_numpy(np.array(means.reindex(range(users)), np.float32, order="C"))


def named(about: dict[str, str], kind: str, *more: object) -> dict[str, str]:
    """Add a teacher's name, a digest of its sources and `more`; not with UMAP, whose result varies by processor."""
    return about if kind == "umap" else {**about, "name": digest([about, *more])}


def save_teacher(path: Path, teacher: torch.Tensor, made_from: dict[str, str]) -> None:
    """Write a teacher, with its sources as metadata."""
    rows = np.ascontiguousarray(teacher.numpy())  # safetensors writes bytes as they lie in memory
    save_with(lambda temporary: save_file({"teacher": rows}, temporary, metadata=made_from), path)


def neighbours(vectors: np.ndarray, k: int, metric: str) -> np.ndarray:
    """Indices of the k nearest other rows, [n, k]."""
    return NearestNeighbors(n_neighbors=k, metric=metric).fit(vectors).kneighbors(return_distance=False)


def diagnostics(before: np.ndarray, after: np.ndarray, k: int = 10) -> dict[str, float]:
    """What a reduction keeps of users' vectors, [n, e] -> [n, r]; beyond `SAMPLE` users, on an even sample of them.

    trustworthiness: Venna and Kaski (2001). neighbour_overlap: mean share of the k nearest neighbours (cosine) that are
    still among the k nearest (Euclidean). explained_variance: of `before`, by the best linear map from `after`.
    effective_rank: exponential of the entropy of the normalised singular values (Roy and Vetterli, 2007), centred.
    """
    if len(before) <= 2 * k:
        raise UserError(f"reducers: {len(before)} users have a profile; more than {2 * k} are needed.")
    step = max(1, len(before) // SAMPLE)
    before, after = before[::step], after[::step]
    pairs = zip(neighbours(before, k, "cosine"), neighbours(after, k, "euclidean"), strict=True)
    restored = LinearRegression().fit(after, before).predict(after)
    spectrum = np.linalg.svd(after - after.mean(0), compute_uv=False)
    return {
        "trustworthiness": float(trustworthiness(before, after, n_neighbors=k, metric="cosine")),
        "neighbour_overlap": float(np.mean([len(np.intersect1d(*pair)) / k for pair in pairs])),
        "explained_variance": float(r2_score(before, restored, multioutput="variance_weighted")),
        "effective_rank": float(np.exp(stats.entropy(spectrum))),
    }


def made_from(path: Path) -> dict[str, str]:
    """Sources of teacher vectors, as 03 recorded them: events, profiles, source, encoder, reducer; see `named`."""
    with readable(path), safe_open(path, "pt") as tensors:
        return tensors.metadata()

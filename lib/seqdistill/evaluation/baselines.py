"""Baselines, fitted on training events only; settings of item-kNN, EASE, iALS and Markov are chosen on validation."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from scipy import sparse
from threadpoolctl import threadpool_limits
from torch import Tensor

from seqdistill.data.sequences import Cases
from seqdistill.embeddings.teachers import centred
from seqdistill.evaluation.ranking import Score, metrics, rank
from seqdistill.io import require

DAY = 86_400


def popularity(train: pd.DataFrame, items: int) -> Score:
    """Score every item by its number of training events."""
    counts = torch.from_numpy(np.bincount(train["item"], minlength=items + 1)[1:]).double()
    return lambda chosen, _: counts.expand(len(chosen), -1)


def recent_popularity(train: pd.DataFrame, items: int, cases: Cases, days: float) -> Score:
    """Score every item by its training events in the `days` before the case; popularity overall breaks ties."""
    ordered = train.sort_values("time", kind="stable")
    times, ids = ordered["time"].to_numpy(), ordered["item"].to_numpy()
    overall = np.bincount(ids, minlength=items + 1)[1:]
    start = np.searchsorted(times, cases.times - days * DAY, "left")
    end = np.searchsorted(times, cases.times, "left")

    def score(chosen: np.ndarray, _: Tensor) -> Tensor:
        recent = np.stack([np.bincount(ids[start[case] : end[case]], minlength=items + 1)[1:] for case in chosen])
        return torch.from_numpy(recent + overall / (overall.max() + 1))

    return score


def matrix(train: pd.DataFrame, items: int) -> sparse.csr_array:
    """Users x items, [U, V]: 1 where a user has a training event of the item, else 0."""
    shape = (train["user"].max() + 1, items)
    met = sparse.csr_array((np.ones(len(train), np.float32), (train["user"], train["item"] - 1)), shape=shape)
    met.data[:] = 1.0
    return met


def weighed(histories: Tensor, items: int, decay: float = 1.0) -> sparse.csr_array:
    """Histories as rows over the catalogue, [B, V]: an event counts decay^age, the age of the last being 0."""
    row, column = (histories > 0).nonzero(as_tuple=True)
    age = (histories > 0).sum(1)[row] - 1 - column
    places = (row.numpy(), histories[row, column].numpy() - 1)
    return sparse.csr_array((decay ** age.numpy().astype(np.float32), places), shape=(len(histories), items))


def by_history(weights: sparse.csr_array | np.ndarray, decay: float = 1.0) -> Score:
    """Score an item by the sum of its weights [V, V] from the history's items (`weighed`)."""

    def score(_: np.ndarray, histories: Tensor) -> Tensor:
        scores = weighed(histories, weights.shape[0], decay) @ weights
        return torch.from_numpy(scores.toarray() if sparse.issparse(scores) else scores)

    return score


def item_knn(train: pd.DataFrame, items: int, shrinkage: float = 10.0, decay: float = 1.0) -> Score:
    """Score an item by its similarity to the items of the history, summed over them; recent ones may count more.

    The similarity of two items is n_ij / (sqrt(n_i n_j) + shrinkage), where n counts users (cosine; shrinkage keeps
    items with only one or two common users from the top; Cremonesi et al., 2010). An item is not similar to itself.
    """
    met = matrix(train, items)
    together = sparse.coo_array(met.T @ met)
    (i, j), users = together.coords, together.diagonal()
    values = np.where(i == j, 0, together.data / (np.sqrt(users[i] * users[j]) + shrinkage))
    return by_history(sparse.csr_array((values.astype(np.float32), (i, j)), shape=(items, items)), decay)


def markov(train: pd.DataFrame, items: int, smoothing: float = 1.0) -> Score:
    """Score an item by how often it followed the last item of the history, plus `smoothing` times its popularity."""
    previous, following = train["item"].to_numpy()[:-1], train["item"].to_numpy()[1:]
    same = train["user"].to_numpy()[1:] == train["user"].to_numpy()[:-1]
    pairs = (previous[same] - 1, following[same] - 1)
    counts = sparse.csr_array((np.ones(same.sum(), np.float32), pairs), shape=(items, items))
    share = np.bincount(train["item"], minlength=items + 1)[1:] / len(train)
    popular = torch.from_numpy(share.astype(np.float32))

    def score(_: np.ndarray, histories: Tensor) -> Tensor:
        last = histories.gather(1, (histories > 0).sum(1, keepdim=True) - 1)[:, 0].numpy() - 1
        return torch.from_numpy(counts[last].toarray()) + smoothing * popular

    return score


def ease(train: pd.DataFrame, items: int, l2: float = 200.0) -> Score:
    """EASE (Steck, 2019): the linear item-to-item model with a zero diagonal that best reconstructs the interactions.

    Closed form: B = I - P / diag(P), P the inverse of G + l2 I, G items x items; dense, so memory grows with V².
    """
    met = matrix(train, items)
    gram = (met.T @ met).toarray() + l2 * np.eye(items, dtype=np.float32)
    inverse = np.linalg.inv(gram)
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return by_history(weights.astype(np.float32))


def ials(train: pd.DataFrame, items: int, factors: int = 64, regularization: float = 0.1, alpha: float = 10.0) -> Score:
    """iALS (Hu et al., 2008), library implicit: an event weighs 1 + alpha; users are folded in from their history."""
    library = require("implicit.als", "book")
    with threadpool_limits(1, "blas"):  # implicit warns if there are more threads
        model = library.AlternatingLeastSquares(
            factors, regularization=regularization, alpha=1 + alpha, iterations=15, num_threads=1, random_state=0
        )
        model.fit(sparse.csr_matrix(matrix(train, items)), show_progress=False)
    vectors = torch.from_numpy(np.asarray(model.item_factors))

    def score(_: np.ndarray, histories: Tensor) -> Tensor:
        seen = sparse.csr_matrix(weighed(histories, items))
        users = model.recalculate_user(np.arange(len(histories)), seen)
        return torch.from_numpy(np.asarray(users)) @ vectors.T

    return score


GRIDS: dict[str, list[Callable[[pd.DataFrame, int], Score]]] = {
    "item-kNN": [partial(item_knn, shrinkage=s, decay=d) for s in (0.0, 10.0, 50.0) for d in (1.0, 0.9, 0.7)],
    "Markov": [partial(markov, smoothing=smoothing) for smoothing in (1.0, 100.0)],
    "EASE": [partial(ease, l2=l2) for l2 in (50.0, 200.0, 500.0)],
    "iALS": [partial(ials, regularization=r, alpha=a) for r in (0.1, 1.0, 10.0) for a in (1.0, 10.0)],
}


def chosen(name: str, train: pd.DataFrame, items: int, valid: Cases) -> tuple[Score, dict[str, float]]:
    """Fit the setting of `GRIDS[name]` of best validation NDCG@10, seen items excluded; return its values, too."""

    def tried(make: partial) -> float:
        return metrics(rank(valid, make(train, items))["rank_unseen"])["ndcg@10"]

    with threadpool_limits(1, "blas"):
        rated = Parallel(n_jobs=-1, require="sharedmem")(delayed(tried)(make) for make in GRIDS[name])
    value, make = max(zip(rated, GRIDS[name], strict=True), key=lambda one: one[0])
    return make(train, items), make.keywords | {"valid_ndcg@10": value}


def text_knn(texts: np.ndarray) -> Score:
    """Score an item by the cosine between its text's vector and the mean over the history's; texts [V, e]."""
    table = torch.from_numpy(np.concatenate([np.zeros((1, texts.shape[1])), centred(texts)])).float()
    return lambda _, histories: table[histories].sum(1) / (histories > 0).sum(1, keepdim=True) @ table[1:].T

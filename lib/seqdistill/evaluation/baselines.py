"""What a recommender must beat: popularity, overall and recent, and item-kNN; from training events only."""

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch import Tensor

from seqdistill.data.sequences import Cases
from seqdistill.embeddings.teachers import centred
from seqdistill.evaluation.ranking import Score

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


def item_knn(train: pd.DataFrame, items: int, shrinkage: float = 10.0) -> Score:
    """Score an item by its similarity to the items of the history, summed over them.

    The similarity of two items is n_ij / (sqrt(n_i n_j) + shrinkage), n counting users (cosine; shrinkage keeps items
    that met only once or twice from the top; Cremonesi et al., 2010). An item is not similar to itself.
    """
    met = sparse.csr_array((np.ones(len(train), np.float32), (train["user"], train["item"] - 1)))
    met.resize(met.shape[0], items)
    met.data[:] = 1.0
    together = sparse.coo_array(met.T @ met)
    (i, j), users = together.coords, together.diagonal()
    values = np.where(i == j, 0, together.data / (np.sqrt(users[i] * users[j]) + shrinkage))
    similar = sparse.csr_array((values.astype(np.float32), (i, j)), shape=(items, items))

    def score(_: np.ndarray, histories: Tensor) -> Tensor:
        row, column = (histories > 0).nonzero(as_tuple=True)
        places = (row.numpy(), histories[row, column].numpy() - 1)
        seen = sparse.csr_array((np.ones(len(row), np.float32), places), shape=(len(histories), items))
        return torch.from_numpy((seen @ similar).toarray())

    return score


def text_knn(texts: np.ndarray) -> Score:
    """Score an item by the cosine between its text's vector and the mean over the history's; texts [V, e]."""
    table = torch.from_numpy(np.concatenate([np.zeros((1, texts.shape[1])), centred(texts)])).float()

    def score(_: np.ndarray, histories: Tensor) -> Tensor:
        return table[histories].sum(1) / (histories > 0).sum(1, keepdim=True) @ table[1:].T

    return score

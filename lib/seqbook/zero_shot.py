"""Which teacher source says most about a user's next choice, before anything is trained."""

import numpy as np
import pandas as pd
import torch
from scipy import stats
from seqdistill.embeddings.teachers import centred
from seqdistill.evaluation.ranking import ranks_of
from seqdistill.evaluation.significance import holm, paired
from seqdistill.io import UserError
from torch.nn.utils.rnn import pad_sequence


def similarity_ranks(users: np.ndarray, items: np.ndarray, targets: np.ndarray, seen: list[np.ndarray]) -> np.ndarray:
    """Rank of each user's target by text similarity among all items unseen in training, [n]; a seen target is a miss.

    users: [n, e]. items: [V, e], item i in row i - 1. seen: items of each user's training history.
    """
    scores = torch.from_numpy(centred(users) @ centred(items).T)
    padded = pad_sequence([torch.tensor(history) for history in seen], batch_first=True)
    blocks = zip(*(rows.split(256) for rows in (scores, torch.tensor(targets), padded)), strict=True)
    return torch.cat([ranks_of(*block)[1] for block in blocks]).numpy()


def category_auc(users: np.ndarray, categories: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """ROC AUC of text similarity for the categories of each user's target, [n]; NaN if it has all of them or none.

    users: [n, e]. categories: vectors of their names, [c, e]. relevant: True where the target carries one, [n, c].
    """
    ranks = stats.rankdata(centred(users) @ centred(categories).T, axis=1)
    carried = relevant.sum(1)
    pairs = carried * (relevant.shape[1] - carried)
    wins = (ranks * relevant).sum(1) - carried * (carried + 1) / 2  # Mann and Whitney's U
    return np.divide(wins, pairs, out=np.full(len(users), np.nan), where=pairs > 0)


def compare_sources(
    vectors: dict[str, np.ndarray], items: np.ndarray, categories: np.ndarray, relevant: np.ndarray,
    targets: np.ndarray, seen: list[np.ndarray], against: str = "shuffled",
) -> pd.DataFrame:  # fmt: skip
    """Rank the validation item and its categories by the vectors [n, e] of each teacher source, without training.

    A row per source: category_auc, item_percentile (1: on top, .5: chance), recall@10, ndcg@10; the difference in
    item_percentile from the source `against` (`paired`); p_holm. Arguments: see `similarity_ranks`, `category_auc`.
    """
    if not len(targets):
        raise UserError("teachers: no user has both a profile and a validation item, so that nothing can be ranked.")
    pairs = zip(seen, targets, strict=True)
    rivals = len(items) - np.array([len(np.setdiff1d(history, [target])) for history, target in pairs])
    users = {}
    for source, rows in vectors.items():
        ranks = similarity_ranks(rows, items, targets, seen)
        values = {"category_auc": category_auc(rows, categories, relevant)}
        values |= {"item_percentile": (1 - (ranks - 1) / (rivals - 1)).clip(0)}
        values |= {"recall@10": ranks <= 10, "ndcg@10": (ranks <= 10) / np.log2(ranks + 1)}
        users[source] = pd.DataFrame(values)
    rows = []
    for source, values in users.items():
        test = {} if source == against else paired([values["item_percentile"] - users[against]["item_percentile"]])
        rows.append({"source": source, "users": len(values), **values.mean().to_dict(), **test})
    table = pd.DataFrame(rows)
    return table.assign(p_holm=holm(table["p"]))

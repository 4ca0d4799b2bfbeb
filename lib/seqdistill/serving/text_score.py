"""A score that knows items' texts: a term between the reconstructed profile and the text, and a lift of unseen items.

Not part of the paper's method. Neither an LLM nor an encoder is needed to serve it: all of it is item vectors.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import Ridge
from torch import Tensor

from seqdistill.data.cold import Perturbed, counts, group_of
from seqdistill.data.sequences import Ragged, latest
from seqdistill.evaluation.ranking import Score, blocks, metrics, rank
from seqdistill.models.transformer import SequentialRecommender
from seqdistill.training.sweep import Job, run_folder
from seqdistill.training.train import load_model


@torch.inference_mode()
def states(model: SequentialRecommender, histories: Ragged) -> Tensor:
    """State of a student after each history, from which it scores: [N, d]."""
    recent = latest(histories, np.arange(len(histories)), model.max_history)
    h = torch.empty(len(recent), model.config.dim)
    for rows, ids in blocks(recent, 64):
        h[torch.from_numpy(rows)] = model.encode_last(ids)
    return h


def reconstruction(h: Tensor, vectors: np.ndarray, ridge: float = 10.0) -> tuple[Tensor, Tensor]:
    """Fit a linear map from states to profile vectors by ridge regression.

    Args:
        h: states after the training histories, [n, d].
        vectors: encoded texts of the same users, [n, e], already `centred`.
        ridge: penalty on the standardised states.

    Returns:
        Weights [d, e] and intercept [e]: the reconstructed profile of a state is `h @ weights + intercept`.
    """
    mean, std = h.mean(0), h.std(0).clamp_min(1e-6)
    fit = Ridge(ridge).fit(((h - mean) / std).double().numpy(), vectors.astype(np.float64))
    weights = torch.from_numpy(fit.coef_.T) / std.double()[:, None]
    return weights.float(), (torch.from_numpy(fit.intercept_) - mean.double() @ weights).float()


def with_profile_term(
    model: SequentialRecommender, read: tuple[Tensor, Tensor], texts: np.ndarray, unseen: np.ndarray, weight: float,
    lift: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Add to each item's score a term between the reconstructed profile and the item's text, and a lift if unseen.

    The profile is linear in the state h, so that the term is h · (weights @ text): it is added to the item's vector.
    The lift is a logit adjustment (Menon et al., 2021): a softmax learns an item's share of the training events, which
    for an item without events is 0 and says nothing about it.

    Args:
        model: a student; read: its `reconstruction`.
        texts: vectors of the items' texts, [V, e], already `centred`.
        unseen: True for an item without training event, [V].
        weight, lift: of the term, and added to the score of each unseen item.

    Returns:
        Item vectors [V, d] and item biases [V] of the score.
    """
    weights, intercept = read
    known = torch.from_numpy(texts)
    vectors = model.catalogue().detach() + weight * known @ weights.T
    return vectors, weight * known @ intercept + lift * torch.from_numpy(unseen).float()


def linear_score(h: Tensor, vectors: Tensor, biases: Tensor) -> Score:
    """Score of cases whose states [N, d] are known, with item vectors [V, d] and biases [V]."""
    return lambda rows, _: h[torch.from_numpy(rows)] @ vectors.T + biases


def prepared(job: Job, folder: Path, draw: Perturbed, profile: np.ndarray) -> tuple:
    """Load a finished run's student; return it, its `reconstruction`, and which items have no training event."""
    _, data = job
    model = load_model(run_folder(job, folder))
    return model, reconstruction(states(model, data.train), profile), counts(draw[0], data.items) == 0


def grid_search(
    jobs: list[Job], folder: Path, draws: list[Perturbed], profiles: list[np.ndarray], texts: np.ndarray,
    weights: list[float], lifts: list[float],
) -> pd.DataFrame:  # fmt: skip
    """Validation NDCG@10 of every weight and lift, mean over seeds: columns weight, lift, removed, reduced, unaffected.

    Jobs, draws and profiles are one a seed.
    """
    rows = []
    for job, draw, profile in zip(jobs, draws, profiles, strict=True):
        (model, read, unseen), valid = prepared(job, folder, draw, profile), job.data.valid
        h, group = states(model, valid.histories), group_of(valid.targets, draw)
        for weight, lift in ((weight, lift) for weight in weights for lift in lifts):
            score = linear_score(h, *with_profile_term(model, read, texts, unseen, weight, lift))
            ranks = rank(valid, score)["rank_all"]
            ndcg = {name: metrics(ranks[group == name])["ndcg@10"] for name in np.unique(group)}
            rows.append({"weight": weight, "lift": lift, **ndcg})
    return pd.DataFrame(rows).groupby(["weight", "lift"], sort=False).mean().reset_index()


def cheapest(grid: pd.DataFrame, least: float) -> dict[str, float]:
    """Choose the row of `grid_search` that ranks removed items best while unaffected cases keep NDCG@10 >= `least`.

    Where no row does, the one with the best unaffected cases is chosen.
    """
    allowed = grid[grid["unaffected"] >= min(least, grid["unaffected"].max())]
    return allowed.sort_values(["removed", "unaffected"], ascending=False, kind="stable").iloc[0].to_dict()


def rescored(
    jobs: list[Job], folder: Path, draws: list[Perturbed], profiles: list[np.ndarray], texts: np.ndarray,
    weight: float, lift: float,
) -> list[pd.DataFrame]:  # fmt: skip
    """Rank the test cases of runs, one a seed, with the score of `with_profile_term`."""
    ranks = []
    for job, draw, profile in zip(jobs, draws, profiles, strict=True):
        (model, read, unseen), test = prepared(job, folder, draw, profile), job.data.test
        scored = with_profile_term(model, read, texts, unseen, weight, lift)
        ranks.append(rank(test, linear_score(states(model, test.histories), *scored)))
    return ranks

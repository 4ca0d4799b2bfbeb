"""A score that knows items' texts: a term between the reconstructed profile and the text, and a lift of unseen items.

Not part of the paper's method. Neither an LLM nor an encoder is needed to serve it: all of it is item vectors.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
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
    found = torch.empty(len(recent), model.config.dim)
    for chosen, ids in blocks(recent, 64):
        found[torch.from_numpy(chosen)] = model.encode_last(ids)
    return found


def reconstruction(h: Tensor, vectors: np.ndarray, ridge: float = 10.0) -> tuple[Tensor, Tensor]:
    """Read a profile's vector off the student: ridge regression from its states.

    Args:
        h: states after the training histories, [n, d].
        vectors: encoded texts of the same users, [n, e], already `centred`.
        ridge: penalty on the standardised states.

    Returns:
        Weights [d, e] and intercept [e]: the reconstructed profile of a state is `h @ weights + intercept`.
    """
    mean, std = h.mean(0), h.std(0).clamp_min(1e-6)
    x, y = ((h - mean) / std).double(), torch.from_numpy(vectors).double()
    centre = y.mean(0)
    weights = torch.linalg.solve(x.T @ x + ridge * torch.eye(x.shape[1], dtype=torch.float64), x.T @ (y - centre))
    weights = weights / std.double()[:, None]
    return weights.float(), (centre - mean.double() @ weights).float()


def with_profile_term(
    model: SequentialRecommender,
    read: tuple[Tensor, Tensor],
    texts: np.ndarray,
    unseen: np.ndarray,
    weight: float,
    lift: float,
) -> tuple[Tensor, Tensor]:
    """Give each item's score a term between the reconstructed profile and the item's text, and the unseen ones a lift.

    The profile is linear in the state h, so that the term is h · (weights @ text): it is added to the item's vector,
    and nothing but vectors is needed to serve it. The lift is a logit adjustment (Menon et al., 2021): a softmax
    learns the share of an item in training, which for an item without events is 0 and says nothing about it.

    Args:
        model: a student.
        read: see `reconstruction`.
        texts: vectors of the items' texts, [V, e], already `centred`.
        unseen: True for an item without training event, [V].
        weight: of the term.
        lift: added to the score of each unseen item.

    Returns:
        Item vectors [V, d] and item biases [V] of the score.
    """
    weights, intercept = read
    known = torch.from_numpy(texts)
    vectors = model.catalogue().detach() + weight * known @ weights.T
    return vectors, weight * known @ intercept + lift * torch.from_numpy(unseen).float()


def linear_score(h: Tensor, vectors: Tensor, biases: Tensor) -> Score:
    """Score of cases whose states [N, d] are known, with item vectors [V, d] and biases [V]."""
    return lambda chosen, _: h[torch.from_numpy(chosen)] @ vectors.T + biases


def prepared(job: Job, folder: Path, drawn: Perturbed, profile: np.ndarray) -> tuple:
    """Load a finished run's student; return it, its reading of the profiles, and which items have no training event."""
    model = load_model(run_folder(job, folder))
    read = reconstruction(states(model, job.data.train), profile)
    return model, read, counts(drawn[0], job.data.items) == 0


def grid_search(
    jobs: list[Job], folder: Path, draws: list[Perturbed], profiles: list[np.ndarray], texts: np.ndarray,
    weights: list[float], lifts: list[float],
) -> pd.DataFrame:  # fmt: skip
    """Validation NDCG@10 of every weight and lift of `with_profile_term`, by group, the mean over seeds.

    Returns:
        One row per weight and lift: weight, lift, removed, reduced, unaffected.
    """
    rows = []
    for job, drawn, profile in zip(jobs, draws, profiles, strict=True):
        model, read, unseen = prepared(job, folder, drawn, profile)
        h = states(model, job.data.valid.histories)
        group = group_of(job.data.valid.targets, drawn)
        for weight in weights:
            for lift in lifts:
                score = linear_score(h, *with_profile_term(model, read, texts, unseen, weight, lift))
                found = rank(job.data.valid, score)["rank_all"]
                ndcg = {name: metrics(found[group == name])["ndcg@10"] for name in np.unique(group)}
                rows.append({"weight": weight, "lift": lift, **ndcg})
    return pd.DataFrame(rows).groupby(["weight", "lift"], sort=False).mean().reset_index()


def cheapest(grid: pd.DataFrame, least: float) -> dict[str, float]:
    """Choose the row of `grid_search` that ranks removed items best among those that leave the unaffected ones enough.

    Args:
        grid: see `grid_search`.
        least: NDCG@10 of the unaffected cases that a row must reach; where none does, the best of them is chosen.
    """
    allowed = grid[grid["unaffected"] >= min(least, grid["unaffected"].max())]
    return allowed.sort_values(["removed", "unaffected"], ascending=False, kind="stable").iloc[0].to_dict()


def rescored(
    jobs: list[Job], folder: Path, draws: list[Perturbed], profiles: list[np.ndarray], texts: np.ndarray,
    weight: float, lift: float,
) -> list[pd.DataFrame]:  # fmt: skip
    """Rank the test cases of runs, one a seed, with the score of `with_profile_term`."""
    found = []
    for job, drawn, profile in zip(jobs, draws, profiles, strict=True):
        model, read, unseen = prepared(job, folder, drawn, profile)
        vectors, biases = with_profile_term(model, read, texts, unseen, weight, lift)
        found.append(rank(job.data.test, linear_score(states(model, job.data.test.histories), vectors, biases)))
    return found

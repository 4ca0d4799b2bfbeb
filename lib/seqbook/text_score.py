"""A score that uses item texts: a term between reconstructed profile and text, and a bonus (lift) for unseen items.

Not part of the paper's method. Serving it needs neither an LLM nor an encoder, since all of it is in item vectors.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from seqdistill.data.sequences import Ragged, latest
from seqdistill.evaluation.ranking import Score, blocks, metrics, rank
from seqdistill.models.transformer import SequentialRecommender
from seqdistill.training.sweep import Job, run_folder
from seqdistill.training.train import load_model
from sklearn.linear_model import Ridge
from torch import Tensor

from seqbook.cold import Perturbed, counts, group_of


@torch.inference_mode()
def states(model: SequentialRecommender, histories: Ragged) -> Tensor:
    """A student's state after each history, from which it computes scores: [N, d]."""
    recent = latest(histories, np.arange(len(histories)), model.max_history)
    h = torch.empty(len(recent), model.catalogue().shape[1])
    for rows, ids in blocks(recent, 64):
        h[torch.from_numpy(rows)] = model.encode_last(ids)
    return h


def reconstruction(h: Tensor, vectors: np.ndarray, ridge: float = 10.0) -> tuple[Tensor, Tensor]:
    """Fit profile vectors [n, e] as `h @ weights + intercept` of states [n, d]: ridge regression, h standardised."""
    mean, std = h.mean(0), h.std(0).clamp_min(1e-6)
    fit = Ridge(ridge).fit(((h - mean) / std).double().numpy(), vectors.astype(np.float64))
    weights = torch.from_numpy(fit.coef_.T) / std.double()[:, None]
    return weights.float(), (torch.from_numpy(fit.intercept_) - mean.double() @ weights).float()


def profile_score(
    model: SequentialRecommender, h: Tensor, read: tuple[Tensor, Tensor], texts: np.ndarray, unseen: np.ndarray,
    weight: float, lift: float,
) -> Score:  # fmt: skip
    """Score cases, given by states h [N, d], with a term between reconstructed profile and item text, and a lift.

    The profile is linear in the state, so the term, h · (weights @ text), is added to the item's vector. The lift, of
    `unseen` items [V], is a logit adjustment (Menon et al., 2021): a softmax learns an item's share of the events.
    `read` is the student's `reconstruction`, `texts` the items' vectors [V, e], `centred`.
    """
    (weights, intercept), known = read, torch.from_numpy(texts)
    vectors = model.catalogue().detach() + weight * known @ weights.T  # [V, d]
    biases = weight * known @ intercept + lift * torch.from_numpy(unseen).float()  # [V]
    return lambda rows, _: h[torch.from_numpy(rows)] @ vectors.T + biases


def ranked(
    jobs: list[Job], folder: Path, draws: list[Perturbed], profiles: list[np.ndarray], texts: np.ndarray,
    pairs: list[tuple[float, float]], split: str,
) -> Iterator[list[pd.DataFrame]]:  # fmt: skip
    """Ranks of each run's cases in a split ("valid" or "test") with each pair of weight and lift."""
    for job, draw, profile in zip(jobs, draws, profiles, strict=True):
        model, cases = load_model(run_folder(job, folder)), getattr(job.data, split)
        read = reconstruction(states(model, job.data.train), profile)
        h, unseen = states(model, cases.histories), counts(draw[0], job.data.items) == 0
        yield [rank(cases, profile_score(model, h, read, texts, unseen, *pair)) for pair in pairs]


def grid_search(
    jobs: list[Job], folder: Path, draws: list[Perturbed], profiles: list[np.ndarray], texts: np.ndarray,
    weights: list[float], lifts: list[float],
) -> pd.DataFrame:  # fmt: skip
    """Mean over seeds of validation NDCG@10 by weight and lift: columns weight, lift, removed, reduced, unaffected."""
    pairs, rows = [(weight, lift) for weight in weights for lift in lifts], []
    by_run = ranked(jobs, folder, draws, profiles, texts, pairs, "valid")
    for job, draw, tables in zip(jobs, draws, by_run, strict=True):
        group = group_of(job.data.valid.targets, draw)
        for (weight, lift), ranks in zip(pairs, tables, strict=True):
            ndcg = {name: metrics(ranks["rank_all"][group == name])["ndcg@10"] for name in np.unique(group)}
            rows.append({"weight": weight, "lift": lift, **ndcg})
    return pd.DataFrame(rows).groupby(["weight", "lift"], sort=False).mean().reset_index()


def cheapest(grid: pd.DataFrame, least: float) -> dict[str, float]:
    """Row of `grid_search` best on removed items with unaffected NDCG@10 >= `least`; if none, best on unaffected."""
    allowed = grid[grid["unaffected"] >= min(least, grid["unaffected"].max())]
    return allowed.sort_values(["removed", "unaffected"], ascending=False, kind="stable").iloc[0].to_dict()


def rescored(
    jobs: list[Job], folder: Path, draws: list[Perturbed], profiles: list[np.ndarray], texts: np.ndarray,
    weight: float, lift: float,
) -> list[pd.DataFrame]:  # fmt: skip
    """Rank the test cases of runs, one a seed, with `profile_score`."""
    return [ranks for [ranks] in ranked(jobs, folder, draws, profiles, texts, [(weight, lift)], "test")]

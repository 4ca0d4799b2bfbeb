"""What a recommender must beat: popularity, overall and recent, from training events only."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from seqdistill.sequences import Cases

DAY = 86_400


def popularity(train: pd.DataFrame, items: int) -> Callable[[np.ndarray, Tensor], Tensor]:
    """Score every item by its number of training events."""
    counts = torch.from_numpy(np.bincount(train["item"], minlength=items + 1)[1:]).double()
    return lambda chosen, _: counts.expand(len(chosen), -1)


def recent_popularity(
    train: pd.DataFrame, items: int, cases: Cases, days: float
) -> Callable[[np.ndarray, Tensor], Tensor]:
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

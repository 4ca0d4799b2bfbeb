"""Ragged histories (ranges of one flat array of ids), and right-padded batches little wider than their longest row."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from seqdistill.data.splits import places
from seqdistill.io import UserError

EMPTY = "histories: row {} has no item; a sequential recommender needs at least one."


@dataclass(frozen=True)
class Ragged:
    """Rows of item ids: row r is items[starts[r]:ends[r]] and belongs to user `users[r]`. Rows may overlap."""

    items: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    users: np.ndarray

    def __len__(self) -> int:
        return len(self.users)

    @property
    def lengths(self) -> np.ndarray:
        """Items per row."""
        return self.ends - self.starts

    def row(self, index: int) -> np.ndarray:
        """Return the items of one row."""
        return self.items[self.starts[index] : self.ends[index]]


def ragged(events: pd.DataFrame) -> Ragged:
    """Collect events, sorted by user and time, into one row per user."""
    users, starts = np.unique(events["user"].to_numpy(), return_index=True)
    return Ragged(events["item"].to_numpy(copy=True), starts, np.append(starts[1:], len(events)), users)


def windows(rows: Ragged, length: int) -> Ragged:
    """Cut every row, from its end, into windows of `length` + 1 items that overlap by one.

    Each event but the first of a user is then the target of exactly one position. Rows with one event are dropped.
    """
    counts = np.maximum(-(-(rows.lengths - 1) // length), 0)
    row = np.repeat(np.arange(len(rows)), counts)
    place = pd.Series(row).groupby(row).cumcount().to_numpy()  # number of a window, counted from the end
    ends = rows.ends[row] - place * length
    return Ragged(rows.items, np.maximum(rows.starts[row], ends - length - 1), ends, rows.users[row])


def latest(rows: Ragged, chosen: np.ndarray, length: int) -> Ragged:
    """Cut the chosen rows to their last `length` items."""
    ends = rows.ends[chosen]
    return Ragged(rows.items, np.maximum(rows.starts[chosen], ends - length), ends, rows.users[chosen])


def padded(rows: Ragged, chosen: np.ndarray, width: int = 0) -> Tensor:
    """Stack non-empty rows into [B, T], padded with 0 on the right; T is the longest length, or `width` if larger."""
    lengths = rows.lengths[chosen]
    if not lengths.all():
        raise UserError(EMPTY.format(chosen[lengths.argmin()]))
    steps = np.arange(max(width, lengths.max()))
    inside = steps < lengths[:, None]  # [B, T]
    at = np.where(inside, rows.starts[chosen][:, None] + steps, 0)
    return torch.from_numpy(np.where(inside, rows.items[at], 0))


def lengths_of(ids: Tensor) -> Tensor:
    """Items per row of histories [B, T], 0 at padding on the right; UserError if a row has none."""
    lengths = (ids > 0).sum(1)
    if not lengths.all():
        raise UserError(EMPTY.format(lengths.argmin()))
    return lengths


def bucketed(rows: Ragged, size: int, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield shuffled batches of rows of similar length: users [B]; item ids [B, T + 1], 0 at padding.

    T is rounded up, by less than a quarter, to one of few lengths, so that a batch can reuse the memory of an earlier
    one. With arbitrary lengths the heap fragments, and a process of 410 MB grows to 490 MB.
    """
    widest = int(rows.lengths.max(initial=0))
    order = rng.permutation(len(rows))
    pools = np.array_split(order, max(1, len(order) // (size * 16)))
    order = np.concatenate([pool[np.argsort(rows.lengths[pool], kind="stable")] for pool in pools])
    groups = [order[start : start + size] for start in range(0, len(order), size)]
    for index in rng.permutation(len(groups)):
        group = groups[index]
        length = int(rows.lengths[group].max()) - 1
        step = 1 << max(0, length.bit_length() - 3)
        yield rows.users[group], padded(rows, group, min(widest, 1 + -(-length // step) * step)).numpy()


Batch = tuple[np.ndarray, np.ndarray, np.ndarray]  # users [B]; inputs [B, T]; targets [B, T], 0 at padding


def batches(rows: Ragged, size: int, rng: np.random.Generator) -> Iterator[Batch]:
    """Yield shuffled batches of windows for next-item prediction: a target is the item after its input."""
    for users, whole in bucketed(rows, size, rng):
        yield users, whole[:, :-1] * (whole[:, 1:] > 0), whole[:, 1:]


def cloze(
    rows: Ragged, size: int, rng: np.random.Generator, mask_id: int, mask_prob: float, mask_last_prob: float
) -> Iterator[Batch]:
    """Yield shuffled batches of windows in which some items are masked (Sun et al., 2019, section 3.6).

    Each item is replaced by `mask_id` with probability `mask_prob`, at least one in every row. With probability
    `mask_last_prob`, only the last item of a row is masked, as in scoring. Targets are 0 where no item is masked.
    """
    for users, ids in bucketed(rows, size, rng):
        lengths, steps = (ids > 0).sum(1)[:, None], np.arange(ids.shape[1])
        hidden = (rng.random(ids.shape) < mask_prob) & (ids > 0)
        only = rng.random((len(ids), 1)) < mask_last_prob
        one = np.where(only, lengths - 1, rng.integers(0, lengths))
        hidden = np.where(only | ~hidden.any(1, keepdims=True), steps == one, hidden)
        yield users, np.where(hidden, mask_id, ids), np.where(hidden, ids, 0)


@dataclass(frozen=True)
class Cases:
    """Cases to score: history before the target (a row), target, place among its user's cases (from 0), time."""

    histories: Ragged
    targets: np.ndarray
    position: np.ndarray
    times: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)


def cases(events: pd.DataFrame, split: str) -> Cases:
    """Make a case of every event of a split ("valid" or "test") that has a history; the input is the true history."""
    items, user = events["item"].to_numpy(copy=True), events["user"].to_numpy()
    before, _ = places(events)
    at = np.flatnonzero((events["split"] == split).to_numpy() & (before > 0))
    histories = Ragged(items, at - before[at], at, user[at])
    position = pd.Series(user[at]).groupby(user[at]).cumcount().to_numpy()
    return Cases(histories, items[at], position, events["time"].to_numpy()[at])

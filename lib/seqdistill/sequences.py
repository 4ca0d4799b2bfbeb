"""Ragged histories (offsets and flat ids), and right-padded batches trimmed to their longest row."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor


@dataclass(frozen=True)
class Ragged:
    """Rows of item ids: row r is items[offsets[r]:offsets[r + 1]]; `users[r]` is whose it is."""

    items: np.ndarray
    offsets: np.ndarray
    users: np.ndarray

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.users)

    def row(self, index: int) -> np.ndarray:
        """Return the items of one row."""
        return self.items[self.offsets[index] : self.offsets[index + 1]]


def ragged(events: pd.DataFrame) -> Ragged:
    """Collect events, sorted by user and time, into one row per user."""
    users, starts = np.unique(events["user"].to_numpy(), return_index=True)
    return Ragged(events["item"].to_numpy(copy=True), np.append(starts, len(events)), users)


def windows(rows: Ragged, length: int) -> Ragged:
    """Cut every row, from its end, into windows of `length` + 1 items that overlap by one.

    Each event but the first of a user is then the target of exactly one position. Rows of one event vanish.
    """
    begin, end, users = [], [], []
    for row, user in enumerate(rows.users):
        first, last = rows.offsets[row], rows.offsets[row + 1]
        while last - first > 1:
            start = max(first, last - length - 1)
            begin.append(start)
            end.append(last)
            users.append(user)
            last = start + 1
    lengths = np.array(end, dtype=int) - np.array(begin, dtype=int)
    offsets = np.append(0, np.cumsum(lengths))
    flat = np.concatenate([rows.items[a:b] for a, b in zip(begin, end, strict=True)])
    return Ragged(flat, offsets, np.array(users))


def latest(rows: Ragged, chosen: np.ndarray, length: int) -> Ragged:
    """Cut the chosen rows to their last `length` items."""
    ends = rows.offsets[chosen + 1]
    begins = np.maximum(rows.offsets[chosen], ends - length)
    flat = np.concatenate([rows.items[a:b] for a, b in zip(begins, ends, strict=True)])
    return Ragged(flat, np.append(0, np.cumsum(ends - begins)), rows.users[chosen])


def padded(rows: Ragged, chosen: np.ndarray) -> Tensor:
    """Stack rows into [B, T], padded with 0 on the right, T the longest of them."""
    lengths = rows.offsets[chosen + 1] - rows.offsets[chosen]
    inside = np.arange(lengths.max()) < lengths[:, None]  # [B, T]
    out = np.zeros(inside.shape, dtype=np.int64)
    out[inside] = np.concatenate([rows.row(index) for index in chosen])
    return torch.from_numpy(out)


def batches(rows: Ragged, size: int, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield shuffled batches of rows of similar length.

    Args:
        rows: windows of at least two items.
        size: rows per batch, B.
        rng: decides the order.

    Yields:
        users [B]; inputs [B, T]; targets [B, T], each the item after its input, 0 at padding.
    """
    order = rng.permutation(len(rows))
    lengths = np.diff(rows.offsets)
    pools = np.array_split(order, max(1, len(order) // (size * 16)))
    order = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools])
    groups = [order[start : start + size] for start in range(0, len(order), size)]
    for index in rng.permutation(len(groups)):
        whole = padded(rows, groups[index])
        yield torch.from_numpy(rows.users[groups[index]]), whole[:, :-1] * (whole[:, 1:] > 0), whole[:, 1:]


@dataclass(frozen=True)
class Cases:
    """What is scored: for each case the history before the target (a row) and the target; `position` counts a user's.

    `times` is when the target happened.
    """

    histories: Ragged
    targets: np.ndarray
    position: np.ndarray
    times: np.ndarray

    def __len__(self) -> int:
        """Count the cases."""
        return len(self.targets)


def cases(events: pd.DataFrame, split: str) -> Cases:
    """Make a case of every event of a split: its input is the user's true history before it.

    Args:
        events: all events with a column `split`, sorted by user and time.
        split: "valid" or "test".
    """
    first = events.groupby("user").cumcount().to_numpy()
    at = np.flatnonzero((events["split"] == split).to_numpy() & (first > 0))
    items = events["item"].to_numpy()
    users = events["user"].to_numpy()[at]
    flat = np.concatenate([items[i - first[i] : i] for i in at])
    histories = Ragged(flat, np.append(0, np.cumsum(first[at])), users)
    position = pd.Series(users).groupby(users).cumcount().to_numpy()
    return Cases(histories, items[at].copy(), position, events["time"].to_numpy()[at])

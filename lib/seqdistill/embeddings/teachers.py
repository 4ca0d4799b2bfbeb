"""Teacher sources: what can teach a student instead of an LLM's profile, one vector per user."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch

from seqdistill.io import UserError
from seqdistill.profiles.facts import facts_text, histories, history_lines

NO_LLM = ("facts", "raw-history", "item-text")
TEACHERS = ("profile", *NO_LLM, "shuffled", "noise")


def item_texts(items: pd.DataFrame) -> list[str]:
    """Write every item of the catalogue as in a line of a history, without a rating."""
    events = pd.DataFrame({"user": 0, "item": items["item"], "value": np.nan, "split": "train"})
    return history_lines(histories(events, items)[0])


def raw_history(history: pd.DataFrame, latest: int) -> str:
    """Write the latest events of a user as a text."""
    return "\n".join(history_lines(history.tail(latest)))


def derangement(order: np.ndarray | torch.Tensor) -> np.ndarray | torch.Tensor:
    """Turn a permutation of n > 1, [n], into one that leaves nothing in place: the cycle through its entries."""
    return order[order.argsort() - 1]


def source_vectors(
    source: str, profiles: pd.Series, user_histories: dict[int, pd.DataFrame], items: np.ndarray,
    encode: Callable[[Sequence[str]], np.ndarray], latest: int, seed: int,
) -> np.ndarray:  # fmt: skip
    """One vector per user with a profile, [n, e], from one of `TEACHERS`.

    "facts" (computed, no LLM) and "raw-history" (the `latest` events) are texts, "item-text" is the mean of the vectors
    of the history's items, "shuffled" another user's profile, "noise" Gaussian and as wide as an encoded profile.
    `profiles`: text by user; several parts of one user are averaged. `items`: catalogue vectors [V, e], item i in
    row i - 1. `seed`: of "shuffled" and "noise".
    """
    if source not in TEACHERS:
        raise UserError(f'teachers: "{source}" is not a teacher; choose one of {", ".join(TEACHERS)}.')
    rng, users = np.random.default_rng(seed), profiles.index.unique()
    if source == "noise":
        width = encode([profiles.iloc[0]]).shape[1]
        return rng.standard_normal((len(users), width)).astype(np.float32)
    if source == "item-text":
        return np.stack([items[user_histories[user]["item"].to_numpy() - 1].mean(0) for user in users])
    if source == "facts":
        profiles = pd.Series({user: facts_text(user_histories[user], {}) for user in users})
    if source == "raw-history":
        profiles = pd.Series({user: raw_history(user_histories[user], latest) for user in users})
    parts = pd.DataFrame(encode(profiles.tolist()), index=profiles.index)
    vectors = parts.groupby(level=0, sort=False).mean().to_numpy(np.float32)
    return vectors[derangement(rng.permutation(len(users)))] if source == "shuffled" else vectors


def centred(vectors: np.ndarray) -> np.ndarray:
    """Subtract the mean and scale every row to length 1: what all texts share does not distinguish them."""
    moved = vectors - vectors.mean(0)
    return moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-12)

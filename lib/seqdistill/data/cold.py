"""Cold items and new users: what is taken out of training, and what is left."""

import numpy as np
import pandas as pd

from seqdistill.data.splits import places

GROUPS = ("removed", "reduced", "affected", "unaffected")
Perturbed = tuple[pd.DataFrame, np.ndarray, np.ndarray]  # events that are left, items removed, items reduced


def cold_items(
    events: pd.DataFrame, share: float = 0.4, removed: float = 0.5, kept: tuple[int, int] = (6, 9), seed: int = 0
) -> Perturbed:
    """Draw a share of the items that are test targets; remove or reduce their training events (Severin et al., 2026).

    Other events stay. A share `removed` of the drawn items loses all training events; each of the others keeps a
    number drawn from `kept` (fewest, most). events: columns user, item, split; sorted by user, then time.
    """
    rng = np.random.default_rng(seed)
    targets = np.unique(events.loc[events["split"] == "test", "item"])
    chosen = rng.permutation(targets)[: round(share * len(targets))]
    cut = int(removed * len(chosen))
    gone, starved = np.sort(chosen[:cut]), np.sort(chosen[cut:])
    item, train = events["item"].to_numpy(), (events["split"] == "train").to_numpy()
    most = np.full(item.max() + 1, len(events))
    most[gone] = 0
    most[starved] = rng.integers(kept[0], kept[1] + 1, len(starved))
    rows = rng.permutation(np.flatnonzero(train))
    keep = ~train
    keep[rows] = pd.Series(item[rows]).groupby(item[rows]).cumcount().to_numpy() < most[item[rows]]
    return events[keep].reset_index(drop=True), gone, starved


def group_of(items: np.ndarray, drawn: Perturbed) -> np.ndarray:
    """Say of each item whether it was removed, reduced or left unaffected."""
    return np.select([np.isin(items, part) for part in drawn[1:]], GROUPS[:2], "unaffected")


def counts(events: pd.DataFrame, items: int) -> np.ndarray:
    """Training events of every item, [V]; item i in place i - 1."""
    return np.bincount(events.loc[events["split"] == "train", "item"], minlength=items + 1)[1:]


def statistics(drawn: Perturbed) -> dict[str, int]:
    """Count what is left, in the paper's columns: users, items, interactions, cold items, test users who meet one."""
    left, removed, reduced = drawn
    test = left[left["split"] == "test"]
    cold = group_of(test["item"].to_numpy(), drawn) != "unaffected"
    return {
        "users": left["user"].nunique(),
        "items": left["item"].nunique(),
        "interactions": len(left),
        "removed": len(removed),
        "reduced": len(reduced),
        "test_users_with_cold_items": test.loc[cold, "user"].nunique(),
    }


def newcomers(events: pd.DataFrame, share: float, most: int, seed: int) -> pd.DataFrame:
    """Take a random share of the users out of training; test them from their second event on, at most `most` times.

    Target number n has n events before it. The others train and validate as before and are not tested.
    """
    users = events["user"].unique()
    drawn = np.random.default_rng(seed).choice(users, round(share * len(users)), replace=False)
    before, _ = places(events)
    tested = np.select([before == 0, before <= most], ["input", "test"], "unused")
    known = events["split"].where(events["split"] != "test", "unused")
    return events.assign(split=np.where(events["user"].isin(drawn), tested, known))

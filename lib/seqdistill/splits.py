"""Which events train, validate and test: a column of the event table, so that a split can be audited."""

import numpy as np
import pandas as pd

from seqdistill.artifacts import BookError


def leave_last_k(events: pd.DataFrame, k: int) -> pd.Series:
    """Split every user's events: the last k test, the one before them validates, the rest trains.

    A user with fewer than k + 3 events would keep no pair to learn from: all of it trains, none of it tests.

    Args:
        events: columns user, time; sorted by user, then time.
        k: test events per user; k = 1 is leave-one-out.

    Returns:
        "train", "valid" or "test" per event.

    Raises:
        BookError: no user is long enough to be tested.
    """
    by_user = events.groupby("user")["time"]
    from_end = by_user.cumcount(ascending=False)
    size = by_user.transform("size")
    split = np.select([size < k + 3, from_end < k, from_end == k], ["train", "test", "valid"], "train")
    if not (split == "test").any():
        raise BookError(f"leave_last_k: no user has the {k + 3} events that {k} test targets need.")
    return pd.Series(split, index=events.index, name="split")


def protocol_name(k: int) -> str:
    """Name of the protocol in the tables."""
    return "leave_one_out" if k == 1 else f"leave_last_{k}"


def audit(events: pd.DataFrame) -> None:
    """Check that within a user no training event follows a validation or test event, nor validation a test event.

    Raises:
        BookError: the first user for whom that does not hold.
    """
    rank = events["split"].map({"train": 0, "valid": 1, "test": 2})
    back = rank.diff().lt(0) & events["user"].diff().eq(0)
    early = events["time"].diff().lt(0) & events["user"].diff().eq(0)
    for wrong, what in ((back, "its split goes back in time"), (early, "its events are not in time order")):
        if wrong.any():
            raise BookError(f"split: user {events.loc[wrong, 'user'].iloc[0]}: {what}.")

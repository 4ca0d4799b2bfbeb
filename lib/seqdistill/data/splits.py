"""Which events train, validate and test: a column of the event table, so that a split can be audited.

The column says what an event is for:

* `train`: a student learns from it, and a profile may be written from it.
* `valid`, `test`: a target, scored from the user's true history before it.
* `input`: part of the history of a later target, never trained on and never in a profile.
* `unused`: none of these.
"""

from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass

from seqdistill.config import STRICT
from seqdistill.io import UserError

LABELS = np.array(["train", "valid", "test", "input", "unused"])
TRAIN, VALID, TEST, INPUT, UNUSED = range(5)


@dataclass(frozen=True, config=STRICT)
class Protocol:
    """How events are split; `last_k` belongs to leave_last_k, the others to global_time."""

    name: Literal["leave_one_out", "leave_last_k", "global_time"] = "leave_last_k"
    last_k: int = Field(10, gt=0)
    quantile: float = Field(0.8, gt=0, lt=1)
    targets: Literal["last", "all"] = "last"
    valid_share: float = Field(0.2, gt=0, lt=1)
    seed: int = Field(0, ge=0)

    @property
    def k(self) -> int:
        """Test targets of a user; 0 where a time decides."""
        return {"leave_one_out": 1, "leave_last_k": self.last_k}.get(self.name, 0)

    @property
    def label(self) -> str:
        """Name of the protocol in the tables."""
        return {0: self.name, 1: "leave_one_out"}.get(self.k, f"leave_last_{self.k}")


def column(codes: np.ndarray, index: pd.Index) -> pd.Series:
    """Write codes of LABELS as the split column."""
    return pd.Series(pd.Categorical.from_codes(codes, LABELS), index=index, name="split").astype("str")


def places(events: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Count, for each event, the events of its user before it and after it; events are sorted by user."""
    user = events["user"].to_numpy()
    starts = np.flatnonzero(np.diff(user, prepend=user[0] - 1))
    sizes = np.diff(np.append(starts, len(user)))
    before = np.arange(len(user)) - np.repeat(starts, sizes)
    return before, np.repeat(sizes, sizes) - 1 - before


def leave_last_k(events: pd.DataFrame, k: int) -> pd.Series:
    """Split every user's events: the last k test, the one before them validates, the rest trains.

    A user with fewer than k + 3 events would keep no pair to learn from: all of it trains, none of it tests.

    Args:
        events: columns user (from 0), item (from 1), time; sorted by user, then time.
        k: test events per user; k = 1 is leave-one-out.

    Returns:
        "train", "valid" or "test" per event.

    Raises:
        UserError: an id is not a whole number or begins below, the rows are in another order, or no user is long enough
            to be tested.
    """
    for name, first in (("user", 0), ("item", 1)):
        if name in events and not (pd.api.types.is_integer_dtype(events[name]) and events[name].min() >= first):
            raise UserError(f'leave_last_k: column "{name}" must hold whole numbers from {first}.')
    user, time = events["user"].to_numpy(), events["time"].to_numpy()
    wrong = (user[1:] < user[:-1]) | ((user[1:] == user[:-1]) & (time[1:] < time[:-1]))
    if wrong.any():
        place = int(wrong.argmax()) + 1
        raise UserError(f"leave_last_k: row {place} comes too late; sort the events by user, then time.")
    before, after = places(events)
    short = before + after + 1 < k + 3
    codes = np.select([short, after < k, after == k], [TRAIN, TEST, VALID], TRAIN)
    if short.all():
        raise UserError(f"leave_last_k: no user has the {k + 3} events that {k} test targets need.")
    return column(codes, events.index)


def boundary(events: pd.DataFrame, quantile: float) -> int:
    """Time of the global split: the latest time among the first `quantile` of all events."""
    return int(events["time"].quantile(quantile, interpolation="lower"))


def global_time(
    events: pd.DataFrame,
    quantile: float = 0.8,
    targets: Literal["last", "all"] = "last",
    valid_share: float = 0.2,
    seed: int = 0,
) -> pd.Series:
    """Split at one moment for all users, as in Severin et al. (2026).

    Events at or before the boundary train. Later ones test: each user's last one, scored from the whole history before
    it, or each in turn. A share of the training users is taken out of training; the last event that each has before
    the boundary validates, and a profile of them is not written: nothing is trained on them. An event without any
    history before it cannot be a target and is `input` or `unused`.

    Args:
        events: columns user, time; sorted by user, then time.
        quantile: of the timestamps, the boundary.
        targets: test a user's last event only, or all after the boundary.
        valid_share: share of the users with an event before the boundary that validate.
        seed: draws them.

    Returns:
        One of LABELS per event.

    Raises:
        UserError: no event can be tested or validated, or nothing is left to train on.
    """
    user = events["user"].to_numpy()
    before, after = places(events)
    early = events["time"].to_numpy() <= boundary(events, quantile)
    known = np.unique(user[early])
    drawn = np.random.default_rng(seed).choice(known, round(valid_share * len(known)), replace=False)
    out = np.zeros(user.max() + 1, dtype=bool)
    out[drawn] = True
    next_is_late = np.append(~early[1:], True) | (after == 0)
    codes = np.where(early, np.where(out[user], INPUT, TRAIN), TEST if targets == "all" else INPUT)
    codes[early & out[user] & next_is_late & (before > 0)] = VALID
    codes[~early & (after == 0)] = TEST
    codes[(codes == TEST) & (before == 0)] = INPUT
    codes[(codes == INPUT) & (after == 0)] = UNUSED
    for code, purpose in ((TEST, "test"), (TRAIN, "train on"), (VALID, "validate with")):
        if not (codes == code).any():
            raise UserError(f"global_time: the boundary at quantile {quantile:g} leaves no event to {purpose}.")
    return column(codes, events.index)


def split(events: pd.DataFrame, protocol: Protocol, dated: bool = True) -> pd.Series:
    """Split events by a protocol.

    Args:
        events: columns user, time; sorted by user, then time.
        protocol: which, and its parameters.
        dated: times are moments; False when they are positions in each user's history.

    Raises:
        UserError: the events do not allow it.
    """
    if protocol.name == "global_time":
        if not dated:
            raise UserError("global_time: this data set gives the order of events, not their times; leave some out.")
        given = (protocol.quantile, protocol.targets, protocol.valid_share, protocol.seed)
        return global_time(events, *given)
    return leave_last_k(events, protocol.k)


def audit(events: pd.DataFrame, protocol: Protocol) -> pd.DataFrame:
    """Check that a split leaks nothing.

    Args:
        events: columns user, time, split; sorted by user, then time.
        protocol: what the split should be.

    Returns:
        One row per check: what must not be, and how many events or users were looked at.

    Raises:
        UserError: the first check that does not hold, with a user for whom it does not.
    """
    user, time = events["user"].to_numpy(), events["time"].to_numpy()
    label = {name: (events["split"] == name).to_numpy() for name in LABELS}
    target = label["valid"] | label["test"]
    follows = np.append(False, user[1:] == user[:-1])
    before, after = places(events)
    late = after_any(user, ~label["train"])
    checks = [
        ("an event without a label", ~np.logical_or.reduce(list(label.values())), len(events)),
        ("an event before an earlier one of its user", follows & (np.diff(time, prepend=0) < 0), len(events)),
        (
            "a training event after a target of its user",
            label["train"] & late,
            label["train"].sum(),
        ),
        ("a target without history", target & (before == 0), target.sum()),
        ("a validation target after a test target", label["valid"] & after_any(user, label["test"]), target.sum()),
    ]
    if protocol.name == "global_time":
        border, trains = boundary(events, protocol.quantile), np.unique(user[label["train"]])
        checks += [
            (
                "a training or validation event after the boundary",
                (label["train"] | label["valid"]) & (time > border),
                len(events),
            ),
            ("a test event at or before the boundary", label["test"] & (time <= border), label["test"].sum()),
            ("a validation user in training", label["valid"] & np.isin(user, trains), label["valid"].sum()),
        ]
    else:
        k = protocol.k
        tested = np.isin(user, np.unique(user[label["test"]]))
        off = (label["test"] != (tested & (after < k))) | (label["valid"] != (tested & (after == k)))
        checks.append((f"a target beyond the last {k} + 1 events", off, target.sum()))
    for what, bad, _ in checks:
        if bad.any():
            raise UserError(f"split: user {user[bad][0]}: {what} ({int(bad.sum()):,} events).")
    return pd.DataFrame(
        [(what, int(looked), 0) for what, _, looked in checks], columns=["must not be", "looked at", "found"]
    )


def after_any(user: np.ndarray, marked: np.ndarray) -> np.ndarray:
    """Say which events come after a marked event of the same user; events are sorted by user."""
    first = np.full(user.max() + 1, len(user))
    np.minimum.at(first, user[marked], np.flatnonzero(marked))
    return np.arange(len(user)) > first[user]

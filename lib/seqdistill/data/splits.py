"""Which events train, validate and test: a column of the event table, so that a split can be audited.

`train`: for training a student and for writing a profile. `valid`, `test`: a target, scored from the user's true
history before it. `input`: only part of the history of a later target. `unused`: for nothing.
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
        """Test targets of a user; 0 if a point in time decides."""
        return {"leave_one_out": 1, "leave_last_k": self.last_k}.get(self.name, 0)

    @property
    def label(self) -> str:
        """Name of the protocol in the tables."""
        return {0: self.name, 1: "leave_one_out"}.get(self.k, f"leave_last_{self.k}")


def column(codes: np.ndarray, index: pd.Index) -> pd.Series:
    """Write codes of LABELS as the split column."""
    return pd.Series(pd.Categorical.from_codes(codes, LABELS), index=index, name="split").astype("str")


def places(events: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Count, for each event, the events of its user before it and after it in the table."""
    rows = events.groupby("user")
    return rows.cumcount().to_numpy(), rows.cumcount(ascending=False).to_numpy()


def unsorted(events: pd.DataFrame) -> np.ndarray:
    """Mark the events that should stand above the one before them, or have no time: the order is by user, then time."""
    late = (events["user"].diff() < 0) | (events.groupby("user")["time"].diff() < 0)
    return (late | events["time"].isna()).to_numpy()


def leave_last_k(events: pd.DataFrame, k: int) -> pd.Series:
    """Split every user's events: the last k test, the one before them validates, the rest trains.

    A user with fewer than k + 3 events would keep no training pair, so all events of that user train and none test.
    `events` has the columns user (from 0), item (from 1) and time, sorted by user, then time; k = 1 is leave-one-out.
    """
    before, after = places(events)
    short = before + after + 1 < k + 3
    if short.all():
        raise UserError(f"leave_last_k: no user has the {k + 3} events that {k} test targets need.")
    return column(np.select([short, after < k, after == k], [TRAIN, TEST, VALID], TRAIN), events.index)


def boundary(events: pd.DataFrame, quantile: float) -> int:
    """Time of the global split: the latest time among the first `quantile` of all events."""
    return int(events["time"].quantile(quantile, interpolation="lower"))


def global_time(events: pd.DataFrame, protocol: Protocol) -> pd.Series:
    """Split at one moment for all users, as in Severin et al. (2026); events are sorted by user, then time.

    Events at or before the boundary train; later ones test: a user's last one, or all with targets = "all". A share of
    the training users, drawn with the seed, is taken out of training (and has no profile): the last event before the
    boundary of each of them validates. An event without history before it is not a target but `input` or `unused`.
    """
    user = events["user"].to_numpy()
    before, after = places(events)
    early = events["time"].to_numpy() <= boundary(events, protocol.quantile)
    known = np.unique(user[early])
    rng = np.random.default_rng(protocol.seed)
    out = np.isin(user, rng.choice(known, round(protocol.valid_share * len(known)), replace=False))
    next_is_late = np.append(~early[1:], True) | (after == 0)
    codes = np.where(early, np.where(out, INPUT, TRAIN), TEST if protocol.targets == "all" else INPUT)
    codes[early & out & next_is_late & (before > 0)] = VALID
    codes[~early & (after == 0)] = TEST
    codes[(codes == TEST) & (before == 0)] = INPUT
    codes[(codes == INPUT) & (after == 0)] = UNUSED
    for code, purpose in ((TEST, "test"), (TRAIN, "train on"), (VALID, "validate with")):
        if code not in codes:
            raise UserError(f"global_time: quantile {protocol.quantile:g} leaves no event to {purpose}.")
    return column(codes, events.index)


def split(events: pd.DataFrame, protocol: Protocol, dated: bool = True) -> pd.Series:
    """Label every event by a protocol; `dated` is False where times are positions in each user's history."""
    if (late := unsorted(events)).any():
        raise UserError(
            f"split: row {late.argmax()} has no time or comes too late; sort the events by user, then time."
        )
    if protocol.name != "global_time":
        return leave_last_k(events, protocol.k)
    if not dated:
        raise UserError("global_time: this data set gives the order of events, not their times; leave some out.")
    return global_time(events, protocol)


def audit(events: pd.DataFrame, protocol: Protocol) -> pd.DataFrame:
    """Check that a split (columns user, time, split; sorted) leaks nothing: a row per check; UserError names a user."""
    user = events["user"].to_numpy()
    train, valid, test = ((events["split"] == name).to_numpy() for name in LABELS[:3])
    (before, after), target = places(events), valid | test
    every = np.ones(len(events), dtype=bool)
    held, tested = (pd.Series(marked).groupby(user).cumsum().to_numpy() > 0 for marked in (~train, test))  # so far
    checks = [  # what must not occur, where it does, which events are checked
        ("an event without a label", ~events["split"].isin(LABELS).to_numpy(), every),
        ("an event before an earlier one of its user", unsorted(events), every),
        ("a training event after a target of its user", train & held, train),
        ("a target without history", target & (before == 0), target),
        ("a validation target after a test target", valid & tested, target),
    ]
    if protocol.name == "global_time":
        late = events["time"].to_numpy() > boundary(events, protocol.quantile)
        checks += [
            ("a training or validation event after the boundary", (train | valid) & late, every),
            ("a test event at or before the boundary", test & ~late, test),
            ("a validation user in training", valid & np.isin(user, user[train]), valid),
        ]
    else:
        k, own = protocol.k, np.isin(user, user[test])  # events of users who are tested
        off = (test != (own & (after < k))) | (valid != (own & (after == k)))
        checks.append((f"a target beyond the last {k} + 1 events", off, target))
    for what, bad, _ in checks:
        if bad.any():
            raise UserError(f"split: user {user[bad][0]}: {what} ({int(bad.sum()):,} events).")
    rows = [(what, int(looked_at.sum()), 0) for what, _, looked_at in checks]
    return pd.DataFrame(rows, columns=["must not be", "looked at", "found"])


def hard_targets(events: pd.DataFrame) -> pd.DataFrame:
    """Count targets that no recommender can rank fairly (columns user, item, time, split): repeats and ties in time."""
    targets = events["split"].isin(["valid", "test"])
    repeated, tied = events.duplicated(["user", "item"]), events.duplicated(["user", "time"], keep=False)
    kinds = {
        "already in the user's history (a miss where seen items are excluded)": repeated,
        "in the same second as another event of the user (their order may be the file's)": tied,
    }
    table = pd.DataFrame(kinds)[targets].sum().rename_axis("targets that are").reset_index(name="such")
    table.insert(1, "targets", targets.sum())
    return table.assign(share=table["such"] / table["targets"])

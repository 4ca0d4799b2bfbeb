"""Checked rows -> one canonical event table and item table; filters, codes, statistics."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from seqdistill.data.checks import places
from seqdistill.io import UserError

DOMAINS = ("movies", "beauty", "e-commerce", "generic")  # those that prompts are worded for
FILTERS = ("core", "single")


@dataclass(frozen=True)
class Raw:
    """A whole data set.

    events: user and item (int32, places in `users` and `items`), time (int64: unix seconds where `dated`, else a
    position) and value (float64, NaN without ratings). users: ids. items: item_id, title and other texts. domain: the
    wording of the prompts. notes: what the checks met and dropped, in words.
    """

    events: pd.DataFrame
    users: pd.Series
    items: pd.DataFrame
    dated: bool
    domain: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """The files of a data set as they are published.

    files: for each file that is needed, the names that it may have (each also with .gz). read: paths of the files, in
    that order -> Raw. source: where they can be had. optional: a file that may be missing (None is then passed).
    write: makes the raw files, for a data set that comes inside a package.
    """

    files: tuple[tuple[str, ...], ...]
    read: Callable[..., Raw]
    source: str
    optional: str | None = None
    write: Callable[[Path], None] | None = None


@dataclass(frozen=True)
class Dataset:
    """As Raw, filtered and coded: users 0..U-1, items 1..V (0 is padding); events sorted by user, then time.

    users: user, user_id. items: item, item_id, title and other texts. key: digest of raw files and filters.
    """

    name: str
    events: pd.DataFrame
    users: pd.DataFrame
    items: pd.DataFrame
    dated: bool
    domain: str
    notes: tuple[str, ...]
    key: str


def raw_events(user: np.ndarray, item: np.ndarray, time: np.ndarray, value: np.ndarray | None = None) -> pd.DataFrame:
    """Put the columns of Raw.events together; without `value` it is NaN."""
    value = np.full(len(user), np.nan) if value is None else value
    return pd.DataFrame({"user": user, "item": item, "time": time, "value": value}, copy=False)


def with_unlisted(items: pd.DataFrame, ids: pd.Series) -> tuple[pd.DataFrame, np.ndarray, str]:
    """Append an item without texts for every id of the events (categorical) that a list of items lacks.

    Returns:
        The items, each event's place among them, and a note that counts what was lacking.
    """
    lacking = ids.cat.categories[~ids.cat.categories.isin(items["item_id"])]
    more = pd.DataFrame({"item_id": lacking}, columns=items.columns).fillna("").astype(items.dtypes)
    items = pd.concat([items, more], ignore_index=True)
    events = int(ids.isin(lacking).sum())
    note = f"{len(lacking):,} items ({events:,} events) are not in the list of items: kept without texts"
    return items, places(ids, items["item_id"]), note


def natural(ids: pd.Series) -> np.ndarray:
    """Places of distinct ids in their order: as numbers where all are numbers, else as text."""
    texts = ids.astype("str").tolist()
    kind = int if all(text.isdecimal() for text in texts) else str
    return np.array(sorted(range(len(texts)), key=lambda place: kind(texts[place])), dtype=int)


def canonical(raw: Raw) -> Raw:
    """Order users and items by id and events by user and time; drop repeated events, count ties and empty titles.

    Events of one user at the same time stay in file order.
    """
    user_order, item_order = natural(raw.users), natural(raw.items["item_id"])
    user = np.argsort(user_order).astype(np.int32)[raw.events["user"].to_numpy()]
    item = np.argsort(item_order).astype(np.int32)[raw.events["item"].to_numpy()]
    time, value = raw.events["time"].to_numpy(), raw.events["value"].to_numpy()
    order = np.lexsort((time, user))
    events = raw_events(user[order], item[order], time[order], value[order])
    same = ((np.diff(events["user"]) == 0) & (np.diff(events["time"]) == 0)).astype(bool)
    tied = np.flatnonzero(np.append(False, same) | np.append(same, False))
    repeated = np.zeros(len(events), dtype=bool)
    repeated[tied] = events.iloc[tied].duplicated(["user", "time", "item"])
    late = same.sum() - repeated.sum()
    items = raw.items.iloc[item_order].reset_index(drop=True)
    untitled = items["title"].str.strip() == ""
    items["title"] = items["title"].where(~untitled, "item " + items["item_id"].astype("str"))
    notes = (
        f"{repeated.sum():,} repeated events dropped",
        f"{late:,} events at the same time as an earlier one of the same user: kept in file order",
        f"{untitled.sum():,} items without a title are named by their id",
    )
    events = events[~repeated].reset_index(drop=True)
    users = raw.users.iloc[user_order].reset_index(drop=True)
    return replace(raw, events=events, users=users, items=items, notes=raw.notes + notes)


def frequent(user: np.ndarray, item: np.ndarray, minimum: int, kind: str = "core") -> np.ndarray:
    """Mark the events whose user and item both have at least `minimum` events.

    "core" counts the marked events only, repeated until nothing changes (the k-core). "single" counts all events once;
    what is left may hold rarer ones. "More than 3 events", as in the paper's published settings, is minimum = 4.
    """
    keep = np.ones(len(user), dtype=bool)
    while True:
        users, items = (np.bincount(codes[keep], minlength=codes.max() + 1) for codes in (user, item))
        fewer = keep & (users[user] >= minimum) & (items[item] >= minimum)
        if kind == "single" or fewer.sum() == keep.sum():
            return fewer
        keep = fewer


def dense(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the codes that occur from 0, in their order; return them with the codes that they were."""
    occurs = np.bincount(codes) > 0
    return (np.cumsum(occurs) - 1)[codes], np.flatnonzero(occurs)


def filtered(
    name: str, raw: Raw, minimum: int = 1, kind: str = "core", first_users: int | None = None, key: str = ""
) -> Dataset:
    """Filter a canonical data set and give those who are left new codes.

    Raises:
        UserError: the filter is unknown or leaves nothing.
    """
    if kind not in FILTERS:
        raise UserError(f'"{kind}" is not a filter; choose one of {", ".join(FILTERS)}.')
    if first_users is not None and first_users < 1:
        raise UserError(f'"first_users" is {first_users}; expected at least 1.')
    user, item = raw.events["user"].to_numpy(), raw.events["item"].to_numpy()
    keep = frequent(user, item, minimum, kind)
    if not keep.any():
        raise UserError(f"{name}: no user and item are left with at least {minimum} events each.")
    users_left, items_left = np.unique(user[keep]), np.unique(item[keep])
    words = f"{minimum}-core" if kind == "core" else f"one pass of at least {minimum} events"
    notes = [
        f"{words}: {len(keep) - keep.sum():,} of {len(keep):,} events, {len(raw.items) - len(items_left):,} items and "
        f"{len(raw.users) - len(users_left):,} users dropped"
    ]
    if first_users is not None and first_users < len(users_left):
        notes.append(f"the first {first_users:,} of {len(users_left):,} users kept")
        keep &= user <= users_left[first_users - 1]
    (user, users_left), (item, items_left) = dense(user[keep]), dense(item[keep])
    events = raw_events(user, item + 1, *(raw.events[column].to_numpy()[keep] for column in ("time", "value")))
    items = raw.items.iloc[items_left].reset_index(drop=True)
    items.insert(0, "item", np.arange(1, len(items) + 1))
    users = pd.DataFrame({"user": np.arange(len(users_left)), "user_id": raw.users.iloc[users_left].to_numpy()})
    return Dataset(name, events, users, items, raw.dated, raw.domain, (*raw.notes, *notes), key)


def statistics(events: pd.DataFrame) -> dict[str, float]:
    """Count users, items and interactions, mean per user and density: the columns of the paper's Table 1."""
    users, items = events["user"].nunique(), events["item"].nunique()
    return {
        "users": users,
        "items": items,
        "interactions": len(events),
        "avg_per_user": len(events) / users,
        "density": len(events) / (users * items),
    }

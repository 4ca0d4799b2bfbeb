"""Checked rows -> one canonical event table and item table; filters, codes, statistics."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from seqdistill.io import UserError

DOMAINS = ("movies", "beauty", "e-commerce", "generic")  # those that prompts are worded for


@dataclass(frozen=True)
class Raw:
    """A whole data set.

    `events` has the columns user and item (int32, places in `users` and `items`), time (int64: unix seconds where
    `dated`, else a position) and value (float64, NaN without ratings). `items` has item_id, title and the data set's
    other texts. `notes` says in words what the checks met and dropped. `domain` chooses the wording of the prompts.
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

    files: for each file that is needed, the names that it may have; each may also end in .gz. optional: a file that
    may be missing (it is then given as None). read: paths of the files, in that order -> Raw. source: where the files
    can be had, for the error message. write: makes the raw files, for a data set that comes inside a package.
    """

    files: tuple[tuple[str, ...], ...]
    read: Callable[..., Raw]
    source: str
    optional: str | None = None
    write: Callable[[Path], None] | None = None


@dataclass(frozen=True)
class Dataset:
    """Events (user, item, time, value; integer codes, sorted by user then time) and what the codes stand for.

    Users are coded 0..U-1, items 1..V (0 is padding). `value` is NaN where the data has no rating. `time` is unix
    seconds where `dated`, else the place of the event among its user's. `domain` chooses the wording of the prompts.
    `notes` says in words what the checks and filters met and dropped; `key` is a digest of raw files and filters.
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


def with_unlisted(items: pd.DataFrame, ids: pd.Index, codes: np.ndarray) -> tuple[pd.DataFrame, np.ndarray, str]:
    """Append an item without texts for every id that a list of items lacks.

    Args:
        items: item_id and texts.
        ids: distinct ids of the items in the events.
        codes: place of each event's item in `ids`.

    Returns:
        The items, each event's place among them, and a note that counts what was lacking.
    """
    places = pd.Index(items["item_id"]).get_indexer(ids)
    lacking = np.flatnonzero(places < 0)
    places[lacking] = len(items) + np.arange(len(lacking))
    more = pd.DataFrame({"item_id": ids[lacking]}, columns=items.columns).fillna("")
    events = int(np.isin(codes, lacking).sum())
    note = f"{len(lacking):,} items ({events:,} events) are not in the list of items: kept without texts"
    return pd.concat([items, more.astype(items.dtypes)], ignore_index=True), places[codes], note


def natural(ids: pd.Series) -> np.ndarray:
    """Places of distinct ids in their order: as numbers where all are numbers, else as text."""
    texts = ids.astype(str).tolist()
    numeric = all(text.isdecimal() for text in texts)
    return np.array(
        sorted(range(len(texts)), key=(lambda i: int(texts[i])) if numeric else texts.__getitem__), dtype=int
    )


def ranks(order: np.ndarray) -> np.ndarray:
    """Invert a permutation."""
    places = np.empty(len(order), dtype=np.int32)
    places[order] = np.arange(len(order), dtype=np.int32)
    return places


def canonical(raw: Raw) -> Raw:
    """Order users and items by id and events by user and time; drop repeated events, count ties and empty titles.

    Events of one user at the same time stay in file order.
    """
    user_order, item_order = natural(raw.users), natural(raw.items["item_id"])
    user = ranks(user_order)[raw.events["user"].to_numpy()]
    item = ranks(item_order)[raw.events["item"].to_numpy()]
    order = np.lexsort((raw.events["time"].to_numpy(), user))
    user, item = user[order], item[order]
    time, value = raw.events["time"].to_numpy()[order], raw.events["value"].to_numpy()[order]
    follows = np.append(False, (np.diff(user) == 0) & (np.diff(time) == 0))
    tied = np.flatnonzero(follows | np.append(follows[1:], False))
    at = np.cumsum(~follows[tied]) * len(item_order) + item[tied]  # one number for user, time and item
    repeated = np.zeros(len(user), dtype=bool)
    repeated[tied] = pd.Series(at).duplicated().to_numpy()
    if repeated.any():
        user, item, time, value = (cells[~repeated] for cells in (user, item, time, value))
    events = raw_events(user, item, time, value)
    late = int(follows.sum() - repeated.sum())
    items = raw.items.iloc[item_order].reset_index(drop=True)
    untitled = items["title"].str.strip() == ""
    items["title"] = items["title"].where(~untitled, "item " + items["item_id"].astype("str"))
    notes = (
        f"{int(repeated.sum()):,} repeated events dropped",
        f"{late:,} events at the same time as an earlier one of the same user: kept in file order",
        f"{int(untitled.sum()):,} items without a title are named by their id",
    )
    users = raw.users.iloc[user_order].reset_index(drop=True)
    return replace(raw, events=events, users=users, items=items, notes=raw.notes + notes)


def often(user: np.ndarray, item: np.ndarray, keep: np.ndarray, minimum: int) -> np.ndarray:
    """Mark the kept events whose user and item both have at least `minimum` kept events."""
    users, items = (np.bincount(codes[keep], minlength=codes.max() + 1) for codes in (user, item))
    return keep & (users[user] >= minimum) & (items[item] >= minimum)


def single(user: np.ndarray, item: np.ndarray, minimum: int) -> np.ndarray:
    """Keep the events whose user and item have at least `minimum` events before filtering: one pass.

    "More than 3 events", as in the paper's published settings, is minimum = 4. What is left may hold rarer ones.
    """
    return often(user, item, np.ones(len(user), dtype=bool), minimum)


def core(user: np.ndarray, item: np.ndarray, minimum: int) -> np.ndarray:
    """Keep users and items with at least `minimum` events, repeated until nothing changes (the k-core)."""
    keep = np.ones(len(user), dtype=bool)
    while (fewer := often(user, item, keep, minimum)).sum() < keep.sum():
        keep = fewer
    return keep


FILTERS: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {"core": core, "single": single}


def dense(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the codes that occur from 0, in their order; return them with the codes that they were."""
    occurs = np.bincount(codes) > 0
    return (np.cumsum(occurs) - 1)[codes], np.flatnonzero(occurs)


def filtered(name: str, raw: Raw, minimum: int, kind: str, first_users: int | None, key: str, where: str) -> Dataset:
    """Filter a canonical data set and give those who are left new codes.

    Raises:
        UserError: the filter is unknown or leaves nothing.
    """
    if kind not in FILTERS:
        raise UserError(f'"{kind}" is not a filter; choose one of {", ".join(FILTERS)}.')
    user, item = raw.events["user"].to_numpy(), raw.events["item"].to_numpy()
    keep = FILTERS[kind](user, item, minimum)
    if not keep.any():
        raise UserError(f"{where}: no user and item are left with at least {minimum} events each.")
    users_left, items_left = np.unique(user[keep]), np.unique(item[keep])
    words = f"{minimum}-core" if kind == "core" else f"one pass of at least {minimum} events"
    notes = [
        f"{words}: {len(keep) - keep.sum():,} of {len(keep):,} events, {len(raw.items) - len(items_left):,} items and "
        f"{len(raw.users) - len(users_left):,} users dropped"
    ]
    if first_users is not None and first_users < 1:
        raise UserError(f'"first_users" is {first_users}; expected at least 1.')
    if first_users is not None and first_users < len(users_left):
        notes.append(f"the first {first_users:,} of {len(users_left):,} users kept")
        keep &= user <= users_left[first_users - 1]
    (user, users_left), (item, items_left) = dense(user[keep]), dense(item[keep])
    time, value = (raw.events[column].to_numpy()[keep] for column in ("time", "value"))
    events = raw_events(user, item + 1, time, value)
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

"""Checked rows, or a plain table -> one canonical event table and item table; filters, codes, statistics."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from seqdistill.data.checks import check_dates, stop_at
from seqdistill.io import UserError, content_digest

UNLISTED = 0.2  # share of events whose items may be missing from the list
DOMAINS = ("movies", "beauty", "e-commerce", "generic")  # those with prompts of their own


@dataclass(frozen=True)
class Dataset:
    """A data set in canonical order: events by user, then time, with the columns user, item, time and value.

    Users are coded 0..U-1 and items 1..V (0 is padding); `canonical` codes both by row number from 0, as nothing is
    filtered yet. users: user, user_id. items: item, item_id, title and other texts. notes: what the checks found and
    dropped, in words. key: digest of raw files and filters.
    """

    events: pd.DataFrame
    users: pd.DataFrame
    items: pd.DataFrame
    dated: bool
    domain: str
    notes: tuple[str, ...]
    name: str = ""
    key: str = ""


def in_order(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Sort a table by its distinct ids: as numbers if all are numbers, else as text."""
    ids = table[column].astype("str")
    kind = int if ids.str.isdecimal().all() else str
    order = sorted(zip(map(kind, ids), range(len(ids)), strict=True))
    return table.iloc[[row for _, row in order]].reset_index(drop=True)


def canonical(
    events: pd.DataFrame, items: pd.DataFrame, dated: bool, domain: str, users: pd.Series | None = None, unit: int = 1,
    most: float = UNLISTED,
) -> Dataset:  # fmt: skip
    """Order users and items by id, events by user and time; drop repeated events; count ties and missing texts.

    Events of one user at the same time stay in file order; items that are not listed are appended without texts.
    events: user_id and item_id (categorical), time or position, value (a rating or NaN). items: item_id, title and
    other texts. users: all ids, if there is a list. unit: units of `time` per second; the order within a second is
    kept. most: share of the events whose items may be missing from the list.
    """
    if events.empty:
        raise UserError("interactions: no rows.")
    user_ids, item_ids = events["user_id"], events["item_id"]
    unlisted = item_ids.cat.categories[~item_ids.cat.categories.isin(items["item_id"])]
    lacking = item_ids.isin(unlisted).sum()
    if lacking > most * len(events):
        raise UserError(
            f"interactions: {lacking / len(events):.0%} of the events are of items that are not in the list of items, "
            f"the first {unlisted.tolist()[0]!r}; at most {most:.0%} may be. It lists {items['item_id'].tolist()[:3]}."
        )
    more = pd.DataFrame({"item_id": unlisted}, columns=items.columns).fillna("").astype(items.dtypes)
    items = in_order(pd.concat([items, more]), "item_id")
    users = in_order(pd.DataFrame({"user_id": user_ids.cat.categories if users is None else users}), "user_id")
    events = pd.DataFrame(
        {
            "user": user_ids.cat.set_categories(users["user_id"]).cat.codes.to_numpy(np.int32),
            "item": item_ids.cat.set_categories(items["item_id"]).cat.codes.to_numpy(np.int32),
            "time": events["time"].to_numpy(),
            "value": events["value"].to_numpy(),
        },
        copy=False,
    )
    events = events.iloc[np.lexsort((events["time"], events["user"]))]
    same = (np.diff(events["user"]) == 0) & (np.diff(events["time"]) == 0)
    tied = np.flatnonzero(np.append(False, same) | np.append(same, False))
    repeated = np.zeros(len(events), dtype=bool)
    repeated[tied] = events.iloc[tied].duplicated(["user", "time", "item"])
    untitled = items["title"].str.strip() == ""
    items["title"] = items["title"].where(~untitled, "item " + items["item_id"].astype("str"))
    share, late = lacking / len(events), same.sum() - repeated.sum()
    notes = (
        f"{len(unlisted):,} items ({lacking:,} events, {share:.1%}) are not in the list of items: kept without texts",
        f"{repeated.sum():,} repeated events dropped",
        f"{late:,} events at the same time as an earlier one of the same user: kept in file order",
        f"{untitled.sum():,} items without a title are named by their id",
    )[0 if len(unlisted) else 1 :]
    events = events[~repeated].reset_index(drop=True)
    return Dataset(events.assign(time=events["time"] // unit), users, items, dated, domain, notes)


def frequent(user: np.ndarray, item: np.ndarray, minimum: int, kind: str = "core") -> np.ndarray:
    """Mark the events whose user and item both have at least `minimum` events.

    "core" counts marked events only and repeats this until nothing changes (the k-core). "single" counts all events
    once, so users and items may keep fewer. "More than 3 events", the paper's published setting, is minimum = 4.
    """
    keep = np.ones(len(user), dtype=bool)
    while True:
        users, items = (np.bincount(codes[keep], minlength=codes.max() + 1) for codes in (user, item))
        fewer = keep & (users[user] >= minimum) & (items[item] >= minimum)
        if kind == "single" or fewer.sum() == keep.sum():
            return fewer
        keep = fewer


def filtered(
    data: Dataset, name: str, minimum: int = 1, kind: str = "core", first_users: int | None = None, key: str = ""
) -> Dataset:
    """Filter a canonical data set and give the remaining users and items new codes."""
    if kind not in ("core", "single"):
        raise UserError(f'"{kind}" is not a filter; choose one of core, single.')
    if first_users is not None and first_users < 1:
        raise UserError(f'"first_users" is {first_users}; expected at least 1.')
    keep = frequent(data.events["user"].to_numpy(), data.events["item"].to_numpy(), minimum, kind)
    if not keep.any():
        raise UserError(f"{name}: no user and item are left with at least {minimum} events each.")
    events = data.events[keep]
    users_left, items_left = np.sort(events["user"].unique()), events["item"].unique()
    words = f"{minimum}-core" if kind == "core" else f"one pass of at least {minimum} events"
    notes = [
        f"{words}: {len(keep) - keep.sum():,} of {len(keep):,} events, {len(data.items) - len(items_left):,} items and "
        f"{len(data.users) - len(users_left):,} users dropped"
    ]
    if first_users is not None and first_users < len(users_left):
        notes.append(f"the first {first_users:,} of {len(users_left):,} users kept")
        events = events[events["user"] <= users_left[first_users - 1]]
    (user, users_left), (item, items_left) = (pd.factorize(events[name], sort=True) for name in ("user", "item"))
    events = events.reset_index(drop=True).assign(user=user, item=item + 1)
    users = data.users.iloc[users_left].set_axis(np.arange(len(users_left))).reset_index(names="user")
    items = data.items.iloc[items_left].set_axis(np.arange(len(items_left)) + 1).reset_index(names="item")
    return Dataset(events, users, items, data.dated, data.domain, (*data.notes, *notes), name, key)


def statistics(events: pd.DataFrame) -> dict[str, float]:
    """Count users, items and interactions, mean per user and density: the columns of the paper's Table 1."""
    users, items, interactions = events["user"].nunique(), events["item"].nunique(), len(events)
    counts = {"users": users, "items": items, "interactions": interactions}
    return counts | {"avg_per_user": interactions / users, "density": interactions / (users * items)}


def check_columns(where: str, table: pd.DataFrame, columns: list[str]) -> None:
    """Raise a UserError if `table` is not a table, lacks a column, or lacks an id in a column of ids."""
    if not isinstance(table, pd.DataFrame):
        raise UserError(f"{where}: a pandas table is expected, not {type(table).__name__}.")
    for name in columns:
        if name not in table:
            raise UserError(f'{where}: no column "{name}" (found {", ".join(map(repr, table.columns))}).')
        if name.endswith("_id"):
            stop_at(where, table[name], table[name].isna(), "an id is expected", 0)


def whole(times: pd.Series) -> tuple[pd.Series, int]:
    """Return times as int64, and how many of these are a second: datetimes become unix microseconds (UTC)."""
    if pd.api.types.is_datetime64_any_dtype(times):
        return pd.to_datetime(times, utc=True).astype("datetime64[us, UTC]").astype("int64"), 1_000_000
    cells = pd.to_numeric(times, errors="coerce")
    expected = "a whole number or a datetime (pd.to_datetime) is expected"
    stop_at("interactions", times, ~(cells.astype("float64") % 1 == 0), expected, 0)
    return cells.astype("int64"), 1


def coded(interactions: pd.DataFrame, items: pd.DataFrame | None = None) -> Dataset:
    """Code users and items, sort each user's events by time (ties keep their order) and keep the mapping of ids.

    interactions: user_id, item_id and timestamp (datetimes or unix seconds) or, where there are no times, position;
    rating is optional. items: item_id, title and any other texts; without it items are named by their ids.
    """
    check_columns("interactions", interactions, ["user_id", "item_id"])
    time = "position" if "position" in interactions and "timestamp" not in interactions else "timestamp"
    check_columns("interactions", interactions, [time])
    if items is None:
        items = pd.DataFrame({"item_id": interactions["item_id"].unique(), "title": ""})
    check_columns("items", items, ["item_id", "title"])
    stop_at("items", items["item_id"], items["item_id"].duplicated(), "the id stands here twice", 0)
    moments, unit = whole(interactions[time])
    if time == "timestamp":
        check_dates("interactions", interactions[time], moments, unit, 0)
    value = np.nan
    if "rating" in interactions:
        value = pd.to_numeric(interactions["rating"], errors="coerce").astype("float64")
        stop_at("interactions", interactions["rating"], ~np.isfinite(value), "a number is expected", 0)
    texts = items.assign(**{name: items[name].astype("str").fillna("") for name in items.columns.drop("item_id")})
    user, item = (interactions[column].astype("category") for column in ("user_id", "item_id"))
    events = pd.DataFrame({"user_id": user, "item_id": item, "time": moments, "value": value})
    data = canonical(events, texts, time == "timestamp", "generic", unit=unit)
    return filtered(data, "interactions", key=content_digest(interactions))

"""A plain table of interactions -> the coded data set that splits and training read."""

import numpy as np
import pandas as pd

from seqdistill.data.checks import EARLIEST, LATEST, stop_at
from seqdistill.data.tables import Dataset, Raw, canonical, filtered, raw_events
from seqdistill.io import UserError, content_digest


def check(where: str, column: str, values: pd.Series, bad: pd.Series, expected: str) -> None:
    """Raise a UserError that names the first row (counted from 0) where `bad` is True."""
    stop_at(where, column, values.to_numpy(), bad.to_numpy(dtype=bool), expected, 0)


def numbers(values: pd.Series, whole: bool) -> pd.Series:
    """Return a column as int64 (datetimes as unix seconds, UTC), or as float64."""
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        values = values.dt.tz_convert(None)
    if values.dtype.kind == "M" and values.notna().all():
        return values.astype("datetime64[s]").astype("int64")
    found = pd.to_numeric(values, errors="coerce").astype("float64")
    bad = ~np.isfinite(found) | ((found % 1 != 0) & whole)
    check("interactions", values.name, values, bad, f"a {'whole ' * whole}number is expected")
    return pd.to_numeric(values).astype("int64") if whole else found


def coded(interactions: pd.DataFrame, items: pd.DataFrame | None = None) -> Dataset:
    """Code users and items, sort each user's events by time (ties keep their order) and keep the mapping of ids.

    What is dropped or renamed (repeated events, items without events or titles) is counted in `notes`.

    Args:
        interactions: user_id, item_id and timestamp (datetimes or unix seconds) or, where there are no times, position;
            rating is optional.
        items: item_id, title and any other texts; without it items are named by their ids.

    Returns:
        events (user from 0, item from 1, time, value), users (user, user_id) and items (item, item_id, title, ...).
    """
    time = "timestamp" if "timestamp" in interactions else "position"
    wanted = [("interactions", interactions, ("user_id", "item_id", time)), ("items", items, ("item_id", "title"))]
    for where, table, columns in wanted[: 1 if items is None else 2]:
        if missing := [column for column in columns if column not in table]:
            either = 'timestamp" or "position' if missing[0] == "position" else missing[0]
            raise UserError(f'{where}: no column "{either}" (found {", ".join(map(repr, table.columns))}).')
        for column in ("user_id", "item_id"):
            if column in table:
                check(where, column, table[column], table[column].isna(), "an id is expected")
    if interactions.empty:
        raise UserError("interactions: no rows.")
    if items is None:
        items = pd.DataFrame({"item_id": interactions["item_id"].unique(), "title": ""})
    check("items", "item_id", items["item_id"], items["item_id"].duplicated(), "the id stands here twice")
    moments = numbers(interactions[time], whole=True)
    if time == "timestamp":
        odd = ~moments.between(EARLIEST, LATEST)
        check("interactions", time, moments, odd, "unix seconds between 1900 and 2100 are expected")
    value = numbers(interactions["rating"], whole=False) if "rating" in interactions else np.nan
    texts = items.assign(**{name: items[name].astype("str").fillna("") for name in items.columns.drop("item_id")})
    user, item = (interactions[column].astype("category") for column in ("user_id", "item_id"))
    events = raw_events(user, item, moments, value)
    order = np.argsort(interactions[time].to_numpy(), kind="stable")  # a second may hold several datetimes
    raw = Raw(events.iloc[order], texts, time == "timestamp", "generic")
    return filtered(canonical(raw), "interactions", key=content_digest(interactions))

"""A plain table of interactions -> the coded data set that splits and training read."""

from pathlib import Path

import numpy as np
import pandas as pd

from seqdistill.data.checks import check_dates, stop_at
from seqdistill.data.tables import Dataset, canonical, filtered, raw_events
from seqdistill.io import UserError, content_digest


def check_columns(where: str, table: pd.DataFrame, columns: list[str]) -> None:
    """Raise a UserError if it is no table, or a column is missing, or an id in one of ids."""
    if not isinstance(table, pd.DataFrame):
        read = "; pd.read_csv reads a file" if isinstance(table, str | Path) else ""
        raise UserError(f"{where}: a pandas table is expected, not {type(table).__name__}{read}.")
    for name in columns:
        if name not in table:
            raise UserError(f'{where}: no column "{name}" (found {", ".join(map(repr, table.columns))}).')
        if name.endswith("_id"):
            stop_at(where, table[name], table[name].isna(), "an id is expected", 0)


def numbers(values: pd.Series, whole: bool) -> pd.Series:
    """Return a column as int64 (datetimes as unix microseconds, UTC), or as float64; rows are counted from 0."""
    if pd.api.types.is_datetime64_any_dtype(values) and values.notna().all():
        return pd.to_datetime(values, utc=True).astype("datetime64[us, UTC]").astype("int64")
    cells = pd.to_numeric(values, errors="coerce").astype("float64")
    bad = ~np.isfinite(cells) | ((cells % 1 != 0) & whole)
    expected = "a whole number or a datetime (pd.to_datetime) is expected" if whole else "a number is expected"
    stop_at("interactions", values, bad, expected, 0)
    return pd.to_numeric(values).astype("int64") if whole else cells


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
    moments = numbers(interactions[time], whole=True)
    unit = 1_000_000 if pd.api.types.is_datetime64_any_dtype(interactions[time]) else 1
    if time == "timestamp":
        check_dates("interactions", interactions[time], moments, unit, 0)
    value = numbers(interactions["rating"], whole=False) if "rating" in interactions else np.nan
    texts = items.assign(**{name: items[name].astype("str").fillna("") for name in items.columns.drop("item_id")})
    user, item = (interactions[column].astype("category") for column in ("user_id", "item_id"))
    events = raw_events(user, item, moments, value)
    data = canonical(events, texts, time == "timestamp", "generic", unit=unit)
    return filtered(data, "interactions", key=content_digest(interactions))

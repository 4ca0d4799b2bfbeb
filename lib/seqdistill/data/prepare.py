"""A plain table of interactions -> the coded data set that splits and training read."""

import numpy as np
import pandas as pd

from seqdistill.data.checks import EARLIEST, LATEST, stop_at
from seqdistill.data.tables import Dataset, Raw, canonical, filtered, raw_events, with_unlisted
from seqdistill.io import UserError, content_digest


def times(values: pd.Series) -> pd.Series:
    """Whole numbers as they are, datetimes as unix seconds (UTC)."""
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        values = values.dt.tz_convert(None)
    if pd.api.types.is_datetime64_dtype(values):
        return values.astype("datetime64[s]").astype("int64")
    numbers = pd.to_numeric(values, errors="coerce")
    bad = ~np.isfinite(numbers) | (numbers % 1 != 0)
    stop_at("interactions", values.name, values.to_numpy(), bad.to_numpy(), "a whole number is expected", 0)
    return numbers.astype("int64")


def coded(interactions: pd.DataFrame, items: pd.DataFrame | None = None) -> Dataset:
    """Code users and items, sort each user's events by time (ties keep their order) and keep the mapping of ids.

    Rows in messages are counted from 0. What is dropped or renamed (repeated events, items without events or titles)
    is counted in `notes`.

    Args:
        interactions: user_id, item_id and timestamp (datetimes or unix seconds) or, where there are no times, position;
            rating is optional.
        items: item_id, title and any other texts; items are named by their ids without it.

    Returns:
        events (user from 0, item from 1, time, value), users (user, user_id) and items (item, item_id, title, ...).

    Raises:
        UserError: a column is missing, a cell is empty or of the wrong kind, or there are no rows.
    """
    time = next((name for name in ("timestamp", "position") if name in interactions), None)
    tables = {"interactions": (interactions, ("user_id", "item_id")), "items": (items, ("item_id", "title"))}
    for where, (table, wanted) in tables.items():
        for column in wanted if table is not None else ():
            if column not in table:
                raise UserError(f'{where}: no column "{column}" (found {", ".join(map(repr, table.columns))}).')
            if column != "title":
                stop_at(
                    where, column, table[column].to_numpy(), table[column].isna().to_numpy(), "an id is expected", 0
                )
    if time is None:
        raise UserError('interactions: no column "timestamp" or "position"; one of them must give the order of events.')
    if interactions.empty:
        raise UserError("interactions: no rows.")
    moments, value = times(interactions[time]), None
    if time == "timestamp":
        odd = ~moments.between(EARLIEST, LATEST).to_numpy()
        stop_at("interactions", time, moments.to_numpy(), odd, "unix seconds between 1900 and 2100 are expected", 0)
    if "rating" in interactions:
        value = pd.to_numeric(interactions["rating"], errors="coerce").to_numpy(dtype=float)
        bad = ~np.isfinite(value)
        stop_at("interactions", "rating", interactions["rating"].to_numpy(), bad, "a number is expected", 0)
    user, users = pd.factorize(interactions["user_id"])
    item, ids = pd.factorize(interactions["item_id"])
    if items is None:
        catalogue, notes = pd.DataFrame({"item_id": ids, "title": ""}), ()
    else:
        twice = items["item_id"].duplicated().to_numpy()
        stop_at("items", "item_id", items["item_id"].to_numpy(), twice, "the id stands here twice", 0)
        others = items.columns.drop("item_id")
        texts = items.assign(**{name: items[name].fillna("").astype("str") for name in others})
        catalogue, item, note = with_unlisted(texts, ids, item)
        notes = (note,)
    events = raw_events(user.astype("int32"), item.astype("int32"), moments.to_numpy(), value)
    events = events.iloc[interactions[time].reset_index(drop=True).sort_values(kind="stable").index]
    raw = Raw(events, pd.Series(users), catalogue, time == "timestamp", "generic", notes)
    return filtered("interactions", canonical(raw), 1, "core", None, content_digest(interactions), "interactions")

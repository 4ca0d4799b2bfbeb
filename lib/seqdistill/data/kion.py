"""Kion: films and series watched on a streaming service in 2021, with rich texts."""

from pathlib import Path

import pandas as pd

from seqdistill.data import checks
from seqdistill.data.checks import ID, MOMENT, TEXT
from seqdistill.data.tables import Layout, Raw, raw_events, with_unlisted
from seqdistill.io import display_path


def read(interactions: Path, films: Path) -> Raw:
    """Read interactions.csv (user_id,item_id,last_watch_dt,...) and items_en.csv (item_id,title,release_year,...).

    Times are days. What was watched of a film is no rating, so `value` stays NaN. Users' demographics are not read.
    """
    wanted = {"item_id": ID, "title": TEXT, "release_year": TEXT, "genres": TEXT}
    table = checks.read_csv(films, wanted, others=True, multiline=True)
    checks.distinct(display_path(films), "item_id", table["item_id"])
    names = {"release_year": "year", "genres": "categories"}
    items = table.to_pandas().astype("str").rename(columns=names)
    items["year"] = items["year"].str.removesuffix(".0")
    items["categories"] = items["categories"].str.replace(r"\s*,\s*", "|", regex=True)
    table = checks.read_csv(interactions, {"user_id": ID, "item_id": ID, "last_watch_dt": MOMENT})
    user, user_ids = checks.coded(table["user_id"])
    codes, ids = checks.coded(table["item_id"])
    items, item, note = with_unlisted(items, pd.Index(ids.to_pandas()), codes)
    events = raw_events(user, item, table["last_watch_dt"].cast("int64").to_numpy())
    return Raw(events, user_ids.to_pandas().astype("str"), items, True, "movies", (note,))


LAYOUT = Layout(
    files=(("interactions.csv",), ("items_en.csv",)),
    read=read,
    source="they are in data_en.zip of https://github.com/irsafilo/KION_DATASET (5,476,251 interactions)",
)

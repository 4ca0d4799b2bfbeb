"""Amazon-M2: shopping sessions in six locales (KDD Cup 2023); a session is a user, and there are no times."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from seqdistill.data.checks import ID, TEXT, read_csv, stop_at
from seqdistill.data.tables import Layout, Raw, raw_events
from seqdistill.io import display_path

LIST = r"\[\s*'[^'\s]+'(\s+'[^'\s]+')*\s*\]"  # as numpy prints it: spaces, and line breaks in long ones


def read_products(path: Path) -> pd.DataFrame:
    """Read products_train.csv; the same ASIN has another text in another locale, so an item is a locale/ASIN."""
    table = read_csv(path, {"id": ID, "locale": ID, "title": TEXT}, others=True, multiline=True).astype("str")
    names = table["locale"] + "/" + table["id"]
    stop_at(display_path(path), "id", table["id"], names.duplicated(), "the id stands here twice")
    table.insert(0, "item_id", names)
    return table.drop(columns="id")


def read(sessions: Path, products: Path) -> Raw:
    """Read sessions_train.csv and products_train.csv: a user is a session, named by its place in the file from 0."""
    table = read_csv(sessions, {"prev_items": TEXT, "next_item": ID, "locale": ID}, multiline=True)
    wrong = ~table["prev_items"].str.fullmatch(LIST).to_numpy(bool)
    expected = "a list like ['B01N5IB20Q' 'B07XJ8C8F5'] is expected"
    stop_at(display_path(sessions), "prev_items", table["prev_items"], wrong, expected)
    asins = (
        table["prev_items"].str.replace(r"[\[\]'\s]+", " ", regex=True).str.strip()
        + " "
        + table["next_item"].astype("str")
    )
    lists = pc.split_pattern(pa.array(asins), " ")
    counts = pc.list_value_length(lists).to_numpy()
    user = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    position = np.arange(len(user)) - np.repeat(np.cumsum(counts) - counts, counts)
    locales = pa.array(table["locale"].astype("str")).take(pa.array(user))
    names = pc.binary_join_element_wise(locales, lists.flatten(), pa.scalar("/", locales.type))
    users = pd.Categorical.from_codes(user, pd.RangeIndex(len(counts)).astype("str"))
    events = raw_events(users, names.dictionary_encode().to_pandas(), position)
    return Raw(events, read_products(products), False, "e-commerce")


LAYOUT = Layout(
    files=(("sessions_train.csv",), ("products_train.csv",)),
    read=read,
    source="they are under Resources of https://www.aicrowd.com/challenges/"
    "amazon-kdd-cup-23-multilingual-recommendation-challenge, after signing up",
)

"""Amazon-M2: shopping sessions in six locales (KDD Cup 2023); a session is a user, and there are no times."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from seqdistill.data import checks
from seqdistill.data.checks import ID, TEXT
from seqdistill.data.tables import Layout, Raw, raw_events, with_unlisted
from seqdistill.io import display_path

LIST = r"^\[\s*'[^'\s]+'(\s+'[^'\s]+')*\s*\]$"  # as numpy prints it: spaces, and line breaks in long ones


def in_locale(locale: pa.Array, asin: pa.Array) -> pa.Array:
    """Name a product: the same ASIN has another text in another locale."""
    return pc.binary_join_element_wise(locale.cast(pa.string()), asin.cast(pa.string()), "/")


def read_products(path: Path) -> pd.DataFrame:
    """Read products_train.csv (id,locale,title,price,brand,color,size,model,material,author,desc)."""
    table = checks.read_csv(path, {"id": ID, "locale": ID, "title": TEXT}, others=True, multiline=True)
    names = in_locale(table["locale"], table["id"])
    checks.distinct(display_path(path), "id", names.dictionary_encode())
    return table.drop(["id"]).add_column(0, "item_id", names).to_pandas().astype("str")


def read(sessions: Path, products: Path) -> Raw:
    """Read sessions_train.csv (prev_items,next_item,locale) and products_train.csv.

    A session is a user, named by its number in the file from 0; its events are prev_items, then next_item.
    """
    items, where = read_products(products), display_path(sessions)
    table = checks.read_csv(sessions, {"prev_items": TEXT, "next_item": ID, "locale": ID}, multiline=True)
    before = table["prev_items"].combine_chunks()
    wrong = pc.invert(pc.match_substring_regex(before, LIST)).to_numpy(zero_copy_only=False)
    checks.stop_at(where, "prev_items", before, wrong, "a list like ['B01N5IB20Q' 'B07XJ8C8F5'] is expected")
    plain = pc.replace_substring_regex(before, r"[\[\]\s]+", " ")
    lists = pc.split_pattern(pc.utf8_trim(plain, " '"), "' '")
    counts = pc.list_value_length(lists).to_numpy().astype(np.int64) + 1
    user = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    ends = np.cumsum(counts) - 1
    position = np.arange(len(user)) - np.repeat(ends + 1 - counts, counts)
    place = np.empty(len(user), dtype=np.int64)  # each event's place among all prev_items, then all next_items
    last = np.zeros(len(user), dtype=bool)
    last[ends] = True
    place[~last], place[last] = np.arange(len(user) - len(counts)), len(user) - len(counts) + np.arange(len(counts))
    asins = pa.concat_arrays([lists.flatten(), table["next_item"].cast(pa.string()).combine_chunks()]).take(
        pa.array(place)
    )
    locales = table["locale"].unify_dictionaries().combine_chunks().take(pa.array(user))
    codes, ids = checks.coded(pa.chunked_array([in_locale(locales, asins).dictionary_encode()]))
    items, item, note = with_unlisted(items, pd.Index(ids.to_pandas()), codes)
    users = pd.Series(np.arange(len(counts)).astype(str)).astype("str")
    return Raw(raw_events(user, item, position), users, items, False, "e-commerce", (note,))


LAYOUT = Layout(
    files=(("sessions_train.csv",), ("products_train.csv",)),
    read=read,
    source="they are under Resources of https://www.aicrowd.com/challenges/"
    "amazon-kdd-cup-23-multilingual-recommendation-challenge, after signing up",
)

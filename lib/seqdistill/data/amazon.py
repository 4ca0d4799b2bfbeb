"""Amazon's public data whose files need a parser of their own: Beauty (2014, records) and M2 (2023, sessions)."""

import ast
import html
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from seqdistill.data.checks import ID, NUMBER, TEXT, WHOLE, check_dates, opened, read_csv, stop_at
from seqdistill.data.tables import Dataset, canonical
from seqdistill.io import UserError, display_path

RATING = {"user_id": ID, "item_id": ID, "rating": NUMBER, "time": WHOLE}
TAG = re.compile(
    r" *(?:<(script|style)\b.*?</\1\s*>|<!--.*?-->|</?[a-z][a-z0-9]*(\s+[\w-]+\s*=[^<>]*)?\s*/?>) *", re.S | re.I
)
TEXTS = ["title", "categories", "description", "brand", "price"]
SESSION = r"\[\s*'[^'\s]+'(\s+'[^'\s]+')*\s*\]"  # as numpy prints it: spaces, and line breaks in long ones


def plain_text(value: object) -> str:
    """Text of a field without markup: None becomes empty, entities become characters, tags become blanks."""
    text = "" if value is None else " ".join(map(plain_text, value)) if isinstance(value, list) else str(value)
    text, marked = html.unescape(text), None
    while text != marked:  # some are escaped twice
        text, marked = re.sub(" {2,}", " ", html.unescape(TAG.sub(" ", text))).strip(), text
    return "" if text.lower() in ("none", "nan", "null") else text


def product(line: str) -> list[str]:
    """Id and texts of a line of meta_Beauty.json.gz, a Python dict; [["Beauty", "Hair Care"]] is "Hair Care"."""
    record = ast.literal_eval(line)
    asin, paths = record["asin"], record.get("categories") or []
    if not isinstance(asin, str) or not all(isinstance(path, list) for path in paths):
        raise TypeError(f"asin {asin!r:.40}, categories {paths!r:.40}")
    record["categories"] = "|".join(dict.fromkeys(name for path in paths for name in path[1:]))
    return [asin, *(plain_text(record.get(name)) for name in TEXTS)]


def read_meta(path: Path) -> pd.DataFrame:
    """Read meta_Beauty.json.gz, one product a line: item_id and texts."""
    rows = []
    with opened(path) as handle:
        for number, line in enumerate(handle, 1):
            try:
                rows.append(product(line.decode()))
            except (ValueError, SyntaxError, TypeError, KeyError) as error:
                where = f"{display_path(path)}, line {number}"
                raise UserError(f"{where}: no record of the expected fields ({error!r:.100}).") from None
    items = pd.DataFrame(rows, columns=["item_id", *TEXTS], dtype="str")
    stop_at(display_path(path), items["item_id"], items["item_id"].duplicated(), "the id stands here twice", 1)
    return items


def read_beauty(ratings: Path, meta: Path) -> Dataset:
    """Read ratings_Beauty.csv (no header: user, asin, rating, unix time) and item texts."""
    where, table = display_path(ratings), read_csv(ratings, RATING, names=[*RATING])
    stop_at(where, table["rating"], ~table["rating"].between(1, 5), "a number from 1 to 5 is expected", 1)
    check_dates(where, table["time"], table["time"], 1, 1)
    return canonical(table.rename(columns={"rating": "value"}), read_meta(meta), True, "beauty")


def read_products(path: Path) -> pd.DataFrame:
    """Read products_train.csv; the text of an ASIN differs between locales, so an item is a locale/ASIN."""
    table = read_csv(path, {"id": ID, "locale": ID, "title": TEXT}, texts=True).astype("str")
    names = table["locale"] + "/" + table["id"]
    stop_at(display_path(path), table["id"], names.duplicated(), "the id stands here twice")
    texts = table.drop(columns="id").map(plain_text)
    texts.insert(0, "item_id", names)
    return texts


def read_m2(sessions: Path, products: Path) -> Dataset:
    """Read sessions_train.csv and products_train.csv: a user is a session, named by its place in the file from 0."""
    table = read_csv(sessions, {"prev_items": TEXT, "next_item": ID, "locale": ID}, texts=True)
    previous = table["prev_items"]
    expected = "a list like ['B01N5IB20Q' 'B07XJ8C8F5'] is expected"
    stop_at(display_path(sessions), previous, ~previous.str.fullmatch(SESSION), expected)
    asins = previous.str.replace(r"[\[\]'\s]+", " ", regex=True).str.strip() + " " + table["next_item"].astype("str")
    lists = pc.split_pattern(pa.array(asins), " ")
    counts = pc.list_value_length(lists).to_numpy()
    user = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    position = pd.Series(user).groupby(user).cumcount()
    locales = pa.array(table["locale"].astype("str")).take(pa.array(user))
    names = pc.binary_join_element_wise(locales, lists.flatten(), pa.scalar("/", locales.type))
    users = pd.Categorical.from_codes(user, pd.RangeIndex(len(counts)).astype("str"))
    item_ids = names.dictionary_encode().to_pandas()
    events = pd.DataFrame({"user_id": users, "item_id": item_ids, "time": position, "value": np.nan})
    return canonical(events, read_products(products), False, "e-commerce")

"""Amazon's public data whose files need a parser of their own: Beauty (2014, records) and M2 (2023, sessions)."""

import ast
import html
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from seqdistill.data.checks import ID, NUMBER, TEXT, WHOLE, check_dates, opened, read_csv, stop_at
from seqdistill.data.tables import Dataset, canonical
from seqdistill.io import UserError, display_path

RATING = {"user": ID, "asin": ID, "rating": NUMBER, "time": WHOLE}
REVIEW = {
    "reviewerID": (str, "a text"), "asin": (str, "a text"),
    "overall": (int | float, "a number"), "unixReviewTime": (int, "a whole number"),
}  # fmt: skip
TAG = re.compile(
    r" *(?:<(script|style)\b.*?</\1\s*>|<!--.*?-->|</?[a-z][a-z0-9]*(\s+[\w-]+\s*=[^<>]*)?\s*/?>) *", re.S | re.I
)
EMPTY = ("none", "nan", "null")
TEXTS = ["title", "categories", "description", "brand", "price"]
SESSION = r"\[\s*'[^'\s]+'(\s+'[^'\s]+')*\s*\]"  # as numpy prints it: spaces, and line breaks in long ones


def plain_text(value: object) -> str:
    """Text of a field without markup: None becomes empty, entities become characters, tags become blanks."""
    text = "" if value is None else " ".join(map(plain_text, value)) if isinstance(value, list) else str(value)
    text, marked = html.unescape(text), None
    while text != marked:  # some are escaped twice
        text, marked = re.sub(" {2,}", " ", html.unescape(TAG.sub(" ", text))).strip(), text
    return "" if text.lower() in EMPTY else text


def records(path: Path, parse: Callable[[str], object]) -> Iterator[tuple[str, dict]]:
    """Yield the place (file and line) and the record of each line, in a file with one record per line."""
    number = 0
    with opened(path) as handle:
        for number, line in enumerate(handle, 1):
            where = f"{display_path(path)}, line {number}"
            try:
                yield where, dict(parse(line.decode()))
            except (ValueError, SyntaxError, TypeError) as error:
                raise UserError(f"{where}: no record of names and values ({str(error)[:80]}).") from None
    if not number:
        raise UserError(f"{display_path(path)}: the file is empty.")


def read_reviews(path: Path) -> pd.DataFrame:
    """Read reviews_Beauty.json.gz: one JSON object a line."""
    table = []
    for where, record in records(path, json.loads):
        for name, (kind, words) in REVIEW.items():
            if not isinstance(record.get(name), kind):
                raise UserError(f'{where}, field "{name}": {record.get(name)!r:.80}: {words} is expected.')
        table.append([record[name] for name in REVIEW])
    return pd.DataFrame(table, columns=[*RATING]).astype({"user": "category", "asin": "category"})


def read_meta(path: Path) -> pd.DataFrame:
    """Read meta_Beauty.json.gz, a Python dict a line; [["Beauty", "Hair Care", "Shampoos"]] is "Hair Care|Shampoos"."""
    items = {}
    for where, record in records(path, ast.literal_eval):
        asin, paths = record.get("asin"), record.get("categories") or []
        if not isinstance(asin, str) or not asin or asin in items:
            raise UserError(f'{where}, field "asin": {asin!r:.80}: an id is expected that no other line has.')
        lists = isinstance(paths, list) and all(isinstance(path, list) for path in paths)
        names = [name for path in paths for name in path[1:]] if lists else [None]
        if not all(isinstance(name, str) for name in names):
            raise UserError(f'{where}, field "categories": {paths!r:.80}: lists of names are expected.')
        texts = record | {"categories": "|".join(dict.fromkeys(names))}
        items[asin] = [plain_text(texts.get(name)) for name in TEXTS]
    return pd.DataFrame.from_dict(items, "index", "str", TEXTS).rename_axis("item_id").reset_index().astype("str")


def read_beauty(ratings: Path, meta: Path) -> Dataset:
    """Read ratings_Beauty.csv (no header: user, asin, rating, unix time) or reviews_Beauty.json.gz, and item texts."""
    table = read_reviews(ratings) if ".json" in ratings.name else read_csv(ratings, RATING, names=[*RATING])
    bad = ~table["rating"].between(1, 5)
    stop_at(display_path(ratings), table["rating"], bad, "a number from 1 to 5 is expected", 1)
    check_dates(display_path(ratings), table["time"], table["time"], 1, 1)
    events = table.rename(columns={"user": "user_id", "asin": "item_id", "rating": "value"})
    return canonical(events, read_meta(meta), True, "beauty")


def read_products(path: Path) -> pd.DataFrame:
    """Read products_train.csv; the text of an ASIN differs between locales, so an item is a locale/ASIN."""
    table = read_csv(path, {"id": ID, "locale": ID, "title": TEXT}, others=True, multiline=True).astype("str")
    names = table["locale"] + "/" + table["id"]
    stop_at(display_path(path), table["id"], names.duplicated(), "the id stands here twice")
    for name in table.columns.difference(["id", "locale"]):
        table[name] = table[name].map(plain_text)
    table.insert(0, "item_id", names)
    return table.drop(columns="id")


def read_m2(sessions: Path, products: Path) -> Dataset:
    """Read sessions_train.csv and products_train.csv: a user is a session, named by its place in the file from 0."""
    table = read_csv(sessions, {"prev_items": TEXT, "next_item": ID, "locale": ID}, multiline=True)
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

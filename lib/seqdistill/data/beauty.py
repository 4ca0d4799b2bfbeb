"""Amazon product data 2014 (McAuley et al., 2015), category Beauty: ratings or reviews, and item texts."""

import ast
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from seqdistill.data.checks import DAMAGED, ID, NUMBER, WHOLE, damaged, opened, read_csv, within
from seqdistill.data.tables import Layout, Raw, raw_events
from seqdistill.io import UserError, display_path

REVIEW = {"reviewerID": "a text", "asin": "a text", "overall": "a number", "unixReviewTime": "a whole number"}
TYPES = {"a text": str, "a number": int | float, "a whole number": int}
RATING = {"user": ID, "asin": ID, "rating": NUMBER, "time": WHOLE}
PLAIN = ("description", "brand", "price")


def stop(path: Path, line: int, field: str, value: object, expected: str) -> None:
    """Raise a UserError that names a field of a line."""
    raise UserError(f'{display_path(path)}, line {line}, field "{field}": {value!r:.80}: {expected}.')


def records(path: Path, parse: Callable[[str], object], kind: str) -> Iterator[tuple[int, dict]]:
    """Yield (line number, record) of a file with one record a line."""
    number = 0
    try:
        with opened(path) as handle:
            for number, line in enumerate(handle, 1):
                record = parse(line.decode())
                if not isinstance(record, dict):
                    raise ValueError("no mapping of names to values")
                yield number, record
    except DAMAGED as error:
        raise damaged(path, error) from None
    except (ValueError, SyntaxError) as error:
        raise UserError(f"{display_path(path)}, line {number}: not {kind} ({str(error)[:80]}).") from None
    if not number:
        raise UserError(f"{display_path(path)}: the file is empty; expected {kind} in every line.")


def read_reviews(path: Path) -> pd.DataFrame:
    """Read reviews_Beauty.json.gz: one JSON object a line."""
    table = []
    for number, record in records(path, json.loads, "JSON"):
        for name, kind in REVIEW.items():
            if not isinstance(record.get(name), TYPES[kind]):
                stop(path, number, name, record.get(name), f"{kind} is expected")
        table.append([record[name] for name in REVIEW])
    return pd.DataFrame(table, columns=list(RATING)).astype({"user": "category", "asin": "category"})


def categories(paths: object) -> str:
    """Write [["Beauty", "Hair Care", "Shampoos"], ...] as "Hair Care|Shampoos": each name once, the root left out."""
    if not isinstance(paths, list) or not all(isinstance(path, list) for path in paths):
        raise TypeError
    return "|".join(dict.fromkeys(name for path in paths for name in path[1:]))


def read_meta(path: Path) -> pd.DataFrame:
    """Read meta_Beauty.json.gz: a Python dict a line: asin, title, description, categories, brand, price."""
    texts = {}
    for number, record in records(path, ast.literal_eval, "a Python dict"):
        asin, paths = record.get("asin"), record.get("categories") or []
        if not isinstance(asin, str) or not asin or asin in texts:
            wrong = "the id stands here twice" if isinstance(asin, str) and asin else "an id is expected"
            stop(path, number, "asin", asin, wrong)
        try:
            texts[asin] = [str(record.get("title", "")), categories(paths), *(str(record.get(n, "")) for n in PLAIN)]
        except TypeError:
            stop(path, number, "categories", paths, "lists of names are expected")
    columns = ["title", "categories", *PLAIN]
    return pd.DataFrame.from_dict(texts, "index", "str", columns).rename_axis("item_id").reset_index().astype("str")


def read(ratings: Path, meta: Path) -> Raw:
    """Read ratings_Beauty.csv (no header: user, asin, rating, unix time) or reviews_Beauty.json.gz, and item texts."""
    table = read_reviews(ratings) if ".json" in ratings.name else read_csv(ratings, RATING, names=list(RATING))
    value = within(display_path(ratings), table["rating"], 1, 5, 1)
    events = raw_events(table["user"], table["asin"], table["time"], value)
    return Raw(events, read_meta(meta), True, "beauty")


LAYOUT = Layout(
    files=(("ratings_Beauty.csv", "reviews_Beauty.json"), ("meta_Beauty.json",)),
    read=read,
    source="they are at https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/ (ratings_Beauty.csv, "
    "2,023,070 ratings, and meta_Beauty.json.gz)",
)

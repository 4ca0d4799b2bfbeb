"""Amazon product data 2014 (McAuley et al., 2015), category Beauty: ratings or reviews, and item texts."""

import ast
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import json as pajson

from seqdistill.data import checks
from seqdistill.data.checks import ID, NUMBER, WHOLE
from seqdistill.data.tables import Layout, Raw, raw_events, with_unlisted
from seqdistill.io import UserError, display_path

REVIEW = {"reviewerID": pa.string(), "asin": pa.string(), "overall": pa.float64(), "unixReviewTime": pa.int64()}
RATING = ("user", "asin", "rating", "time")
PLAIN = ("description", "brand", "price")


def records(path: Path, parse: Callable[[str], object], kind: str) -> Iterator[tuple[int, dict]]:
    """Yield (line number, record) of a file with one record a line.

    Raises:
        UserError: a line is no record, or the archive is damaged.
    """
    number = 0
    try:
        with checks.opened(path) as handle:
            for number, line in enumerate(handle, 1):
                record = parse(line.decode())
                if not isinstance(record, dict):
                    raise ValueError("no mapping of names to values")
                yield number, record
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{display_path(path)}: the gzip archive is damaged or cut off ({error}).") from None
    except (ValueError, SyntaxError) as error:
        raise UserError(
            f"{display_path(path)}, line {number}: not {kind} ({str(error)[:80]}). Nothing was written."
        ) from None


def read_reviews(path: Path) -> pa.Table:
    """Read reviews_Beauty.json.gz: one JSON object a line.

    Raises:
        UserError: a line is no JSON, or lacks a field, or a field is of another kind.
    """
    options = pajson.ParseOptions(pa.schema(REVIEW), unexpected_field_behavior="ignore")
    try:
        table = pajson.read_json(path, pajson.ReadOptions(block_size=1 << 24), options)
    except (pa.ArrowInvalid, OSError) as error:
        for number, record in records(path, json.loads, "JSON"):
            for name, kind in REVIEW.items():
                good = isinstance(record.get(name), str if kind == pa.string() else int | float)
                if not good:
                    what = f"{record.get(name)!r}: a {'text' if kind == pa.string() else 'number'} is expected"
                    raise UserError(f'{display_path(path)}, line {number}, field "{name}": {what}.') from None
        raise UserError(f"{display_path(path)}: {error}.") from None
    for name in REVIEW:
        lacking = table[name].is_null().to_numpy()
        checks.stop_at(display_path(path), name, table[name], lacking, "the field is expected in every line", 1)
    ids = {name: table[name].dictionary_encode() for name in ("reviewerID", "asin")}
    return pa.table([ids["reviewerID"], ids["asin"], table["overall"], table["unixReviewTime"]], names=RATING)


def categories(paths: object) -> str:
    """Write [["Beauty", "Hair Care", "Shampoos"], ...] as "Hair Care|Shampoos": each name once, the root left out."""
    names = [name for path in paths or [] for name in path[1:]]
    return "|".join(dict.fromkeys(names))


def is_paths(paths: object) -> bool:
    """Whether `categories` can write it: nothing, or lists of names."""
    lists = isinstance(paths or [], list) and all(isinstance(path, list) for path in paths or [])
    return lists and all(isinstance(name, str) for path in paths or [] for name in path)


def read_meta(path: Path) -> pd.DataFrame:
    """Read meta_Beauty.json.gz: one Python dict a line (not JSON): asin, title, description, categories, brand, price.

    Raises:
        UserError: a line is no such dict, or an asin is missing or stands there twice.
    """
    rows, seen = [], set()
    for number, record in records(path, ast.literal_eval, "a Python dict"):
        asin = record.get("asin")
        if not isinstance(asin, str) or not asin or asin in seen:
            what = "the id stands here twice" if asin in seen else "an id is expected"
            raise UserError(
                f'{display_path(path)}, line {number}, field "asin": {asin!r}: {what}. Nothing was written.'
            )
        seen.add(asin)
        if not is_paths(record.get("categories")):
            what = f"{str(record['categories'])[:80]!r}: lists of names are expected"
            raise UserError(f'{display_path(path)}, line {number}, field "categories": {what}. Nothing was written.')
        texts = [str(record.get(name, "")) for name in PLAIN]
        rows.append((asin, str(record.get("title", "")), categories(record.get("categories")), *texts))
    if not rows:
        raise UserError(f"{display_path(path)}: the file is empty; expected one Python dict a line.")
    return pd.DataFrame(rows, columns=["item_id", "title", "categories", *PLAIN], dtype="str")


def read(ratings: Path, meta: Path) -> Raw:
    """Read ratings_Beauty.csv (no header: user, asin, rating, unix time) or reviews_Beauty.json.gz, and item texts."""
    where = display_path(ratings)
    if ".json" in ratings.name:
        table = read_reviews(ratings)
    else:
        kinds = dict(zip(RATING, (ID, ID, NUMBER, WHOLE), strict=True))
        table = checks.read_csv(ratings, kinds, names=list(RATING))
    value = checks.within(where, "rating", table["rating"].to_numpy(), 1, 5, 1)
    user, user_ids = checks.coded(table["user"])
    codes, ids = checks.coded(table["asin"])
    items, item, note = with_unlisted(read_meta(meta), pd.Index(ids.to_pandas()), codes)
    events = raw_events(user, item, table["time"].to_numpy().astype(np.int64), value)
    return Raw(events, user_ids.to_pandas().astype("str"), items, True, "beauty", (note,))


LAYOUT = Layout(
    files=(("ratings_Beauty.csv", "reviews_Beauty.json"), ("meta_Beauty.json",)),
    read=read,
    source="they are at https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/ (ratings_Beauty.csv, "
    "2,023,070 ratings, and meta_Beauty.json.gz)",
)

"""Any data set as three CSV files, and a short dataset.yaml where its columns have other names."""

import re
from collections.abc import Callable
from dataclasses import field
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass

from seqdistill.config import STRICT, parse
from seqdistill.data.checks import ID, NUMBER, TEXT, WHOLE, check_dates, header, read_csv, stop_at
from seqdistill.data.tables import DOMAINS, UNLISTED, Dataset, canonical, likely_cause
from seqdistill.io import UserError, display_path

UNITS = {"unix": 1, "milliseconds": 1000, "position": 1}


@dataclass(frozen=True, config=STRICT)
class Users:
    """Columns of users.csv."""

    id: str = "user_id"


@dataclass(frozen=True, config=STRICT)
class Items:
    """Columns of items.csv; the others are kept as texts under their own names.

    separator: between the categories of an item. root: leave out the first category, where it is the same for all.
    texts: names under which the book reads texts (author, brand, description, ...) -> their columns.
    """

    id: str = "item_id"
    title: str = "title"
    categories: str | None = None
    separator: str = "|"
    root: bool = False
    year: str | None = None
    texts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, config=STRICT)
class Interactions:
    """Columns of interactions.csv.

    format: of the column `time`: unix (seconds), milliseconds, position (the order of a user's events, no time), iso,
    or a pattern as in strptime. least, best: bounds of the rating; ratings are scaled so that the best is 5.
    """

    user: str = "user_id"
    item: str = "item_id"
    time: str | None = None
    format: str = "unix"
    rating: str | None = None
    least: float = 0.0
    best: float = 5.0


@dataclass(frozen=True, config=STRICT)
class Settings:
    """Settings that dataset.yaml may hold.

    domain: wording of the prompts. delimiter: of all files. unlisted: share of events whose items items.csv may lack.
    """

    domain: str = "generic"
    delimiter: str = Field(",", pattern=r"^[\t !#-/:-@\[-`{-~]$")
    unlisted: float = Field(0.0, ge=0, le=1)
    users: Users = field(default_factory=Users)
    items: Items = field(default_factory=Items)
    interactions: Interactions = field(default_factory=Interactions)


def settings_of(path: Path) -> Settings:
    """Read dataset.yaml."""
    import yaml

    where = display_path(path)
    try:
        values = yaml.safe_load(path.read_text("utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{where}: not valid YAML ({str(error).splitlines()[0]}).") from None
    if isinstance(values, dict):  # a section without lines is None
        values = {name: value for name, value in values.items() if value is not None}
    settings = parse(Settings, values, where)
    if settings.domain not in DOMAINS:
        raise UserError(f'{where}: "domain" is {settings.domain!r}; there are prompts for {", ".join(DOMAINS)}.')
    return settings


def read_ids(path: Path, column: str, delimiter: str, texts: list[str] | None = None) -> pd.DataFrame:
    """Read a column of distinct ids and, with the names of some texts, all other columns as text."""
    columns = {name: TEXT for name in texts or []} | {column: ID}
    table = read_csv(path, columns, others=texts is not None, multiline=texts is not None, delimiter=delimiter)
    stop_at(display_path(path), table[column], table[column].duplicated(), "the id stands here twice")
    return table.astype("str")


def read_items(path: Path, columns: Items, delimiter: str = ",") -> pd.DataFrame:
    """Read items.csv: item_id, title and the other texts."""
    roles = {"item_id": columns.id, "title": columns.title, "categories": columns.categories, "year": columns.year}
    roles |= columns.texts
    names = {name: role for role, name in roles.items() if name}
    items = read_ids(path, columns.id, delimiter, list(names)).rename(columns=names)
    if "item" in items or not items.columns.is_unique or len(names) < sum(map(bool, roles.values())):
        what = f'every column needs a name of its own, other than "item"; there are {", ".join(items)}'
        raise UserError(f"{display_path(path)}: {what}; rename one there, or in dataset.yaml.")
    if "categories" in items and (columns.separator != "|" or columns.root):
        parts = items["categories"].str.split(columns.separator, regex=False).str[int(columns.root) :]
        items["categories"] = parts.map(lambda cells: "|".join(part.strip() for part in cells)).astype("str")
    return items


def moments_of(where: str, texts: pd.Series, form: str) -> pd.Series:
    """Parse times by "iso" (offset or UTC) or a strptime pattern into unix microseconds; UserError if one fails."""
    texts = texts.astype("category")
    pattern, written = "ISO8601" if form == "iso" else form, texts.cat.categories
    if form != "iso" and not re.search("%[Yy]", form):
        raise UserError(f'{where}: "format" of dataset.yaml is {form!r}: {", ".join(UNITS)}, iso or a pattern with %Y.')
    cells = pd.Series(written, dtype="str")
    cells = cells.where(cells.str.contains(r"\d"))  # pandas would parse words like "now"
    try:
        times = pd.to_datetime(cells, format=pattern, utc=True, errors="coerce")
    except (ValueError, re.error) as error:
        raise UserError(f'{where}: "format" of dataset.yaml is {form!r}, no pattern of times ({error}).') from None
    like = "like 2021-05-11 or 2021-05-11T10:00:00Z" if form == "iso" else f"as {form}"
    stop_at(where, texts, times.isna().to_numpy()[texts.cat.codes], f"a time {like} is expected")
    micros = times.astype("datetime64[us, UTC]").astype("int64").to_numpy()
    return pd.Series(micros[texts.cat.codes], texts.index)


def read(
    users: Path | None, items: Path, interactions: Path, settings: Path | Settings | None = None,
    tidy: Callable[[pd.DataFrame], pd.DataFrame] = lambda catalogue: catalogue,
) -> Dataset:  # fmt: skip
    """Read users.csv (None: all users that occur), items.csv and interactions.csv; tidy: applied to the items."""
    if not isinstance(settings, Settings):
        settings = settings_of(settings) if settings else Settings()
    columns, where, delimiter = settings.interactions, display_path(interactions), settings.delimiter
    user_ids = None if users is None else read_ids(users, settings.users.id, delimiter)[settings.users.id]
    catalogue = tidy(read_items(items, settings.items, delimiter))
    present = header(interactions, [columns.user, columns.item], delimiter)
    time = columns.time or ("position" if "position" in present and "timestamp" not in present else "timestamp")
    form = "position" if not columns.time and time == "position" else columns.format
    rating = columns.rating or ("rating" if "rating" in present else None)
    roles = [columns.user, columns.item, time, *([rating] if rating else [])]
    if twice := next((name for name in roles if roles.count(name) > 1), ""):
        raise UserError(f'{where}: the column "{twice}" stands for two things in dataset.yaml.')
    kinds = {columns.user: ID, columns.item: ID, time: WHOLE if form in UNITS else TEXT}
    kinds |= {rating: NUMBER} if rating else {}
    try:
        table = read_csv(interactions, kinds, optional=[rating], delimiter=delimiter)
    except UserError as error:
        if f'column "{time}"' not in str(error):
            raise
        raise UserError(
            f"{error} `format` in dataset.yaml names iso, milliseconds or a pattern like %d.%m.%Y."
        ) from None
    value = np.nan
    if rating:
        expected = f"a number from {columns.least:g} to {columns.best:g} is expected; dataset.yaml sets least and best"
        beyond = ~table[rating].between(columns.least, columns.best) & table[rating].notna()
        stop_at(where, table[rating], beyond, expected)
        value = table[rating] * 5 / columns.best
    for column, ids, file in ((columns.user, user_ids, users), (columns.item, catalogue["item_id"], items)):
        if ids is not None and not (file == items and settings.unlisted):
            other = catalogue["item_id"] if file == users else user_ids
            swapped = other is not None and table[column].isin(other).mean() > 0.5
            cause = "; are the columns of users and items swapped?" if swapped else ""
            cause = cause or likely_cause(table[column].cat.categories, ids)
            hint = "; `unlisted` in dataset.yaml lets some be missing" if file == items and not cause else ""
            stop_at(where, table[column], ~table[column].isin(ids), f"not in {file.name}{cause}{hint}")
    moments, unit = (table[time], UNITS[form]) if form in UNITS else (moments_of(where, table[time], form), 1_000_000)
    if form != "position":
        check_dates(where, table[time], moments, unit)
    parts = {"user_id": table[columns.user], "item_id": table[columns.item], "time": moments, "value": value}
    unlisted = settings.unlisted or UNLISTED
    return canonical(pd.DataFrame(parts), catalogue, form != "position", settings.domain, user_ids, unit, unlisted)

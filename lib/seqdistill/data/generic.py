"""Any data set as three CSV files, and a short dataset.yaml where its columns have other names."""

import re
from dataclasses import field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass

from seqdistill.config import STRICT, parse
from seqdistill.data.checks import ID, NUMBER, TEXT, WHOLE, check_dates, header, read_csv, stop_at
from seqdistill.data.tables import DOMAINS, Dataset, canonical, whole
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

    domain: Literal[DOMAINS] = "generic"
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
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: not valid YAML ({str(error).splitlines()[0]}).") from None
    if isinstance(values, dict):  # a section without lines is None
        values = {name: value for name, value in values.items() if value is not None}
    return parse(Settings, values, where)


def read_ids(path: Path, column: str, delimiter: str, texts: list[str] | None = None) -> pd.DataFrame:
    """Read a column of distinct ids and, with the names of some texts, all other columns as text."""
    columns = {name: TEXT for name in texts or []} | {column: ID}
    table = read_csv(path, columns, texts=texts is not None, delimiter=delimiter)
    stop_at(display_path(path), table[column], table[column].duplicated(), "the id stands here twice")
    return table.astype("str")


def read_items(path: Path, columns: Items, delimiter: str) -> pd.DataFrame:
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


def datetimes(where: str, texts: pd.Series, form: str) -> pd.Series:
    """Parse times by "iso" (offset or UTC) or a strptime pattern; UserError if one fails."""
    cells = texts.where(texts.str.contains(r"\d"))  # pandas would parse words like "now"
    try:
        if form != "iso" and not re.search("%[Yy]", form):
            raise ValueError("no year")
        times = pd.to_datetime(cells, format="ISO8601" if form == "iso" else form, utc=True, errors="coerce")
    except (ValueError, re.error) as error:
        forms = ", ".join([*UNITS, "iso or a pattern with %Y"])
        raise UserError(f'{where}: "format" of dataset.yaml is {form!r}, not {forms} ({error}).') from None
    like = "like 2021-05-11 or 2021-05-11T10:00:00Z" if form == "iso" else f"as {form}"
    stop_at(where, texts, times.isna(), f"a time {like} is expected")
    return times


def read(users: Path | None, items: Path, interactions: Path, settings: Path | Settings | None = None) -> Dataset:
    """Read users.csv (None: all users that occur), items.csv and interactions.csv."""
    if not isinstance(settings, Settings):
        settings = settings_of(settings) if settings else Settings()
    columns, where, delimiter = settings.interactions, display_path(interactions), settings.delimiter
    user_ids = None if users is None else read_ids(users, settings.users.id, delimiter)[settings.users.id]
    catalogue = read_items(items, settings.items, delimiter)
    present = header(interactions, [columns.user, columns.item], delimiter)
    time = columns.time or ("position" if "position" in present and "timestamp" not in present else "timestamp")
    form = "position" if not columns.time and time == "position" else columns.format
    rating = columns.rating or ("rating" if "rating" in present else None)
    kinds = {columns.user: ID, columns.item: ID, time: WHOLE if form in UNITS else TEXT}
    kinds |= {rating: NUMBER} if rating else {}
    if len(kinds) < 3 + bool(rating):
        raise UserError(f"{where}: dataset.yaml lets one column of {', '.join(kinds)} stand for two things.")
    table = read_csv(interactions, kinds, delimiter=delimiter)
    user, item, value = table[columns.user], table[columns.item], np.nan
    if rating:
        expected = f"a number from {columns.least:g} to {columns.best:g} is expected; dataset.yaml sets least and best"
        stop_at(where, table[rating], (table[rating] < columns.least) | (table[rating] > columns.best), expected)
        value = table[rating] * 5 / columns.best
    if user_ids is not None:
        expected = f"not in {users.name}, which begins with {', '.join(user_ids[:3])}"
        stop_at(where, user, ~user.isin(user_ids), expected)
    if not settings.unlisted:
        listed = f"which begins with {', '.join(catalogue['item_id'][:3])}"
        expected = f"not in {items.name}, {listed}; `unlisted` in dataset.yaml lets some be missing"
        stop_at(where, item, ~item.isin(catalogue["item_id"]), expected)
    moments, unit = (table[time], UNITS[form]) if form in UNITS else whole(datetimes(where, table[time], form))
    if form != "position":
        check_dates(where, table[time], moments, unit)
    events = pd.DataFrame({"user_id": user, "item_id": item, "time": moments, "value": value})
    return canonical(events, catalogue, form != "position", settings.domain, user_ids, unit, settings.unlisted)

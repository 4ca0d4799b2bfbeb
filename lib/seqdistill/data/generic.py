"""Any data set as three CSV files, and a short dataset.yaml where its columns have other names."""

from dataclasses import field, fields
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from pydantic.dataclasses import dataclass

from seqdistill.config import STRICT, parse
from seqdistill.data import checks
from seqdistill.data.checks import EARLIEST, ID, LATEST, MOMENT, NUMBER, TEXT, WHOLE
from seqdistill.data.tables import DOMAINS, Layout, Raw, raw_events
from seqdistill.io import UserError, display_path

FILES = (("users.csv",), ("items.csv",), ("interactions.csv",))
UNITS = {"unix": 1, "milliseconds": 1000, "position": 1}


@dataclass(frozen=True, config=STRICT)
class Users:
    """Columns of users.csv."""

    id: str = "user_id"


@dataclass(frozen=True, config=STRICT)
class Items:
    """Columns of items.csv; the others are kept as texts under their own names.

    separator: what stands between the categories of an item. root: leave out the first category, where it is the
    same for all.
    """

    id: str = "item_id"
    title: str = "title"
    categories: str | None = None
    separator: str = "|"
    root: bool = False
    year: str | None = None


@dataclass(frozen=True, config=STRICT)
class Interactions:
    """Columns of interactions.csv.

    format: of the column `time`: unix (seconds), milliseconds, position (the order of a user's events, no time), iso,
    or a pattern as in strptime. best: the highest rating; ratings are brought to 0..5.
    """

    user: str = "user_id"
    item: str = "item_id"
    time: str | None = None
    format: str = "unix"
    rating: str | None = None
    best: float = 5.0


@dataclass(frozen=True, config=STRICT)
class Settings:
    """What dataset.yaml may say; `domain` chooses the wording of the prompts."""

    domain: str = "generic"
    users: Users = field(default_factory=Users)
    items: Items = field(default_factory=Items)
    interactions: Interactions = field(default_factory=Interactions)


def settings_of(path: Path | None) -> Settings:
    """Read dataset.yaml; without one everything has its usual name.

    Raises:
        UserError: it is no YAML, or a setting is unknown or wrong.
    """
    if path is None:
        return Settings()
    try:
        values = yaml.safe_load(path.read_text("utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{display_path(path)}: not valid YAML ({str(error).splitlines()[0]}).") from None
    if not isinstance(values, dict):
        raise UserError(f"{display_path(path)}: expected {', '.join(part.name for part in fields(Settings))}.")
    if odd := [name for name in ("users", "items", "interactions") if not isinstance(values.get(name) or {}, dict)]:
        raise UserError(
            f'{display_path(path)}: "{odd[0]}" is {values[odd[0]]!r}; expected names of columns, like {{id: name}}.'
        )
    parsed = {}
    for name, kind in {"users": Users, "items": Items, "interactions": Interactions}.items():
        if name in values:
            parsed[name] = parse(kind, values[name] or {}, f"{display_path(path)}, {name}")
    settings = parse(Settings, {**values, **parsed}, display_path(path))
    if settings.domain not in DOMAINS:
        raise UserError(
            f'{display_path(path)}: "domain" is {settings.domain!r}; there are prompts for {", ".join(DOMAINS)}.'
        )
    return settings


def read_items(path: Path, names: Items) -> tuple[pd.DataFrame, object]:
    """Read items.csv: the item table with item_id, title and the other texts, and the ids."""
    wanted = {names.id: ID, names.title: TEXT} | {name: TEXT for name in (names.categories, names.year) if name}
    table = checks.read_csv(path, wanted, others=True, multiline=True)
    ids = checks.distinct(display_path(path), names.id, table[names.id])
    pairs = [(names.id, "item_id"), (names.title, "title"), (names.categories, "categories"), (names.year, "year")]
    canonical = {name: to for name, to in pairs if name}
    columns = [canonical.get(name, name) for name in table.column_names]
    twice = [name for name in columns if columns.count(name) > 1 or name == "item"]
    if twice or len(canonical) < sum(1 for name, _ in pairs if name):
        what = f'two columns would be called "{twice[0]}"' if twice else "one column cannot be two things"
        raise UserError(f"{display_path(path)}: {what}; rename one there, or in dataset.yaml.")
    items = table.rename_columns(columns).to_pandas().astype("str")
    if "categories" in items and (names.separator != "|" or names.root):
        parts = items["categories"].str.split(names.separator, regex=False).str[int(names.root) :]
        items["categories"] = parts.map(lambda cells: "|".join(part.strip() for part in cells)).astype("str")
    return items, ids


def times(path: Path, table: object, column: str, form: str) -> np.ndarray:
    """Bring a column of times to whole seconds (a position stays what it is).

    Raises:
        UserError: a time is not between 1900 and 2100: it is in another unit than `format` says.
    """
    found = table[column].cast("int64").to_numpy() // UNITS.get(form, 1)
    if form != "position":
        odd = (found < EARLIEST) | (found > LATEST)
        what = "a time between 1900 and 2100 is expected; does `format` name the right unit?"
        checks.stop_at(display_path(path), column, table[column], odd, what)
    return found


def read(users: Path, items: Path, interactions: Path, settings: Path | Settings | None = None) -> Raw:
    """Read users.csv, items.csv and interactions.csv.

    Raises:
        UserError: a file, column or row is not as expected.
    """
    given = settings if isinstance(settings, Settings) else settings_of(settings)
    named, where = given.interactions, display_path(interactions)
    user_table = checks.read_csv(users, {given.users.id: ID})
    user_ids = checks.distinct(display_path(users), given.users.id, user_table[given.users.id])
    item_table, item_ids = read_items(items, given.items)
    present = checks.header(interactions, [named.user, named.item])
    time, form = named.time, named.format
    if time is None:
        time = next((name for name in ("timestamp", "position") if name in present), None)
        form = "position" if time == "position" else form
    if time is None:
        raise UserError(f'{where}: no column "timestamp" or "position"; one of them must give the order of events.')
    rating = named.rating or ("rating" if "rating" in present else None)
    kinds = {named.user: ID, named.item: ID, time: WHOLE if form in UNITS else MOMENT}
    kinds |= {rating: NUMBER} if rating else {}
    pattern = None if form in UNITS or form == "iso" else form
    table = checks.read_csv(interactions, kinds, time_format=pattern)
    value = None
    if rating:
        value = checks.within(where, rating, table[rating].to_numpy(), 0, named.best) * (5.0 / named.best)
    events = raw_events(
        checks.codes_in(where, named.user, table[named.user], user_ids, users.name),
        checks.codes_in(where, named.item, table[named.item], item_ids, items.name),
        times(interactions, table, time, form),
        value,
    )
    return Raw(events, user_ids.to_pandas().astype("str"), item_table, form != "position", given.domain)


LAYOUT = Layout(
    files=FILES,
    optional="dataset.yaml",
    read=read,
    source='README.md, section "Your own data", describes the three files',
)

"""What the CSV files of a folder hold, guessed from names of columns and from cells, in the words of dataset.yaml."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import islice, product
from pathlib import Path

import pandas as pd
from seqdistill.data.checks import ID, NUMBER, TEXT, opened, read_csv, rows
from seqdistill.data.tables import UNLISTED
from seqdistill.io import UserError, display_path

LIKE = {  # what the name of a column says about it
    "user": r"user|customer|client|member|reader|visitor|session|account|buyer|reviewer|kunde|nutzer",
    "item": r"item|product|book|movie|film|article|sku|asin|isbn|track|song|video|game|artikel|buch",
    "time": r"time|date|^at$|_at$|^ts$|^when$|zeit|datum",
    "position": r"^pos|order|^step|^seq|^rank|^index$",
    "rating": r"rating|^rated|stars|score|grade|^value$",
    "title": r"title|name|titel",
    "categories": r"categor|genre|shelf|tags?$|kategorie",
    "year": r"year|released|printed|jahr",
}
TEXTS = {  # the same of other texts, under the name that the book reads
    "author": r"author|autor|writer|artist|künstler",
    "brand": r"brand|marke|hersteller|manufacturer|maker|publisher|verlag|label",
    "description": r"descri|beschreib|klappentext|blurb|summary|synopsis",
}
DOMAINS = {"movies": r"movie|film", "beauty": r"beauty|cosmetic", "e-commerce": r"product|shop|sku|asin"}
DAYS, CLOCKS = ("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%Y%m%d"), ("", " %H:%M", " %H:%M:%S")
SAMPLE, MOST = 20_000, 0.9  # rows that are looked at; share of a column's cells that must be what the column is


def like(role: str, names: list[str]) -> list[str]:
    """Those names that say they play a role, ids first."""
    named = [name for name in names if re.search(LIKE[role], name, re.I)]
    return sorted(named, key=lambda name: "id" not in name.lower())


@dataclass(frozen=True)
class Found:
    """Which file is which (there may be no users), what dataset.yaml says, and the delimiter of each file.

    unordered: the order of the rows must stand for a time. faults: why some files could not be read.
    """

    files: dict[str, Path]
    settings: dict
    delimiters: dict[Path, str]
    unordered: bool
    faults: dict[Path, UserError] = field(default_factory=dict)


def head(path: Path, delimiter: str = "") -> tuple[str, list[str]]:
    """Delimiter of a file, the given one if its first row has that, and the names of its columns."""
    with opened(path) as handle:
        first = handle.readline().decode("utf-8", "replace")
        delimiter = delimiter if delimiter and delimiter in first else max(",;\t|", key=first.count)
        handle.seek(0)
        return delimiter, next(rows(handle, delimiter), [])


def tried(read: Callable[[Path], object], paths: list[Path], faults: dict[Path, UserError]) -> dict:
    """Read files; why one cannot be read is put into `faults`."""
    found = {}
    for path in paths:
        try:
            found[path] = read(path)
        except UserError as error:
            faults[path] = error
    return found


def look(path: Path) -> tuple[str, pd.DataFrame]:
    """Delimiter and first rows of a file."""
    where, (delimiter, names) = display_path(path), head(path)
    with opened(path) as handle:
        cells = [*islice(rows(handle, delimiter), 1, SAMPLE + 1)]
    if not cells or any(re.fullmatch(r"[\d\s.,:+-]+", name) for name in names):
        raise UserError(f"{where}, row 1: names of columns, and rows below them, are expected; found {names!r:.100}.")
    for row, values in enumerate(cells, 2):
        if len(values) != len(names):
            expected = f"{len(names)} cells are expected, as in row 1, separated by {delimiter!r}"
            raise UserError(f"{where}, row {row}: {len(values)} cells; {expected}.")
    return delimiter, pd.DataFrame(cells, columns=names)


def spread(cells: pd.Series, most: int) -> pd.Series:
    """At most about so many cells, from all over a column."""
    return cells.iloc[:: max(1, len(cells) // most)]


def time_format(cells: pd.Series, column: Callable[[], pd.Series]) -> str:
    """Format of times as dataset.yaml names it, "position" for other whole numbers, "" where cells are neither.

    `column` reads the whole column, which is looked at where the first cells fit two formats (01/02/2024).
    """
    cells = spread(cells, 1000)
    numbers = pd.to_numeric(cells, errors="coerce")
    for form, low, high in (("unix", 6e8, 4.1e9), ("milliseconds", 6e11, 4.1e12)):
        if numbers.between(low, high).mean() >= MOST:
            return form
    shares = {"iso": cells.str.match(r"\d{4}-\d\d-\d\d").mean()}
    days = [day + clock for day, clock in product(DAYS, CLOCKS)]
    shares |= {form: pd.to_datetime(cells, format=form, errors="coerce").notna().mean() for form in days}
    best = max(shares, key=shares.__getitem__)
    if shares[best] >= MOST and len(tied := [form for form in days if shares[form] == shares[best]]) > 1:
        cells = spread(column(), SAMPLE)
        best = max(tied, key=lambda form: pd.to_datetime(cells, format=form, errors="coerce").notna().mean())
    return best if shares[best] >= MOST else "position" if (numbers % 1 == 0).mean() >= MOST else ""


def linked(events: pd.DataFrame, tables: dict[Path, pd.DataFrame]) -> tuple[Path, str, str]:
    """Find the list of items: its file, the column of its ids, and the column of the events that holds them."""
    found = {}
    for path, table in tables.items():
        kind = len(like("item", [path.name])) - len(like("user", [path.name]))
        if kind < 0:  # a list of users, whose ids may be the same numbers
            continue
        for own, name in product(table, events):
            known = bool(own and name and table[own].is_unique) and events[name].isin(table[own]).mean()
            if known > 0 and not like("user", [own]):
                named = len(like("item", [name])) - len(like("user", [name])) + len(like("title", [*table])) / 2 + kind
                found[path, own, name] = known + table[own].isin(events[name]).mean() + named + (own == name) / 2
    if not found:
        files = ", ".join(display_path(path) for path in tables) or "no other file"
        raise UserError(f"no column of the interactions holds ids that a column of {files} lists, each once.")
    return max(found, key=found.__getitem__)


def items_of(table: pd.DataFrame, own: str) -> dict:
    """What dataset.yaml says of the list of items."""
    rest = [name for name in table if name not in ("", own)]
    texts = like("title", rest) or sorted(
        rest, key=lambda name: (table[name].str.isdecimal().mean(), -table[name].nunique())
    )
    if not texts:
        raise UserError(f'items: beside the ids ("{own}") a column of titles is expected; there is none.')
    found, rest = {"id": own, "title": texts[0]}, [name for name in rest if name != texts[0]]
    for name in like("categories", rest)[:1]:
        shares = {mark: table[name].str.contains(mark, regex=False).mean() for mark in (" > ", "|", ";", ",", "/")}
        mark = next((mark for mark, share in shares.items() if share >= 0.1), "|")
        parts = table[name].str.split(mark, regex=False)
        if parts.explode().nunique() <= parts.str.len().sum() / 2:  # categories are shared, sentences are not
            roots = parts.str[0].nunique()
            found |= {"categories": name, "separator": mark} | ({"root": True} if roots == 1 and mark == " > " else {})
    years = [name for name in like("year", rest) if table[name].str.fullmatch(r"(\d{4})?").mean() >= MOST]
    rest = [name for name in rest if name not in (*found.values(), *years[:1])]
    likely = {text: next((name for name in rest if re.search(TEXTS[text], name, re.I)), "") for text in TEXTS}
    texts = {text: name for text, name in likely.items() if name and text not in table}
    return found | ({"year": years[0]} if years else {}) | ({"texts": texts} if texts else {})


def events_of(path: Path, delimiter: str, events: pd.DataFrame, item: str) -> dict:
    """What dataset.yaml says of the interactions; where they have no time, "position" is their order."""
    where, rest = display_path(path), [name for name in events if name not in ("", item)]

    def whole(name: str) -> pd.Series:
        return read_csv(path, {name: TEXT}, delimiter=delimiter)[name].astype("str")

    forms = {name: time_format(events[name], partial(whole, name)) for name in rest}
    others = [name for name in rest if forms[name] in ("", "position") and not events[name].is_unique]
    others = [name for name in others if not like("rating", [name])]
    users = like("user", rest) or sorted(others, key=lambda name: -events[name].nunique())
    if not users:
        raise UserError(f'{where}: no column of users beside "{item}"; found {", ".join(events)}.')
    found, rest = {"user": users[0], "item": item}, [name for name in rest if name != users[0]]
    times = [name for name in [*like("time", rest), *rest] if forms[name] not in ("", "position")]
    times += [name for name in [*like("time", rest), *like("position", rest)] if forms[name] == "position"]
    if not times and (named := like("time", rest)):
        what = "a time is expected: unix seconds or milliseconds, 2024-05-31, 2024-05-31T10:00:00Z, 31.05.2024"
        raise UserError(f'{where}, row 2, column "{named[0]}": {events[named[0]][0]!r}: {what}.')
    found |= {"time": times[0], "format": forms[times[0]]} if times else {"time": "position", "format": "position"}
    for name in like("rating", [name for name in rest if name not in times[:1]]):
        if pd.to_numeric(events[name].replace("", "0"), errors="coerce").notna().mean() >= MOST:
            low, high = read_csv(path, {name: NUMBER}, delimiter=delimiter)[name].agg(["min", "max"])
            best = next((best for best in (5, 10, 100) if high <= best), None)
            return found | ({"rating": name, "least": min(0.0, low), "best": float(best)} if best else {})
    return found


def guess(name: str, paths: list[Path]) -> Found:
    """Guess which file is which, and what dataset.yaml says; `name` of the data set may help.

    A file that cannot be read is left out, unless its name and columns say that it is needed.
    """
    faults, names = {}, {path: [] for path in paths}

    def both(path: Path) -> tuple[int, int]:
        return sum(bool(like(role, names[path])) for role in ("user", "item")), path.stat().st_size

    def needed(path: Path) -> bool:
        items = like("item", [*names[path], path.name]) and like("title", names[path]) and not like("user", names[path])
        return ".txt" not in path.name.lower() and bool(items or both(events)[0] < 2 or both(path) > both(events))

    names |= {path: of for path, (_, of) in tried(head, paths, {}).items()}
    if not (seen := tried(look, paths, faults)):
        raise UserError(" ".join(map(str, faults.values())))
    events, marks = max(seen, key=both), {path: mark for path, (mark, _) in seen.items()}
    others = [path for path in seen if path != events]
    lists = tried(lambda path: read_csv(path, {}, texts=True, delimiter=marks[path]), others, faults)
    for path in filter(needed, faults):
        raise faults[path]
    try:
        files, said = roles(name, events, *seen[events], lists)
    except UserError as error:
        raise UserError(" ".join(map(str, [error, *faults.values()]))) from None
    return Found(files, said, marks, said["interactions"]["time"] not in seen[events][1], faults)


def roles(
    name: str, events: Path, delimiter: str, first: pd.DataFrame, lists: dict[Path, pd.DataFrame]
) -> tuple[dict[str, Path], dict]:
    """Guess what the columns of the interactions are, which of the lists are the items and the users."""
    items, own, item = linked(first, lists)
    said = {"items": items_of(lists[items], own), "interactions": events_of(events, delimiter, first, item)}
    user = said["interactions"]["user"]
    ids = read_csv(events, {user: ID, item: ID}, delimiter=delimiter)
    users = {
        path: column for path, table in lists.items() for column in table
        if path != items and (column == user or like("user", [column, path.name]))
        and table[column].is_unique and ids[user].cat.categories.isin(table[column]).all()
    }  # fmt: skip
    missing = 1 - ids[item].isin(lists[items][own]).mean()
    words = " ".join([name, events.name, *(path.name for path in lists), *first, *lists[items]])
    domain = next((domain for domain, words_of in DOMAINS.items() if re.search(words_of, words, re.I)), "generic")
    said |= {"users": {"id": next(iter(users.values()), user)}, "domain": domain, "delimiter": delimiter}
    said["unlisted"] = round(float(missing) + 0.005, 2) if 0 < missing <= UNLISTED else 0.0
    files = {"interactions": events, "items": items} | ({"users": next(iter(users))} if users else {})
    return files, said

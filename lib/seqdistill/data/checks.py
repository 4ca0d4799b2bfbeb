"""Validation at the door of a file: whole, UTF-8, a header, rows of one length, ids, numbers and times."""

import csv
import gzip
import io
import math
import re
import zlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv as pacsv

from seqdistill.io import UserError, display_path

ID, TEXT, WHOLE, NUMBER = pa.dictionary(pa.int32(), pa.string()), pa.string(), pa.int64(), pa.float64()
MOMENT = pa.timestamp("s")
EXPECTED = {ID: "an id is expected", WHOLE: "a whole number is expected", NUMBER: "a number is expected"}
DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error)
EARLIEST, LATEST = -2_208_988_800, 4_102_444_800  # 1900 and 2100 in unix seconds


def opened(path: Path) -> io.BufferedIOBase:
    """Open a file for reading bytes, unpacked if its name ends in .gz."""
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def damaged(path: Path, error: Exception) -> UserError:
    """Make the error of an archive that cannot be unpacked."""
    return UserError(f"{display_path(path)}: the gzip archive is damaged or cut off ({error}).")


def stop_at(where: str, column: str, values: pd.Series | np.ndarray, bad: np.ndarray, expected: str, first: int = 2):
    """Raise a UserError that names the first row of a column where `bad` is True; cell 0 is in row `first`."""
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        cell, such = str(values[row])[:80], f"({int(bad.sum()):,} such rows; this is the first)"
        raise UserError(f'{where}, row {row + first}, column "{column}": {cell!r}: {expected} {such}.')


def rows(path: Path) -> Iterator[list[str]]:
    """Yield the rows of a CSV, the header first; any byte that is not UTF-8, open quote or cut archive is an error."""
    where, number = display_path(path), 0
    try:
        with opened(path) as handle:
            text = io.TextIOWrapper(handle, "utf-8-sig", "surrogateescape", newline="")
            for number, cells in enumerate(csv.reader(text, strict=True), 1):
                if foreign := re.search("[\udc80-\udcff]", "".join(cells)):
                    byte = f"byte 0x{ord(foreign[0]) - 0xDC00:02x}"
                    raise UserError(f"{where}, row {number}: {byte} is not UTF-8; save the file as UTF-8.")
                yield cells
    except DAMAGED as error:
        raise damaged(path, error) from None
    except csv.Error as error:
        what = "not a CSV; is a quotation mark not closed?" if number else "the first row is no header"
        raise UserError(f"{where}: {what} ({error}).") from None


def header(path: Path, wanted: list[str]) -> list[str]:
    """Read the names of a CSV's columns, all of `wanted` among them and none twice."""
    where, what = display_path(path), ", ".join(wanted)
    names = next(rows(path), [])
    if not "".join(names).strip():
        raise UserError(f"{where}: the file is empty or begins with an empty row; expected the columns {what}.")
    if missing := [name for name in wanted if name not in names]:
        other, hint = [mark for mark in ";\t|" if len(names) == 1 and mark in names[0]], ""
        if other:
            hint = f"; the fields seem to be separated by {other[0]!r}, a comma is expected"
        elif len(names) > 1 and len(missing) == len(wanted):
            hint = "; is the header missing?"
        found = ", ".join(map(repr, names[:8]))
        raise UserError(f'{where}: no column "{missing[0]}" (expected {what}; found {found}{hint}).')
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f'{where}, row 1: the column "{twice[0]}" stands here twice.')
    return names


def odd_quotes(path: Path) -> bool:
    """Say whether a file holds an odd number of quotation marks: Arrow takes one left open for all the rest."""
    with opened(path) as handle:
        return sum(block.count(b'"') for block in iter(lambda: handle.read(1 << 20), b"")) % 2 == 1


def valid(cell: str, kind: pa.DataType, time_format: str | None) -> bool:
    """Say whether a cell is of a kind."""
    try:
        if kind == MOMENT:
            return bool(datetime.strptime(cell, time_format) if time_format else datetime.fromisoformat(cell))
        if kind == NUMBER:
            return math.isfinite(float(cell))
        if kind == WHOLE:
            return bool(re.fullmatch("[+-]?[0-9]{1,18}", cell))
        return kind == TEXT or bool(cell.strip())
    except ValueError:
        return False


def explain(path: Path, columns: dict[str, pa.DataType], names: list[str] | None, time_format: str | None) -> None:
    """Read a file that is not as expected row by row, and raise a UserError that names the first bad row, if any."""
    found, problems = names, {}
    for row, cells in enumerate(rows(path), 1):
        if found is None:
            found = cells
        elif len(cells) != len(found):
            problems.setdefault("", [row, f": {len(cells)} fields; {len(found)} are expected", 0])[2] += 1
        else:
            for column, kind in columns.items():
                if not valid(cell := cells[found.index(column)], kind, time_format):
                    expected = EXPECTED.get(kind, f"a time like {time_format or '2021-05-11'} is expected")
                    message = f', column "{column}": {cell[:80]!r}: {expected}'
                    problems.setdefault(column, [row, message, 0])[2] += 1
    for row, message, count in problems.values():
        raise UserError(f"{display_path(path)}, row {row}{message} ({count:,} such rows; this is the first).")


def read_csv(
    path: Path, columns: dict[str, pa.DataType], names: list[str] | None = None, others: bool = False,
    multiline: bool = False, time_format: str | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Read a CSV (or .csv.gz) and check that it is whole and that every cell is of its column's kind.

    Args:
        path: the file.
        columns: what to read: name -> ID (becomes categorical), TEXT, WHOLE, NUMBER or MOMENT.
        names: all column names, for a file without a header.
        others: read the columns that are not named, too, as TEXT.
        multiline: quoted fields may hold line breaks.
        time_format: of MOMENT, as in strptime; ISO 8601 without.
    """
    found = names or header(path, list(columns))
    kinds = columns | {name: TEXT for name in found if others and name not in columns}
    parse = pacsv.ParseOptions(newlines_in_values=multiline, ignore_empty_lines=False)
    convert = pacsv.ConvertOptions(
        column_types=kinds,
        include_columns=list(kinds),
        null_values=[],
        timestamp_parsers=[time_format or pacsv.ISO8601],
    )
    try:
        table = pacsv.read_csv(path, pacsv.ReadOptions(column_names=names), parse, convert)
    except (pa.ArrowInvalid, OSError) as error:
        explain(path, columns, names, time_format)
        raise UserError(f"{display_path(path)}: {error}.") from None
    frame = table.to_pandas(split_blocks=True, self_destruct=True)
    blank = any((frame[name].cat.categories.str.strip() == "").any() for name in columns if columns[name] == ID)
    endless = any(not np.isfinite(frame[name]).all() for name in columns if columns[name] == NUMBER)
    if blank or endless or (multiline and odd_quotes(path)):
        explain(path, columns, names, time_format)
    if frame.empty:
        raise UserError(f"{display_path(path)}: no rows{'' if names else ' below the header'}.")
    return frame


def places(ids: pd.Series, known: pd.Series) -> np.ndarray:
    """Place of each (categorical) id among distinct known ones, int32; -1 where it is not one of them."""
    return pd.Index(known).get_indexer(ids.cat.categories).astype(np.int32)[ids.cat.codes]


def within(where: str, values: pd.Series, low: float, high: float, first: int = 2) -> pd.Series:
    """Return a column of numbers, all of which must lie between two bounds."""
    expected = f"a number from {low:g} to {high:g} is expected"
    stop_at(where, values.name, values, ~values.between(low, high), expected, first)
    return values

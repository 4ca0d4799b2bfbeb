"""Validation at the door of a file: whole, UTF-8, a header, rows of one length, ids, numbers and times."""

import csv
import gzip
import io
import re
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv as pacsv

from seqdistill.io import UserError, display_path

ID, TEXT, WHOLE, NUMBER = pa.dictionary(pa.int32(), pa.string()), pa.string(), pa.int64(), pa.float64()
EXPECTED = {
    ID: "an id in UTF-8 is expected",
    TEXT: "text in UTF-8 is expected",
    WHOLE: "a whole number is expected (own data: `format` in dataset.yaml names other times, iso or %d.%m.%Y)",
    NUMBER: "a number is expected",
}
EARLIEST, LATEST = -2_208_988_800, 4_102_444_800  # 1900 and 2100 in unix seconds


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedIOBase]:
    """Open a file for reading bytes, unpacked if its name ends in .gz; UserError if it cannot be read or parsed."""
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as handle:
            yield handle
    except (OSError, EOFError, ValueError, zlib.error, csv.Error) as error:
        raise UserError(f"{display_path(path)}: cannot be read ({error}).") from None


def stop_at(where: str, values: pd.Series, bad: np.ndarray | pd.Series, expected: str, first: int = 2) -> None:
    """Raise a UserError for the first row of a column where `bad` is True; rows are numbered from `first`."""
    if (bad := np.asarray(bad, dtype=bool)).any():
        row, such = int(bad.argmax()), f"({int(bad.sum()):,} such rows; this is the first)"
        cell = str(values.iloc[row])[:80]
        raise UserError(f'{where}, row {row + first}, column "{values.name}": {cell!r}: {expected} {such}.')


def rows(handle: io.BufferedIOBase, delimiter: str) -> Iterator[list[str]]:
    """Yield the rows of a CSV; a quotation mark that is left open is an error."""
    return csv.reader(io.TextIOWrapper(handle, "utf-8-sig", "replace", newline=""), delimiter=delimiter, strict=True)


def check_dates(where: str, times: pd.Series, moments: pd.Series, unit: int, first: int = 2) -> None:
    """Refuse times outside 1900 to 2100, as when milliseconds are read as seconds; `unit`: moments per second."""
    expected = "a time between 1900 and 2100 is expected; is the unit right?"
    stop_at(where, times, ~(moments // unit).between(EARLIEST, LATEST), expected, first)


def header(path: Path, wanted: list[str], delimiter: str = ",") -> list[str]:
    """Read a CSV's column names; UserError if one of `wanted` is missing or a name occurs twice."""
    with opened(path) as handle:
        names = next(rows(handle, delimiter), [])
    if missing := [name for name in wanted if name not in names]:
        expected = f"expected {', '.join(wanted)} in UTF-8, separated by {delimiter!r}"
        found = str(names)[1:-1][:200] or "nothing, the file is empty"
        own = "For your own data, dataset.yaml names other columns and another delimiter."
        raise UserError(f'{display_path(path)}: no column "{missing[0]}" ({expected}; found {found}). {own}')
    if any("\ufffd" in name for name in names):
        raise UserError(f"{display_path(path)}, row 1: a name is not UTF-8; save the file as UTF-8.")
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f'{display_path(path)}, row 1: the column "{twice[0]}" stands here twice.')
    return names


def check_quotes(path: Path, delimiter: str) -> None:
    """Raise a UserError if a quotation mark is left open: Arrow reads all that follows it as one cell."""
    with opened(path) as handle:
        quotes = sum(block.count(b'"') for block in iter(lambda: handle.read(1 << 20), b""))
    if quotes % 2:
        with opened(path) as handle:
            try:
                deque(rows(handle, delimiter), maxlen=0)
            except csv.Error:
                raise UserError(f"{display_path(path)}: a quotation mark is not closed.") from None


def explained(error: Exception, where: str, names: list[str], kinds: dict[str, pa.DataType]) -> UserError:
    """Turn Arrow's error, which gives column number and row, into one with the column's name and the expected kind."""
    pattern = r"In CSV column #(\d+): Row #(\d+): [^:]*: (?:invalid value )?(.*)"
    if not (parts := re.match(pattern, str(error), re.DOTALL)):
        return UserError(f"{where}: cannot be read ({error}).")
    name = names[int(parts[1])]
    return UserError(f'{where}, row {parts[2]}, column "{name}": {parts[3]:.100}: {EXPECTED[kinds[name]]}.')


def read_csv(
    path: Path, columns: dict[str, pa.DataType], names: list[str] | None = None, texts: bool = False,
    delimiter: str = ",",
) -> pd.DataFrame:  # fmt: skip
    """Read a CSV (or .csv.gz) and check that it is whole and that every cell is of its column's kind.

    columns: what to read, name -> ID (becomes categorical), TEXT, WHOLE or NUMBER (NaN where a cell is empty). names:
    all column names, for a file without a header. texts: read all other columns, too, as TEXT; quoted cells may then
    hold line breaks.
    """
    where, first = display_path(path), 1 if names else 2
    found = names or header(path, list(columns), delimiter)
    kinds = columns | {name: TEXT for name in found if texts and name not in columns}
    parse = pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=texts, ignore_empty_lines=False)

    def table(kinds: dict[str, pa.DataType], threads: bool) -> pa.Table:
        convert = pacsv.ConvertOptions(column_types=kinds, include_columns=[*kinds], null_values=[""])
        read = pacsv.ReadOptions(column_names=names, use_threads=threads)
        with pa.input_stream(str(path), "gzip" if path.suffix.lower() == ".gz" else None) as handle:
            return pacsv.read_csv(handle, read, parse, convert)

    try:
        cells = table(kinds, threads=True)
    except (pa.ArrowInvalid, OSError):
        softer = {name: NUMBER if kind == WHOLE else kind for name, kind in kinds.items()}  # 1600000000.0 is whole, too
        try:  # only with one thread does Arrow give the row of an error
            cells = table(softer, threads=False)
        except (pa.ArrowInvalid, OSError) as error:
            raise explained(error, where, found, kinds) from None
    frame = cells.to_pandas(split_blocks=True, self_destruct=True)
    if texts:
        check_quotes(path, delimiter)
    for name, kind in columns.items():
        cells, expected = frame[name], EXPECTED[kind]
        if kind == ID:
            stop_at(where, cells, cells.str.fullmatch(r"\s*"), expected, first)
        elif kind == NUMBER:
            stop_at(where, cells, np.isinf(cells), expected, first)
        elif kind == WHOLE and cells.dtype != np.int64:
            stop_at(where, cells, ~(cells % 1 == 0) | (cells.abs() >= 2**53), expected, first)
            frame[name] = cells.astype("int64")
    if frame.empty:
        raise UserError(f"{where}: no rows.")
    return frame

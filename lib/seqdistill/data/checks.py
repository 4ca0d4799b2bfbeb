"""What is checked at the door of a file: that it is whole, its encoding, header, rows, ids, numbers, times."""

import csv
import gzip
import io
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as pacsv

from seqdistill.io import UserError, display_path

ID = pa.dictionary(pa.int32(), pa.string())
TEXT = pa.string()
WHOLE = pa.int64()
NUMBER = pa.float64()
MOMENT = pa.timestamp("s")
EARLIEST, LATEST = -2_208_988_800, 4_102_444_800  # 1900 and 2100 in unix seconds
Columns = dict[str, pa.DataType]


def opened(path: Path) -> io.BufferedIOBase:
    """Open a file for reading bytes, unpacked if its name ends in .gz."""
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def stop_at(where: str, column: str, values: object, bad: np.ndarray, expected: str, first: int = 2) -> None:
    """Raise a UserError that names the first bad row, if there is one.

    Args:
        where: name of the file.
        column: name of the column.
        values: its cells.
        bad: True where a cell is not as expected.
        expected: what was.
        first: number of the row that holds cell 0 (the header is row 1).
    """
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        cell = values[row].as_py() if isinstance(values, pa.Array | pa.ChunkedArray) else values[row]
        raise UserError(
            f'{where}, row {row + first}, column "{column}": {str(cell)[:80]!r}: {expected} '
            f"({int(bad.sum()):,} such rows; this is the first). Nothing was written."
        )


def header(path: Path, wanted: list[str]) -> list[str]:
    """Read the first row of a CSV: the names of its columns.

    Raises:
        UserError: the file is missing, empty or not UTF-8, or a wanted column is not there or there twice.
    """
    where, what = display_path(path), ", ".join(wanted)
    try:
        with opened(path) as handle:
            names = next(csv.reader(io.TextIOWrapper(handle, "utf-8-sig", newline="")), [])
    except FileNotFoundError:
        raise UserError(f"{where}: no such file; expected a CSV with the columns {what}.") from None
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error):
        scan(path, 0)
        raise
    except csv.Error as error:
        raise UserError(f"{where}: the first row is no header ({error}); expected the columns {what}.") from None
    if not "".join(names).strip():
        raise UserError(f"{where}: the file is empty or begins with an empty row; expected the columns {what}.")
    missing = [name for name in wanted if name not in names]
    if missing:
        other = [mark for mark in ";\t|" if len(names) == 1 and mark in names[0]]
        hint = f"; the fields seem to be separated by {other[0]!r}, a comma is expected" if other else ""
        if not other and len(names) > 1 and len(missing) == len(wanted):
            hint = "; is the header missing?"
        found = ", ".join(map(repr, names[:8]))
        raise UserError(f'{where}: no column "{missing[0]}" (expected {what}; found {found}{hint}).')
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f'{where}, row 1: the column "{twice[0]}" stands here twice.')
    return names


def scan(path: Path, fields: int) -> None:
    """Look for what keeps a file from being a table: a damaged archive, foreign bytes, rows of another length.

    This is slow, and done only when the fast reader has refused the file.

    Raises:
        UserError: the first of these that was found; nothing is raised if none was.
    """
    where, number = display_path(path), 0
    try:
        with opened(path) as handle:
            for line in handle:
                number += 1
                line.decode()
        with opened(path) as handle:
            rows = csv.reader(io.TextIOWrapper(handle, "utf-8-sig", newline=""), strict=True)
            other = [(row, len(cells)) for row, cells in enumerate(rows, 1) if fields and len(cells) != fields]
    except UnicodeDecodeError as error:
        byte = f"byte 0x{error.object[error.start]:02x} at place {error.start + 1}"
        raise UserError(f"{where}, line {number}: {byte} is not UTF-8; save the file as UTF-8.") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{where}: the gzip archive is damaged or cut off ({error}).") from None
    except csv.Error as error:
        raise UserError(f"{where}: not a CSV ({error}); is a quotation mark not closed?") from None
    if other:
        row, found = other[0]
        raise UserError(
            f"{where}, row {row}: {found} fields; {fields} are expected "
            f"({len(other):,} such rows; this is the first). Nothing was written."
        )


def fast(path: Path, columns: Columns, names: list[str] | None, multiline: bool, time_format: str | None) -> pa.Table:
    """Read typed columns with Arrow's reader; it says that a file is wrong, not where."""
    moment = [time_format] if time_format else [pacsv.ISO8601]
    return pacsv.read_csv(
        path,
        pacsv.ReadOptions(column_names=names),
        pacsv.ParseOptions(newlines_in_values=multiline, ignore_empty_lines=False),
        pacsv.ConvertOptions(
            column_types=columns, include_columns=list(columns), null_values=[], timestamp_parsers=moment
        ),
    )


def odd_quotes(path: Path) -> bool:
    """Say whether a file holds an odd number of quotation marks: the fast reader takes one left open for the rest."""
    with opened(path) as handle:
        return sum(block.count(b'"') for block in iter(lambda: handle.read(1 << 20), b"")) % 2 == 1


def explain(path: Path, columns: Columns, names: list[str] | None, width: int, error: Exception, how: tuple) -> None:
    """Find the first cell or row that the fast reader refused, and raise a UserError that names it."""
    scan(path, width)
    try:
        cells = fast(path, dict.fromkeys(columns, TEXT), names, *how)
    except (pa.ArrowInvalid, OSError):
        cells = {}
    for column in columns if cells else ():
        bad = unparsable(cells[column], columns[column], how[1])
        expected = {WHOLE: "a whole number is expected", NUMBER: "a number is expected"}
        wanted = expected.get(columns[column], f"a time like {how[1] or '2021-05-11'} is expected")
        stop_at(display_path(path), column, cells[column], bad, wanted, 1 if names else 2)
    raise UserError(f"{display_path(path)}: {error}. Nothing was written.") from None


def unparsable(cells: pa.ChunkedArray, kind: pa.DataType, time_format: str | None) -> np.ndarray:
    """Say which cells are not of a kind."""
    texts = cells.to_pandas()
    if kind == WHOLE:
        return (~texts.str.fullmatch(r"[+-]?[0-9]{1,18}")).to_numpy(dtype=bool)
    if kind == NUMBER:
        return pd.to_numeric(texts, errors="coerce").isna().to_numpy()
    if kind == MOMENT:
        return pd.to_datetime(texts, errors="coerce", format=time_format or "ISO8601").isna().to_numpy()
    return np.zeros(len(texts), dtype=bool)


def read_csv(
    path: Path,
    columns: Columns,
    names: list[str] | None = None,
    others: bool = False,
    multiline: bool = False,
    time_format: str | None = None,
) -> pa.Table:
    """Read a CSV (or .csv.gz) and check that it is whole and that every cell is of its column's kind.

    Args:
        path: the file.
        columns: what to read: name -> ID, TEXT, WHOLE, NUMBER or MOMENT.
        names: all column names, for a file without a header.
        others: read the columns that are not named, too, as TEXT.
        multiline: quoted fields may hold line breaks.
        time_format: of MOMENT, as in strptime; ISO 8601 without.

    Raises:
        UserError: file, row and column of what is wrong, and how often.
    """
    where = display_path(path)
    found = names or header(path, list(columns))
    if names and not path.exists():
        raise UserError(f"{where}: no such file; expected a CSV of {', '.join(names)}, without a header.")
    if others:
        columns = columns | {name: TEXT for name in found if name not in columns}
    try:
        table = fast(path, columns, names, multiline, time_format)
    except (pa.ArrowInvalid, OSError) as error:
        explain(path, columns, names, len(found), error, (multiline, time_format))
    if multiline and odd_quotes(path):
        scan(path, len(found))
    if not table.num_rows:
        raise UserError(f"{where}: no rows{'' if names else ' below the header'}.")
    for column, kind in columns.items():
        first = 1 if names else 2
        if kind == ID:
            codes, ids = coded(table[column])
            empty = pc.equal(pc.utf8_trim_whitespace(ids), "").to_numpy(zero_copy_only=False)
            if empty.any():
                stop_at(where, column, table[column], empty[codes], "an id is expected", first)
        if kind == NUMBER:
            off = ~np.isfinite(table[column].to_numpy())
            stop_at(where, column, table[column], off, "a number is expected", first)
    return table


def coded(ids: pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """Split an ID column into codes (int32, per row) and the distinct ids that they stand for."""
    whole = ids.unify_dictionaries().combine_chunks()
    whole = whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
    return whole.indices.to_numpy(), whole.dictionary


def distinct(where: str, column: str, ids: pa.ChunkedArray) -> pa.Array:
    """Return the ids of a list of users or items, in file order.

    Raises:
        UserError: one stands there twice.
    """
    codes, values = coded(ids)
    if len(values) < len(codes):
        twice = np.ones(len(codes), dtype=bool)
        twice[np.unique(codes, return_index=True)[1]] = False
        stop_at(where, column, ids, twice, "the id stands here twice")
    return values.take(pa.array(codes))


def codes_in(where: str, column: str, ids: pa.ChunkedArray, known: pa.Array, name: str) -> np.ndarray:
    """Code an ID column by the place of each id in `known` (int32, per row).

    Raises:
        UserError: an id is not in `known`, which was read from `name`.
    """
    codes, values = coded(ids)
    place = pc.index_in(values, value_set=known)
    unknown = place.is_null().to_numpy(zero_copy_only=False)
    if unknown.any():
        stop_at(where, column, ids, unknown[codes], f"not in {name}")
    return place.to_numpy()[codes]


def within(where: str, column: str, values: np.ndarray, low: float, high: float, first: int = 2) -> np.ndarray:
    """Return numbers that lie between two bounds.

    Raises:
        UserError: one does not.
    """
    stop_at(
        where, column, values, (values < low) | (values > high), f"a number from {low:g} to {high:g} is expected", first
    )
    return values

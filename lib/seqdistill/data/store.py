"""Where data sets stand: raw files by layout, processed tables by digest."""

import filecmp
import re
import shutil
from pathlib import Path

from seqdistill import io
from seqdistill.config import did_you_mean
from seqdistill.data.layouts import GENERIC, LAYOUTS, Layout
from seqdistill.data.tables import Dataset, filtered, statistics
from seqdistill.io import UserError, data_dir, digest, display_path

READER_VERSION = 2  # part of every data set's key: raised by hand when the same files give other tables
TABLES = ("events", "users", "items")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def home_of(name: str) -> Path:
    """Folder of a data set; UserError where its name might lead out of data/."""
    if not NAME.fullmatch(name):
        raise UserError(f'"{name}" cannot name a data set: letters, digits, ".", "_" and "-" are expected.')
    return data_dir() / name


def located(folder: Path, name: str) -> Path | None:
    """Path of a file in a folder, plain or .gz, or None; UserError if both are there."""
    paths = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
    if len(paths) > 1:
        raise UserError(f"{display_path(paths[0])}: {paths[1].name} is there, too; keep one of them.")
    return paths[0] if paths else None


def raw_files(name: str, source: Path | None = None) -> tuple[Layout, list[Path | None]]:
    """Layout and raw files of a data set (if not public, three CSV files); those in a package are written first."""
    raw = source or home_of(name) / "raw"
    if name not in LAYOUTS and not raw.parent.is_dir():
        hint = did_you_mean(name, list(LAYOUTS))
        raise UserError(f'"{name}" is not a data set{hint}: no folder data/{name}, and none of {", ".join(LAYOUTS)}.')
    layout = LAYOUTS.get(name, GENERIC)
    if layout.write and not source and not (raw / layout.files[-1]).exists():
        layout.write(raw)
    files = {file: located(raw, file) for file in layout.files}
    if missing := next((file for file in files if not files[file] and file != "dataset.yaml"), ""):
        where = "data/README.md names the files of public data sets, lib/site/own-data.md those of your own"
        raise UserError(f"{display_path(raw / missing)}: no such file, plain or .gz; {where}.")
    return layout, list(files.values())


def raw_key(files: list[Path | None]) -> str:
    """Digest of raw files and of `READER_VERSION`."""
    return digest([READER_VERSION, [[path.name, io.file_digest(path)] for path in files if path]])


def processed(name: str, key: str) -> Dataset | None:
    """Read the tables that `convert` wrote under this key; None if there are none."""
    folder = data_dir() / name / "processed"
    if not (folder / "notes.json").exists() or (notes := io.load_json(folder / "notes.json"))["key"] != key:
        return None
    events, users, items = (io.load_table(folder / f"{table}.parquet", key) for table in TABLES)
    return Dataset(events, users, items, notes["dated"], notes["domain"], tuple(notes["notes"]))


def copy_files(files: list[Path], raw: Path, layout: Layout, force: bool) -> None:
    """Copy files into the folder of raw files; UserError if it holds others. `force` replaces those of equal names."""
    new = {path.name: path for path in files}
    for old in (located(raw, name) for name in layout.files):
        if old and (old.name not in new or not (force or filecmp.cmp(new[old.name], old, shallow=False))):
            why = "left from other files; FORCE=1 replaces files of equal names, remove others first"
            raise UserError(f"{display_path(old)}: {why}. Nothing was written.")
    for path in files:
        with io.atomic_write(raw / path.name) as temporary:
            shutil.copyfile(path, temporary)


def convert(name: str, source: Path | None = None, force: bool = False) -> Dataset:
    """Check files in `source` (or data/<name>/raw), copy them (`force`: see `copy_files`) and write the tables."""
    home = home_of(name)
    if source and not source.is_dir():
        raise UserError(f"RAW: {source} is no folder.")
    try:
        layout, files = raw_files(name, source)
        whole = layout.read(*files)
    except UserError as error:
        raise UserError(f"{error} Nothing was written.") from None
    if source and source.resolve() != (home / "raw").resolve():
        copy_files([path for path in files if path], home / "raw", layout, force)
    key = raw_key(files)
    for table in TABLES:
        io.save_table(getattr(whole, table), home / "processed" / f"{table}.parquet", key)
    try:
        counts = statistics(filtered(whole, name, 4, "single").events)  # as the paper filters
    except UserError:
        counts = {}
    notes = {"key": key, "dated": whole.dated, "domain": whole.domain, "notes": whole.notes, "statistics": counts}
    io.save_json(notes, home / "processed" / "notes.json")
    return whole


def load(name: str, minimum: int, first_users: int | None = None, kind: str = "core") -> Dataset:
    """Read a data set from its processed tables, or from its raw files if these are newer, then filter and code it.

    name: folder below data/; `movielens-small` is written there on first use. minimum: fewest events of a user or an
    item; kind: "core" repeats that filter until nothing changes, "single" applies it once. first_users: number of
    users to keep (after the filter, in order of id), for quick runs.
    """
    layout, files = raw_files(name)
    key = raw_key(files)
    whole = processed(name, key) or layout.read(*files)
    return filtered(whole, name, minimum, kind, first_users, digest([key, minimum, kind, first_users]))


def present() -> dict[str, dict[str, float]]:
    """Data sets that `convert` has made ready, each with its statistics after the paper's filter."""
    notes = {path.parts[-3]: io.load_json(path) for path in sorted(data_dir().glob("*/processed/notes.json"))}
    return {name: of["statistics"] for name, of in notes.items() if of.get("statistics")}

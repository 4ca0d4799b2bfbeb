"""Where data sets stand: raw files by layout, processed tables by digest."""

import shutil
from pathlib import Path

from seqdistill import io
from seqdistill.config import did_you_mean
from seqdistill.data import amazon_beauty_5core, amazon_m2, beauty, generic, kion, movielens
from seqdistill.data.tables import Dataset, Layout, canonical, filtered, statistics
from seqdistill.io import UserError, data_dir, digest, display_path

READER_VERSION = 1  # part of every data set's key: raised by hand when the same files give other tables
LAYOUTS = {
    "movielens-small": movielens.SMALL,
    "ml-20m": movielens.ML_20M,
    "beauty": beauty.LAYOUT,
    "kion": kion.LAYOUT,
    "amazon-m2": amazon_m2.LAYOUT,
    "amazon-beauty-5core": amazon_beauty_5core.LAYOUT,
}
TABLES = ("events", "users", "items")


def layout_of(name: str) -> Layout:
    """Layout of a data set: its own, else three CSV files."""
    if name not in LAYOUTS and not (data_dir() / name).is_dir():
        hint = did_you_mean(name, list(LAYOUTS))
        raise UserError(f'"{name}" is not a data set{hint}: no folder data/{name}, and none of {", ".join(LAYOUTS)}.')
    return LAYOUTS.get(name, generic.LAYOUT)


def raw_folder(name: str, layout: Layout) -> Path:
    """Folder of a data set's raw files; those that come in a package are written there on first use."""
    raw = data_dir() / name / "raw"
    if layout.write and not (raw / layout.files[-1][0]).exists():
        layout.write(raw)
    return raw


def located(raw: Path, layout: Layout) -> list[Path | None]:
    """Find the files of a layout in a folder, plain or packed (.gz)."""
    files = []
    for names in layout.files:
        paths = [path for name in names for end in ("", ".gz") if (path := raw / f"{name}{end}").exists()]
        if not paths:
            expected = f"expected {' or '.join(names)}, plain or .gz"
            raise UserError(f"{display_path(raw / names[0])}: no such file ({expected}); {layout.source}.")
        if len(paths) > 1 and paths[1].name == f"{paths[0].name}.gz":
            raise UserError(f"{display_path(paths[0])}: {paths[1].name} is there, too; keep one of them.")
        files.append(paths[0])
    if layout.optional:
        files.append(extra if (extra := raw / layout.optional).exists() else None)
    return files


def raw_key(files: list[Path | None]) -> str:
    """Digest of raw files and of `READER_VERSION`."""
    return digest([READER_VERSION, [[path.name, io.file_digest(path)] for path in files if path]])


def processed(name: str, key: str) -> Dataset | None:
    """Read the tables that `convert` left, if they were made from what `key` stands for."""
    folder = data_dir() / name / "processed"
    if not (folder / "notes.json").exists() or (notes := io.load_json(folder / "notes.json"))["key"] != key:
        return None
    events, users, items = (io.load_table(folder / f"{table}.parquet", key) for table in TABLES)
    return Dataset(events, users, items, notes["dated"], notes["domain"], tuple(notes["notes"]))


def copied(files: list[Path | None], home: Path, layout: Layout) -> list[Path | None]:
    """Copy files into a folder, unless it holds others that the layout would read, too."""
    wanted = {path.name for path in files if path}
    for name in [*sum(layout.files, ()), *([layout.optional] if layout.optional else [])]:
        for path in (home / name, home / f"{name}.gz"):
            if path.exists() and path.name not in wanted:
                raise UserError(f"{display_path(path)}: left from other files; remove it first. Nothing was written.")
    for path in filter(None, files):
        if path.resolve() != (home / path.name).resolve():
            with io.atomic_write(home / path.name) as temporary:
                shutil.copyfile(path, temporary)
    return located(home, layout)


def convert(name: str, source: Path | None = None) -> Dataset:
    """Check the files in `source` (or data/<name>/raw), copy them there and write data/<name>/processed/*.parquet."""
    layout, home = LAYOUTS.get(name, generic.LAYOUT) if source else layout_of(name), data_dir() / name
    try:
        files = located(source or raw_folder(name, layout), layout)
        whole = canonical(layout.read(*files))
    except UserError as error:
        raise UserError(f"{error} Nothing was written.") from None
    key = raw_key(copied(files, home / "raw", layout))
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
    """Read a data set from its processed tables, or from its raw files if these are newer, and filter and code it.

    Args:
        name: folder below data/; `movielens-small` is written there on first use.
        minimum: fewest events of a user or an item.
        first_users: keep only so many users (after the filter, in order of id), for quick runs.
        kind: "core" repeats the filter until nothing changes, "single" applies it once.
    """
    layout = layout_of(name)
    files = located(raw_folder(name, layout), layout)
    key = raw_key(files)
    whole = processed(name, key) or canonical(layout.read(*files))
    return filtered(whole, name, minimum, kind, first_users, digest([key, minimum, kind, first_users]))


def present() -> dict[str, dict[str, float]]:
    """Data sets that `convert` has made ready, each with its statistics after the paper's filter."""
    notes = sorted(data_dir().glob("*/processed/notes.json"))
    found = {path.parent.parent.name: io.load_json(path).get("statistics") for path in notes}
    return {name: numbers for name, numbers in found.items() if numbers}

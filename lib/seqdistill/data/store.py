"""Where data sets stand: raw files by layout, processed tables by digest."""

import shutil
from pathlib import Path

import pandas as pd

from seqdistill.config import did_you_mean
from seqdistill.data import amazon_beauty_5core, amazon_m2, beauty, generic, kion, movielens
from seqdistill.data.tables import Dataset, Layout, Raw, canonical, filtered, statistics
from seqdistill.io import (
    UserError,
    atomic_write,
    data_dir,
    digest,
    display_path,
    file_digest,
    load_json,
    load_table,
    save_json,
    save_table,
)

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
    """Layout of a data set: its own, else three CSV files.

    Raises:
        UserError: it is neither known nor in data/.
    """
    if name not in LAYOUTS and not (data_dir() / name).is_dir():
        hint = did_you_mean(name, list(LAYOUTS))
        raise UserError(f'"{name}" is not a data set{hint}: no folder data/{name}, and none of {", ".join(LAYOUTS)}.')
    return LAYOUTS.get(name, generic.LAYOUT)


def located(raw: Path, layout: Layout) -> list[Path | None]:
    """Find the files of a layout in a folder, plain or packed (.gz).

    Raises:
        UserError: one is missing or there twice.
    """
    found = []
    for names in layout.files:
        there = [[path for end in ("", ".gz") if (path := raw / f"{name}{end}").exists()] for name in names]
        paths = next((paths for paths in there if paths), [])
        if not paths:
            either = " or ".join(names)
            raise UserError(
                f"{display_path(raw / names[0])}: no such file (expected {either}, plain or .gz); {layout.source}."
            )
        if len(paths) > 1:
            raise UserError(f"{display_path(paths[0])}: {paths[1].name} is there, too; keep one of them.")
        found += paths
    extra = raw / layout.optional if layout.optional else None
    return [*found, extra if extra and extra.exists() else None] if layout.optional else found


def raw_key(files: list[Path | None]) -> str:
    """Digest of raw files and of `READER_VERSION`."""
    return digest([READER_VERSION, [[path.name, file_digest(path)] for path in files if path]])


def raw_folder(name: str, layout: Layout) -> Path:
    """Folder of a data set's raw files; those that come in a package are written there on first use."""
    raw = data_dir() / name / "raw"
    if layout.write and not (raw / layout.files[-1][0]).exists():
        layout.write(raw)
    return raw


def processed(name: str, key: str) -> Raw | None:
    """Read the tables that `convert` left, if they were made from what `key` stands for."""
    folder = data_dir() / name / "processed"
    if not (folder / "notes.json").exists() or (notes := load_json(folder / "notes.json"))["key"] != key:
        return None
    tables = {table: load_table(folder / f"{table}.parquet", key) for table in TABLES}
    tables["users"] = tables["users"]["user_id"]
    return Raw(**tables, dated=notes["dated"], domain=notes["domain"], notes=tuple(notes["notes"]))


def stand_in_the_way(raw: Path, found: list[Path | None], layout: Layout) -> None:
    """Refuse to mix files from elsewhere with others that a layout would read from the same folder.

    Raises:
        UserError: the folder holds a file that is not among those to be copied.
    """
    names = [name for either in layout.files for name in either] + ([layout.optional] if layout.optional else [])
    wanted = {path.name for path in found if path}
    for form in [*names, *(f"{name}.gz" for name in names)]:
        if (raw / form).exists() and form not in wanted:
            raise UserError(f"{display_path(raw / form)}: left from other files; remove it first. Nothing was written.")


def convert(name: str, source: Path | None = None) -> Raw:
    """Check a data set and write it as data/<name>/processed/*.parquet; files from elsewhere are copied to its raw/.

    Args:
        name: name of the data set.
        source: folder of its files; data/<name>/raw without.

    Raises:
        UserError: a file is missing or wrong; nothing was written.
    """
    layout = LAYOUTS.get(name, generic.LAYOUT) if source else layout_of(name)
    home = data_dir() / name
    found = located(source or raw_folder(name, layout), layout)
    stand_in_the_way(home / "raw", found, layout)
    whole = canonical(layout.read(*found))
    for path in found:
        if path and path.resolve() != (home / "raw" / path.name).resolve():
            with atomic_write(home / "raw" / path.name) as temporary:
                shutil.copyfile(path, temporary)
    key = raw_key(located(home / "raw", layout))
    tables = {"events": whole.events, "users": pd.DataFrame({"user_id": whole.users}), "items": whole.items}
    for table, frame in tables.items():
        save_table(frame, home / "processed" / f"{table}.parquet", key)
    notes = {"key": key, "dated": whole.dated, "domain": whole.domain, "notes": whole.notes}
    save_json(notes | {"statistics": paper_statistics(name, whole)}, home / "processed" / "notes.json")
    return whole


def load(name: str, minimum: int, first_users: int | None = None, kind: str = "core") -> Dataset:
    """Read a data set from its processed tables, or from its raw files if these are newer, and filter and code it.

    Args:
        name: folder below data/; `movielens-small` is written there on first use.
        minimum: fewest events of a user or an item.
        first_users: keep only so many users (after the filter, in order of id), for quick runs.
        kind: "core" repeats the filter until nothing changes, "single" applies it once.

    Raises:
        UserError: a raw file is missing or wrong, or the filter leaves nothing.
    """
    layout = layout_of(name)
    raw = raw_folder(name, layout)
    found = located(raw, layout)
    key = raw_key(found)
    whole = processed(name, key) or canonical(layout.read(*found))
    return filtered(
        name, whole, minimum, kind, first_users, digest([key, minimum, kind, first_users]), display_path(raw)
    )


def paper_statistics(name: str, whole: Raw) -> dict[str, float]:
    """Statistics after the paper's filter (one pass, more than 3 events); empty if it leaves nothing."""
    try:
        return statistics(filtered(name, whole, 4, "single", None, "", name).events)
    except UserError:
        return {}


def present() -> dict[str, dict[str, float]]:
    """Data sets that `convert` has made ready, each with its statistics after the paper's filter."""
    notes = sorted(data_dir().glob("*/processed/notes.json"))
    found = {path.parent.parent.name: load_json(path).get("statistics") for path in notes}
    return {name: numbers for name, numbers in found.items() if numbers}

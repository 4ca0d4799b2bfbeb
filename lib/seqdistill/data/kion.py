"""Kion: films and series watched on a streaming service in 2021, with rich texts."""

from dataclasses import replace
from pathlib import Path

from seqdistill.data import generic
from seqdistill.data.tables import Layout, Raw

COLUMNS = generic.Settings(
    domain="movies",
    items=generic.Items(categories="genres", separator=",", year="release_year"),
    interactions=generic.Interactions(time="last_watch_dt", format="iso"),
)


def read(interactions: Path, films: Path) -> Raw:
    """Read interactions.csv (times are days, no ratings) and items_en.csv; users' demographics are not read."""
    raw = generic.read(None, films, interactions, COLUMNS, unlisted=True)
    return replace(raw, items=raw.items.assign(year=raw.items["year"].str.removesuffix(".0")))


LAYOUT = Layout(
    files=(("interactions.csv",), ("items_en.csv",)),
    read=read,
    source="they are in data_en.zip of https://github.com/irsafilo/KION_DATASET (5,476,251 interactions)",
)

"""Small files in the layouts of Beauty, Kion and Beauty 5-core, for tests that read every preset."""

import gzip

import numpy as np
import pandas as pd

USERS, ITEMS, EVENTS = 60, 30, 9


def walks():
    """User, item and place of each event: every user with different items."""
    rng = np.random.default_rng(0)
    rows = [(user, item, at) for user in range(USERS) for at, item in enumerate(rng.permutation(ITEMS)[:EVENTS])]
    return pd.DataFrame(rows, columns=["user_id", "item_id", "position"])


def named(word):
    return pd.DataFrame({"item_id": range(ITEMS), "title": [f"{word} {item}" for item in range(ITEMS)]})


def beauty(folder):
    """Write ratings_Beauty.csv (no header) and meta_Beauty.json.gz (a Python literal per line)."""
    plays = walks()
    ids = {"user": "A" + plays["user_id"].astype(str), "item": "B" + plays["item_id"].astype(str)}
    table = pd.DataFrame(ids).assign(stars=4.0, at=1_300_000_000 + 86_400 * (7 * plays["position"] + plays["user_id"]))
    table.to_csv(folder / "ratings_Beauty.csv", header=False, index=False)
    about = {"categories": [["Beauty", "Skin Care"]], "brand": "Acme"}
    texts = [{"asin": f"B{item}", "title": f"Cream {item}", **about} for item in range(ITEMS)]
    with gzip.open(folder / "meta_Beauty.json.gz", "wt") as out:
        out.writelines(f"{text!r}\n" for text in texts)


def kion(folder):
    """Write interactions.csv (days) and items_en.csv."""
    table = walks()
    days = pd.to_timedelta(3 * table.pop("position") + table["user_id"] % 50, unit="D")
    table = table.assign(last_watch_dt=pd.Timestamp("2021-03-13") + days, total_dur=4000, watched_pct=70.0)
    table.to_csv(folder / "interactions.csv", index=False)
    films = named("Film").assign(content_type="film", release_year=2002.0, genres="drama, crime", keywords="")
    films.assign(description="A\nfilm").to_csv(folder / "items_en.csv", index=False)


def beauty_5core(folder):
    """Write users.csv, items.csv and interactions.csv of Beauty 5-core: order, no times."""
    pd.DataFrame({"user_id": range(USERS)}).to_csv(folder / "users.csv", index=False)
    texts = named("Cream").assign(brand="Acme", category="Beauty > Skin Care")
    texts.to_csv(folder / "items.csv", index=False)
    walks().to_csv(folder / "interactions.csv", index=False)

"""Small files in the layouts of Beauty, Kion and Beauty 5-core, for tests that read every preset."""

import gzip

import numpy as np
import pandas as pd

USERS, ITEMS, EVENTS = 60, 30, 9


def walks():
    """User, item and place of each event: every user with different items."""
    rng = np.random.default_rng(0)
    items = np.concatenate([rng.permutation(ITEMS)[:EVENTS] for _ in range(USERS)])
    places = np.tile(np.arange(EVENTS), USERS)
    return pd.DataFrame({"user_id": np.repeat(np.arange(USERS), EVENTS), "item_id": items, "position": places})


def beauty(folder):
    """Write ratings_Beauty.csv (no header) and meta_Beauty.json.gz (a Python literal per line)."""
    lines = [
        f"A{u:013},B{i:09},{1 + (u + i) % 5}.0,{1_300_000_000 + 86_400 * (7 * t + u)}" for u, i, t in walks().values
    ]
    (folder / "ratings_Beauty.csv").write_text("\n".join(lines) + "\n")
    about = {"categories": [["Beauty", "Skin Care"]], "brand": "Acme"}
    texts = [{"asin": f"B{i:09}", "title": f"Cream {i}", **about} for i in range(ITEMS)]
    with gzip.open(folder / "meta_Beauty.json.gz", "wt") as out:
        out.writelines(f"{text!r}\n" for text in texts)


def kion(folder):
    """Write interactions.csv (days) and items_en.csv."""
    table = walks()
    days = pd.to_timedelta(3 * table.pop("position") + table["user_id"] % 50, unit="D")
    watched = (pd.Timestamp("2021-03-13") + days).dt.strftime("%Y-%m-%d")
    table = table.assign(last_watch_dt=watched, total_dur=4000, watched_pct=70.0)
    table.to_csv(folder / "interactions.csv", index=False)
    films = pd.DataFrame(
        {"item_id": range(ITEMS), "content_type": "film", "title": [f"Film {i}" for i in range(ITEMS)]}
    )
    films = films.assign(release_year=2002.0, genres="drama, crime", description="A\nfilm", keywords="")
    films.to_csv(folder / "items_en.csv", index=False)


def beauty_5core(folder):
    """Write users.csv, items.csv and interactions.csv of Beauty 5-core: order, no times."""
    pd.DataFrame({"user_id": range(USERS)}).to_csv(folder / "users.csv", index=False)
    texts = pd.DataFrame({"item_id": range(ITEMS), "title": [f"Cream {i}" for i in range(ITEMS)], "brand": "Acme"})
    texts.assign(category="Beauty > Skin Care").to_csv(folder / "items.csv", index=False)
    walks().to_csv(folder / "interactions.csv", index=False)

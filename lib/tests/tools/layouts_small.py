"""Small files in the layouts of Beauty, Kion and Beauty 5-core, for tests that read every preset."""

import gzip

import numpy as np
import pandas as pd


def walks(users, items, events, rng):
    """User, item and place of each event: every user with `events` different items."""
    user = np.repeat(np.arange(users), events)
    item = np.concatenate([rng.permutation(items)[:events] for _ in range(users)])
    return user, item, np.tile(np.arange(events), users)


def beauty(folder, users, items, events, seed=0):
    """Write ratings_Beauty.csv (no header) and meta_Beauty.json.gz (a Python literal per line)."""
    folder.mkdir(parents=True, exist_ok=True)
    user, item, place = walks(users, items, events, np.random.default_rng(seed))
    day = 1_300_000_000 + 86_400 * (7 * place + user % 100)
    rows = zip(user, item, day, strict=True)
    lines = [f"A{u:013d},B{i:09d},{1 + (u + i) % 5}.0,{t}" for u, i, t in rows]
    (folder / "ratings_Beauty.csv").write_text("\n".join(lines) + "\n")
    texts = [
        {"asin": f"B{i:09d}", "title": f"Cream {i}", "categories": [["Beauty", "Skin Care"]], "brand": "Acme"}
        for i in range(items)
    ]
    with gzip.open(folder / "meta_Beauty.json.gz", "wt") as out:
        out.writelines(f"{text!r}\n" for text in texts)


def kion(folder, users, items, events, seed=0):
    """Write interactions.csv (days) and items_en.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    user, item, place = walks(users, items, events, np.random.default_rng(seed))
    watched = pd.Timestamp("2021-03-13") + pd.to_timedelta(3 * place + user % 50, unit="D")
    table = pd.DataFrame({"user_id": user, "item_id": item, "last_watch_dt": watched.strftime("%Y-%m-%d")})
    table.assign(total_dur=4000, watched_pct=70.0).to_csv(folder / "interactions.csv", index=False)
    films = pd.DataFrame(
        {"item_id": range(items), "content_type": "film", "title": [f"Film {i}" for i in range(items)]}
    )
    films = films.assign(release_year=2002.0, genres="drama, crime", description="A\nfilm", keywords="")
    films.to_csv(folder / "items_en.csv", index=False)


def beauty_5core(folder, users, items, events, seed=0):
    """Write users.csv, items.csv and interactions.csv of Beauty 5-core: order, no times."""
    folder.mkdir(parents=True, exist_ok=True)
    user, item, place = walks(users, items, events, np.random.default_rng(seed))
    pd.DataFrame({"user_id": range(users)}).to_csv(folder / "users.csv", index=False)
    texts = pd.DataFrame({"item_id": range(items), "title": [f"Cream {i}" for i in range(items)], "brand": "Acme"})
    texts.assign(category="Beauty > Skin Care").to_csv(folder / "items.csv", index=False)
    pd.DataFrame({"user_id": user, "item_id": item, "position": place}).to_csv(folder / "interactions.csv", index=False)

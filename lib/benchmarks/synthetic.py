"""Files in the layouts of the public data sets, at any size: what the tests read and `make bench-data` measures."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv


def lengths(rng, rows, total, least):
    """Draw `rows` long-tailed lengths of at least `least` that add up to `total`."""
    weights = rng.lognormal(0, 1, rows)
    found = least + np.floor(weights / weights.sum() * (total - least * rows)).astype(np.int64)
    found[: total - found.sum()] += 1
    return found


def popular(rng, items, total):
    """Draw `total` items from a long tail in which each occurs at least once."""
    tail = np.minimum((items * rng.random(total - items) ** 3).astype(np.int64), items - 1)
    return rng.permutation(np.concatenate([np.arange(items), tail]))


def ml_20m(folder, users, films, ratings, seed=0):
    """Write ratings.csv and movies.csv as in ml-20m.zip: by user, then film; half stars; seconds from 1995 to 2015,
    a fifth of them that of another rating of the user."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    user = np.repeat(np.arange(1, users + 1), lengths(rng, users, ratings, 20))
    ids = np.sort(rng.choice(np.arange(1, 5 * films), films, replace=False))
    film = ids[popular(rng, films, ratings)]
    order = np.lexsort((film, user))
    began = rng.integers(789_652_009, 1_400_000_000, users + 1)[user]
    table = {
        "userId": user,
        "movieId": film[order],
        "rating": rng.integers(1, 11, ratings) / 2,
        "timestamp": began + 60_000 * rng.integers(0, 330, ratings),
    }
    csv.write_csv(pa.table(table), folder / "ratings.csv", csv.WriteOptions(quoting_header="none"))
    years = rng.integers(1930, 2016, films)
    genres = ["Adventure|Animation|Children", "Drama", "(no genres listed)"]
    movies = {
        "movieId": ids,
        "title": [f"Film {i}, The ({year})" for i, year in zip(ids, years, strict=True)],
        "genres": [genres[i % 3] for i in range(films)],
    }
    pd.DataFrame(movies).to_csv(folder / "movies.csv", index=False)


def amazon_m2(folder, sessions, products, events, seed=0):
    """Write sessions_train.csv (lists as numpy prints them, broken every 6 ids) and products_train.csv."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    names = pa.array([f"B{i:09X}" for i in rng.permutation(products)])
    counts = lengths(rng, sessions, events, 3)
    chosen = names.take(pa.array(popular(rng, products, events)))
    ends = np.cumsum(counts) - 1
    step = np.arange(events) - np.repeat(ends + 1 - counts, counts)
    inside = np.ones(events, dtype=bool)
    inside[ends] = False
    marks = pa.array(np.where(step % 6 == 5, "\n '", " '"))
    quoted = pc.binary_join_element_wise(marks, chosen, "'", "").filter(pa.array(inside))
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts - 1)]), pa.int32())
    lists = pc.binary_join(pa.ListArray.from_arrays(offsets, quoted), "")
    cells = pc.binary_join_element_wise("[", pc.utf8_trim_whitespace(lists), "]", "")
    nexts = chosen.take(pa.array(ends))
    table = pa.table({"prev_items": cells, "next_item": nexts, "locale": pa.array(["UK"] * sessions)})
    table.to_pandas().to_csv(folder / "sessions_train.csv", index=False)
    text = {name: "" for name in ("size", "model", "material", "author")}
    frame = pd.DataFrame({"id": names.to_pandas(), "locale": "UK", "title": "Towel, 2 pieces, " + names.to_pandas()})
    frame = frame.assign(price=9.99, brand="Acme", color="blue", **text, desc="Soft, and\nwashable at 60 °C. " * 8)
    frame.to_csv(folder / "products_train.csv", index=False)

"""A user's training history, and the facts that a small model cannot count itself."""

import re
import unicodedata

import pandas as pd

from seqdistill.artifacts import BookError

FEW = 4  # ratings below which a category's mean says little
CATEGORY_FACTS = ("frequent", "best", "worst", "rising", "fading")
TREND = 0.05  # change of a category's share between the halves of a history that counts as a trend
MARKUP = re.compile(r"\[/?INST\]|[<>\"]")  # quotation marks, and what chat templates take for a change of speaker
BREAK = re.compile(r"\s*[\t-\r\x1c-\x1f\x85\u2028\u2029]\s*")  # a line break, with what is blank around it
HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}  # control, direction and format characters, line separators

LABELS = {
    "rater": "Rater",
    "frequent": "Most frequent",
    "best": "Rated best",
    "worst": "Rated worst",
    "loved": "Loved",
    "disliked": "Disliked",
    "latest": "Latest",
    "decade": "Decade",
    "rising": "More lately",
    "fading": "Less lately",
}
WORDING = {"movies": {"frequent": "Watched most"}}


def clean(text: str, most: int) -> str:
    """Make a text from outside safe to stand in a prompt: one line of `most` characters, no markup, nothing hidden."""
    start = BREAK.sub(" ", str(text)[: 4 * most])
    visible, marked = "".join(character for character in start if unicodedata.category(character) not in HIDDEN), None
    while visible != marked:  # what a removal brings together may be markup again
        visible, marked = MARKUP.sub("", visible), visible
    return visible[:most]


def shares(categories: pd.Series) -> pd.Series:
    """Share of events that carry each category, largest first, ties by name."""
    counts = categories.explode().dropna().value_counts()
    return (counts / max(len(categories), 1)).sort_index().sort_values(ascending=False, kind="stable")


def quoted(titles: pd.Series, most: int) -> str:
    """Write the first `most` titles, cleaned and cut to 80 characters, in double quotes."""
    return ", ".join(f'"{clean(title, 80)}"' for title in titles[:most])


def category_means(history: pd.DataFrame) -> pd.Series:
    """Mean rating of each category with at least `FEW` ratings, best first; empty without ratings."""
    by_category = history.explode("categories").groupby("categories")["value"].agg(["mean", "count"])
    return by_category[by_category["count"] >= FEW]["mean"].sort_values(ascending=False, kind="stable")


def trends(history: pd.DataFrame) -> pd.Series:
    """Change of each category's share of the events from the first half of a history to the second, falling first."""
    half = len(history) // 2
    before, now = shares(history["categories"].iloc[:half]), shares(history["categories"].iloc[half:])
    return now.sub(before, fill_value=0).round(6).sort_values(kind="stable")


def facts(history: pd.DataFrame) -> dict[str, str]:
    """Compute what a small model cannot count itself from one user's training events.

    Args:
        history: events in time order; columns title, categories (list), value (NaN without ratings), year.

    Returns:
        Fact -> statement, empty where the history does not say.
    """
    rated = history["value"].notna().all()
    trend = trends(history)
    rising, fading = trend[trend >= TREND].index[-1:], trend[trend <= -TREND].index[:1]
    found = {"frequent": ", ".join(shares(history["categories"]).index[:3])}
    if rated:
        mean = history["value"].mean()
        found["rater"] = "generous" if mean >= 3.9 else "strict" if mean <= 3.2 else "balanced"
        means = category_means(history)
        latest_first = history.iloc[::-1].sort_values("value", ascending=False, kind="stable")
        found["best"] = ", ".join(means[means >= mean].index[:2])
        found["worst"] = "".join(means[means < mean].index[-1:])
        found["loved"] = quoted(latest_first["title"][latest_first["value"] > mean], 3)
        found["disliked"] = quoted(latest_first["title"][latest_first["value"] <= 2.5].iloc[::-1], 1)
    else:
        found["latest"] = quoted(history["title"].iloc[::-1], 3)
    if history["year"].notna().any():
        found["decade"] = f"{(history['year'].dropna() // 10 * 10).astype(int).mode().iloc[0]}s"
    return found | {"rising": "".join(rising), "fading": "".join(fading)}


FIELDS = {  # item texts beside title, categories and year, with the characters that one of them may take
    "brand": 40,
    "countries": 40,
    "directors": 60,
    "actors": 60,
    "keywords": 80,
    "color": 30,
    "size": 30,
    "material": 40,
    "author": 40,
    "price": 20,
    "locale": 10,
    "description": 200,
}


def histories(events: pd.DataFrame, items: pd.DataFrame) -> dict[int, pd.DataFrame]:
    """Join training events with item texts, one frame per user.

    Args:
        events: training events only; columns user, item, value (rating or NaN), in time order.
        items: columns item, title and, where the data has them, categories ("a|b"), year and those of `FIELDS`.

    Returns:
        User -> events with title, categories (list), year, value (rating or NaN) and the fields that the data has.

    Raises:
        BookError: an event does not belong to the training split.
    """
    if (events["split"] != "train").any():
        raise BookError("profiles: an event outside the training split was given; a profile may only see training.")
    texts = pd.DataFrame({"item": items["item"], "title": items["title"]})
    raw = items["categories"] if "categories" in items else pd.Series("", index=items.index)
    texts["categories"] = [
        [clean(part, 60) for part in str(value).split("|") if part and part != "(no genres listed)"]
        for value in raw.fillna("")
    ]
    texts["year"] = pd.to_numeric(items["year"], errors="coerce") if "year" in items else float("nan")
    for name in FIELDS.keys() & items.columns:
        texts[name] = items[name].fillna("").astype(str)
    joined = events.merge(texts, on="item", how="left", validate="many_to_one")
    return {int(user): frame.reset_index(drop=True) for user, frame in joined.groupby("user", sort=True)}


def facts_text(history: pd.DataFrame, wording: dict[str, str]) -> str:
    """Write a user's facts, one a line; `wording` replaces labels."""
    found, labels = facts(history), LABELS | wording
    return "\n".join(f"{labels[name]}: {found[name]}" for name in LABELS if found.get(name))


def history_lines(history: pd.DataFrame) -> list[str]:
    """Write a user's events as text, one a line, oldest first: the quoted title, then whatever the data has."""
    fields = [name for name in FIELDS if name in history]
    lines = []
    for row in history.to_dict("records"):
        parts = [f'"{clean(row["title"], 80)}"']
        parts += [str(int(row["year"]))] if pd.notna(row["year"]) else []
        parts += [", ".join(row["categories"][:6])] if row["categories"] else []
        parts += [f"{name}: {text}" for name in fields if (text := clean(row[name], FIELDS[name]))]
        parts += [f"rated {row['value']:g}"] if pd.notna(row["value"]) else []
        lines.append("; ".join(parts))
    return lines

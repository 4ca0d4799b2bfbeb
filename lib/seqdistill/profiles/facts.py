"""A user's training history, and the facts that a small model cannot count itself."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from statistics import fmean, multimode

import pandas as pd

from seqdistill.io import UserError
from seqdistill.profiles.chat import HIDDEN

FEW = 4  # ratings below which a category's mean says little
TREND = 0.05  # change of a category's share between the halves of a history that counts as a trend
MARKUP = re.compile(r"\[/?INST\]|[<>\"]")  # quotation marks, and what chat templates take for a change of speaker
BREAK = re.compile(r"\s*[\t-\r\x1c-\x1f\x85\u2028\u2029]\s*")  # a line break and the blanks around it

LABELS = {"rater": "Rater", "frequent": "Most frequent", "best": "Rated best", "worst": "Rated worst", "loved": "Loved"}
LABELS |= {"disliked": "Disliked", "latest": "Latest", "decade": "Decade"}
LABELS |= {"rising": "More lately", "fading": "Less lately"}
WORDING = {"movies": {"frequent": "Watched most"}}
# Item texts besides title, categories and year, with the most characters of each.
FIELDS = {"brand": 40, "countries": 40, "directors": 60, "actors": 60, "keywords": 80, "color": 30, "size": 30}
FIELDS |= {"material": 40, "author": 40, "price": 20, "locale": 10, "description": 200}


def clean(text: str, most: int) -> str:
    """Make an external text safe for a prompt: one line of at most `most` characters, no markup, none hidden."""
    start = BREAK.sub(" ", str(text)[: 4 * most])
    visible, marked = "".join(character for character in start if unicodedata.category(character) not in HIDDEN), None
    while visible != marked:  # a removal may join the parts of another mark
        visible, marked = MARKUP.sub("", visible), visible
    return visible[:most]


def shares(categories: Sequence[list[str]]) -> dict[str, float]:
    """Share of events that carry each category, largest first, ties by name."""
    counts = Counter(sorted(chain.from_iterable(categories)))
    return {name: count / len(categories) for name, count in counts.most_common()}


def quoted(titles: Sequence[str], most: int) -> str:
    """Write the first `most` titles, cleaned and cut to 80 characters, in double quotes."""
    return ", ".join(f'"{clean(title, 80)}"' for title in titles[:most])


def category_means(history: pd.DataFrame) -> dict[str, float]:
    """Mean rating of each category with at least `FEW` ratings, best first, ties by name; empty without ratings."""
    ratings: dict[str, list[float]] = {}
    for names, value in zip(history["categories"], history["value"].tolist(), strict=True):
        for name in names if value == value else ():  # NaN is not equal to itself
            ratings.setdefault(name, []).append(value)
    means = {name: fmean(values) for name, values in sorted(ratings.items()) if len(values) >= FEW}
    return dict(sorted(means.items(), key=lambda item: -item[1]))


def trends(history: pd.DataFrame) -> dict[str, float]:
    """Change of each category's share of the events from the first half of a history to the second, ascending."""
    categories = history["categories"].tolist()
    before, now = shares(categories[: len(categories) // 2]), shares(categories[len(categories) // 2 :])
    names = now if [*now] == [*before] else sorted(before | now)  # order of ties: the shipped profiles depend on it
    change = {name: round(now.get(name, 0) - before.get(name, 0), 6) for name in names}
    return dict(sorted(change.items(), key=lambda item: item[1]))


def facts(history: pd.DataFrame) -> dict[str, str]:
    """Compute what a small model cannot count itself: fact -> statement, empty if the history does not tell."""
    titles, values, change = history["title"].tolist(), history["value"].tolist(), trends(history)
    statements = {"frequent": ", ".join([*shares(history["categories"].tolist())][:3])}
    if (rated := history["value"].notna()).any():
        titles, values = history["title"][rated].tolist(), history["value"][rated].tolist()
        mean, means = fmean(values), category_means(history)
        statements["rater"] = "generous" if mean >= 3.9 else "strict" if mean <= 3.2 else "balanced"
        best_first = sorted(zip(values[::-1], titles[::-1], strict=True), key=lambda event: -event[0])  # ties: latest
        statements["best"] = ", ".join([name for name in means if means[name] >= mean][:2])
        statements["worst"] = "".join([name for name in means if means[name] < mean][-1:])
        statements["loved"] = quoted([title for value, title in best_first if value > mean], 3)
        statements["disliked"] = quoted([title for value, title in best_first[::-1] if value <= 2.5], 1)
    else:
        statements["latest"] = quoted(titles[::-1], 3)
    if years := history["year"].dropna().tolist():
        statements["decade"] = f"{min(multimode(int(year // 10 * 10) for year in years))}s"
    statements["rising"] = "".join([name for name in change if change[name] >= TREND][-1:])
    statements["fading"] = "".join([name for name in change if change[name] <= -TREND][:1])
    return statements


def facts_text(history: pd.DataFrame, wording: dict[str, str]) -> str:
    """Write a user's facts, one a line; `wording` replaces labels."""
    statements, labels = facts(history), LABELS | wording
    return "\n".join(f"{labels[name]}: {statements[name]}" for name in LABELS if statements.get(name))


def histories(events: pd.DataFrame, items: pd.DataFrame) -> dict[int, pd.DataFrame]:
    """Join training events (user, item, split, value) in time order with item texts: user -> history.

    `items`: item, title, perhaps categories ("a|b"), year, `FIELDS`. UserError for an event outside the training split.
    """
    if (events["split"] != "train").any():
        raise UserError("profiles: an event outside the training split was given; a profile may only see training.")
    raw = items.get("categories", pd.Series("", items.index)).fillna("").astype(str).str.split("|")
    texts = items[["item", "title"]].assign(
        categories=[[clean(name, 60) for name in names if name not in ("", "(no genres listed)")] for names in raw],
        year=pd.to_numeric(items.get("year", float("nan")), errors="coerce"),
        **{name: items[name].fillna("").astype(str) for name in FIELDS if name in items},
    )
    joined = events.merge(texts, on="item", how="left", validate="many_to_one")
    return {int(user): history.reset_index(drop=True) for user, history in joined.groupby("user", sort=True)}


def history_lines(history: pd.DataFrame) -> list[str]:
    """Write a user's events as text, one a line, oldest first: the quoted title, then the other fields available."""
    lines = []
    for row in history.to_dict("records"):
        parts = [quoted([row["title"]], 1)]
        parts += [str(int(row["year"]))] if pd.notna(row["year"]) else []
        parts += [", ".join(row["categories"][:6])] if row["categories"] else []
        parts += [f"{name}: {text}" for name in FIELDS if (text := clean(row.get(name, ""), FIELDS[name]))]
        parts += [f"rated {row['value']:g}"] if pd.notna(row["value"]) else []
        lines.append("; ".join(parts))
    return lines

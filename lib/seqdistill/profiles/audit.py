"""Is a profile what was asked for, and is it true? Everything is checked against the history it was written from."""

import re

import pandas as pd

from seqdistill.profiles.facts import CATEGORY_FACTS, category_means, clean, facts, shares, trends

REFUSAL = re.compile(
    r"\b(as an ai\b|i('m| am) sorry|i (can ?not|can't|am unable to|am not able to)|unable to (assist|help|provide))",
    re.I,
)
ENGLISH = {"a", "an", "and", "are", "as", "at", "but", "by", "for", "from", "has", "have", "in", "is", "it", "of", "on"}
ENGLISH |= {"or", "that", "the", "this", "to", "who", "with"}
FOREIGN = {"der", "das", "ein", "eine", "einer", "für", "mit", "und", "von", "ist", "nicht", "le", "les", "des", "et"}
FOREIGN |= {"une", "est", "pour", "el", "los", "las", "una", "con", "y", "que", "il", "di", "che", "per", "uma", "em"}
# What a word claims about the categories beside it. "rates War worst" puts it behind them, "more War" before.
CUES = {
    "best": r"best|highest|loves?|favou?rites?|enjoys?|prefers?|likes|liked",
    "worst": r"worst|lowest|dislikes?|disliked|hates?|avoids?|least|poorly",
    "rising": r"more|rising|increas\w+|growing|grown|towards?",
    "fading": r"less|fewer|fading|declin\w+|decreas\w+|away from|dropp\w+",
}
BREAKS = r"[.;:!?\n]|\brat(?:es|ed|ing)\b|\bwhile\b|\bbut\b|\blately\b|\bwho\b"
PARTS = [rf"(?P<stop>{BREAKS})", *(rf"(?P<{name}>\b(?:{words})\b)" for name, words in CUES.items())]
SPLIT = re.compile("|".join(PARTS), re.I)
TITLE_OR_CUE = re.compile(
    rf'"(?P<title>[^"\n]{{2,90}})"|\b(?P<worst>least\s+\w+|{CUES["worst"]})\b|\b(?P<best>{CUES["best"]})\b', re.I
)
BEHIND = re.compile(r'("|\b(is|are|was|were|rated)( an?)?)\s*$', re.I)
CONTRARY = {"best": "worst", "worst": "best", "rising": "fading", "fading": "rising"}


def unquoted(text: str) -> str:
    """Text without the titles in it."""
    return re.sub(r'"[^"\n]*"', '""', text)


def named_categories(text: str, vocabulary: list[str]) -> set[str]:
    """Categories that a text names: whole words, any case, plural forgiven."""
    lower = text.lower()
    near = [name for name in vocabulary if name.lower() in lower]
    return {name for name in near if re.search(rf"(?<![\w-]){re.escape(name)}s?(?![\w-])", text, re.I)}


def refuses(text: str) -> bool:
    """Say whether the model spoke of itself instead of the user."""
    return bool(REFUSAL.search(unquoted(text)[:300]))


def loops(text: str) -> bool:
    """Say whether the text goes round in circles: a title stands there thrice, or fewer than 60 % of its runs of four
    words are distinct."""
    titles = re.findall(r'"([^"\n]+)"', text)
    if any(titles.count(title) > 2 for title in titles):
        return True
    words = unquoted(text).lower().split()
    runs = [tuple(words[start : start + 4]) for start in range(len(words) - 3)]
    return len(runs) >= 20 and len(set(runs)) < 0.6 * len(runs)


def english(text: str) -> bool:
    """Say whether a text may be English: Latin letters, and no more foreign function words than English ones.

    A bare list of genres has neither and passes.
    """
    letters = [character for character in unquoted(text) if character.isalpha()]
    words = re.findall(r"[^\W\d_]+", unquoted(text).lower())
    latin = sum(character < "ɐ" for character in letters) >= 0.9 * len(letters)
    return latin and sum(word in FOREIGN for word in words) <= sum(word in ENGLISH for word in words)


def fault(text: str) -> str:
    """Name the hard check that a text fails, or "": such a text is asked for once more, then left out."""
    for wrong, name in (
        (lambda given: len(given.split()) < 5, "empty answer"),
        (refuses, "refusal"),
        (loops, "repetition loop"),
        (lambda given: not english(given), "answer in another language"),
    ):
        if wrong(text):
            return name
    return ""


def claims(text: str, vocabulary: list[str]) -> dict[str, set[str]]:
    """Read off a text which categories it presents as liked, disliked, rising and fading.

    "best" and "worst" take the categories just before them in the same clause ("rates War worst"); every other cue, and
    these where none stands before, takes those that follow ("more War"). Clauses end at stops and at "rates", "while",
    "but", "lately", "who".

    Returns:
        best, worst, rising, fading -> categories.
    """
    found: dict[str, set[str]] = {name: set() for name in CUES}
    clear, cue, last = unquoted(text), "", 0
    near, pending = list(named_categories(clear, vocabulary)), set()
    for match in [*SPLIT.finditer(clear), None]:
        between = named_categories(clear[last : match.start() if match else len(clear)], near)
        target = found[cue] if cue else pending
        target |= between
        if match is None:
            break
        last, kind = match.end(), match.lastgroup
        if kind in ("best", "worst") and pending and not cue:
            found[kind] |= pending
        else:
            cue = "" if kind == "stop" else kind
        pending = set()
    return found


def quoted_titles(text: str) -> set[str]:
    """Titles in double quotes, lower case, without marks at their ends."""
    return {part.strip(" .,;:!").lower() for part in re.findall(r'"([^"\n]{2,90})"', text)}


def disliked_titles(text: str) -> set[str]:
    """Quoted titles that follow "disliked", "worst" or the like; the others are named as favourites.

    A cue counts for the titles after it, up to the next cue of the clause; for those before it where it stands right
    behind one, or behind a form of "be" or "rated", or where it is the first.
    """
    bad: set[str] = set()
    for clause in re.split(r"\bwhile\b|\bbut\b|(?<=[\"\w])\.\s", text):
        cue, before = "", []  # titles since the last cue
        for match in TITLE_OR_CUE.finditer(clause):
            if match["title"]:
                before += quoted_titles(match[0])
                bad |= set(before if cue == "worst" else ())
                continue
            behind = BEHIND.search(clause[: match.start()])
            if match.lastgroup == "worst" and (behind or not cue):
                bad |= set(before[-1:] if cue else before)
            cue, before = "" if behind else match.lastgroup, []
    return bad


COUNTS = ("categories_named", "categories_seen", "categories_liked", "categories_inverted", "categories_supported")
COUNTS += ("trends_claimed", "trends_right", "titles_named", "titles_seen", "titles_inverted")


def fidelity(text: str, history: pd.DataFrame, vocabulary: list[str]) -> dict[str, int]:
    """Compare what a profile says with the history it was written from.

    Returns:
        Counts. `categories_named` (or brands); of those, `categories_seen` in the history, `categories_liked` (among
        the five most frequent or three best rated), `categories_inverted` (presented as the contrary of a fact: the
        worst rated as liked, the fading one as rising, or the other way round) and `categories_supported` (named by a
        fact and not inverted). `trends_claimed` and, of those, `trends_right`: the category's share really moved that
        way between the halves of the history. `titles_named` in quotes; of those, `titles_seen` in the history and
        `titles_inverted` (rated above the user's mean and named as disliked, or at most 2.5 and not above that mean,
        and named as a favourite).
    """
    found, moved = facts(history), trends(history)
    said = claims(text, vocabulary)
    stated = {name: named_categories(found.get(name, ""), vocabulary) for name in CATEGORY_FACTS}
    named = named_categories(unquoted(text), vocabulary)
    seen = {name for names in history["categories"] for name in names} | set(history.get("brand", ()))
    inverted = {name for cue in CUES for name in said[cue] & stated[CONTRARY[cue]] - stated[cue]}
    liked = {*[*shares(history["categories"])][:5], *[*category_means(history)][:3]}
    claimed = [(name, 1) for name in said["rising"]] + [(name, -1) for name in said["fading"]]
    titles, bad = quoted_titles(text), disliked_titles(text)
    ratings = {
        clean(title, 80).strip(" .,;:!").lower(): value
        for title, value in zip(history["title"], history["value"], strict=True)
    }
    mean = history["value"].mean()
    return {
        "categories_named": len(named),
        "categories_seen": len(named & seen),
        "categories_liked": len(named & liked),
        "categories_inverted": len(inverted),
        "categories_supported": len(named & set().union(*stated.values()) - inverted),
        "trends_claimed": len(claimed),
        "trends_right": sum(moved.get(name, 0) * direction > 0 for name, direction in claimed),
        "titles_named": len(titles),
        "titles_seen": len(titles & ratings.keys()),
        "titles_inverted": sum(
            ratings[title] > mean if title in bad else ratings[title] <= min(2.5, mean)
            for title in titles & ratings.keys()
        ),
    }


def audit(texts: pd.DataFrame, histories: dict[int, pd.DataFrame], vocabulary: list[str]) -> pd.DataFrame:
    """Check every profile.

    Args:
        texts: columns user, text, finish; one row per profile.
        histories: user -> training history.
        vocabulary: names of categories (and brands) to look for.

    Returns:
        One row per profile: user, words, cut (its answer hit the token limit), the counts of `fidelity`, and `wrong`,
        what in it is false: categories not seen or inverted, trends the wrong way, titles unseen or inverted.
    """
    rows = []
    for row in texts.itertuples():
        counts = fidelity(row.text, histories[row.user], vocabulary)
        wrong = counts["categories_named"] - counts["categories_seen"] + counts["categories_inverted"]
        wrong += counts["trends_claimed"] - counts["trends_right"]
        wrong += counts["titles_named"] - counts["titles_seen"] + counts["titles_inverted"]
        words, cut = len(row.text.split()), row.finish == "length"
        rows.append({"user": row.user, "words": words, "cut": cut, **counts, "wrong": wrong})
    return pd.DataFrame(rows, columns=["user", "words", "cut", *COUNTS, "wrong"], dtype=None if rows else int)


def summary(checked: pd.DataFrame) -> dict[str, float]:
    """Shares over all profiles of an audit; NaN where nothing of the kind is named."""
    total = checked.sum(numeric_only=True)

    def share(part: str, of: str) -> float:
        return float(total[part] / total[of]) if total[of] else float("nan")

    return {
        "words": float(checked["words"].mean()),
        "cut_share": float(checked["cut"].mean()),
        "unsupported_share": 1 - share("categories_supported", "categories_named"),
        "unseen_category_share": 1 - share("categories_seen", "categories_named"),
        "inverted_category_share": share("categories_inverted", "categories_named"),
        "wrong_trend_share": 1 - share("trends_right", "trends_claimed"),
        "unseen_title_share": 1 - share("titles_seen", "titles_named"),
        "inverted_title_share": share("titles_inverted", "titles_named"),
    }

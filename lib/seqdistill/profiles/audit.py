"""Is a profile what was asked for, and is it true? Everything is checked against the history it was written from."""

import re

import pandas as pd

from seqdistill.profiles.facts import category_means, clean, facts, shares, trends

REFUSALS = r"as an ai\b|i('m| am) sorry|i (can ?not|can't|am unable to|am not able to)|unable to (assist|help|provide)"
REFUSAL = re.compile(rf"\b({REFUSALS})", re.I)
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
CONTRARY = {"best": "worst", "worst": "best", "rising": "fading", "fading": "rising"}
BREAKS = r"[.;:!?\n]|\brat(?:es|ed|ing)\b|\bwhile\b|\bbut\b|\blately\b|\bwho\b"
SPLIT = re.compile("|".join([rf"(?P<stop>{BREAKS})", *(rf"(?P<{cue}>\b(?:{CUES[cue]})\b)" for cue in CUES)]), re.I)
TITLE_OR_CUE = re.compile(
    rf'"(?P<title>[^"\n]{{2,90}})"|\b(?P<worst>least\s+\w+|{CUES["worst"]})\b|\b(?P<best>{CUES["best"]})\b', re.I
)
BEHIND = re.compile(r'("|\b(is|are|was|were|rated)( an?)?)\s*$', re.I)
BASES = ["categories_named", "trends_claimed", "titles_named"]
COUNTS = ("categories_named", "categories_seen", "categories_liked", "categories_inverted", "categories_supported")
COUNTS += ("trends_claimed", "trends_right", "titles_named", "titles_seen", "titles_inverted")


def unquoted(text: str) -> str:
    """Text without the titles in it."""
    return re.sub(r'"[^"\n]*"', '""', text)


def normalised(title: str) -> str:
    """Title in lower case, without marks at its ends."""
    return title.strip(" .,;:!").lower()


def named_categories(text: str, vocabulary: list[str]) -> set[str]:
    """Categories that a text names: whole words, any case, plural forgiven."""
    lower = text.lower()
    near = [name for name in vocabulary if name.lower() in lower]
    return {name for name in near if re.search(rf"(?<![\w-]){re.escape(name)}s?(?![\w-])", text, re.I)}


def fault(text: str) -> str:
    """Name the hard check that a text fails, or "": such a text is asked for once more, then left out."""
    clear, titles = unquoted(text), re.findall(r'"([^"\n]+)"', text)
    words, tokens = clear.lower().split(), re.findall(r"[^\W\d_]+", clear.lower())
    runs, letters = list(zip(words, words[1:], words[2:], words[3:], strict=False)), "".join(filter(str.isalpha, clear))
    repeated = any(titles.count(title) > 2 for title in titles)
    repeated |= len(runs) >= 20 and len(set(runs)) < 0.6 * len(runs)
    latin = sum(letter < "ɐ" for letter in letters) >= 0.9 * len(letters)
    foreign = sum(token in FOREIGN for token in tokens) > sum(token in ENGLISH for token in tokens)
    checks = {"empty answer": len(text.split()) < 5, "refusal": REFUSAL.search(clear[:300])}
    checks |= {"repetition loop": repeated, "answer in another language": foreign or not latin}
    return next((name for name, failed in checks.items() if failed), "")


def claims(text: str, vocabulary: list[str]) -> dict[str, set[str]]:
    """Read off a text which categories it presents as best, worst, rising and fading.

    "best" and "worst" take the categories just before them in the same clause ("rates War worst"); every other cue, and
    these where none stands before, takes those that follow ("more War").
    """
    claimed: dict[str, set[str]] = {cue: set() for cue in CUES}
    clear, cue, last = unquoted(text), "", 0
    near, pending = list(named_categories(clear, vocabulary)), set()
    for match in SPLIT.finditer(f"{clear}\n"):
        target = claimed[cue] if cue else pending
        target |= named_categories(clear[last : match.start()], near)
        last, kind = match.end(), match.lastgroup
        if kind in ("best", "worst") and pending and not cue:
            claimed[kind] |= pending
        else:
            cue = "" if kind == "stop" else kind
        pending = set()
    return claimed


def disliked_titles(text: str) -> set[str]:
    """Quoted titles that follow "disliked", "worst" or the like; the others are named as favourites.

    A cue counts for the titles after it, up to the next cue of the clause; for those before it where it stands right
    behind one, or behind a form of "be" or "rated", or where it is the first.
    """
    disliked: set[str] = set()
    for clause in re.split(r"\bwhile\b|\bbut\b|(?<=[\"\w])\.\s", text):
        cue, before = "", []  # titles since the last cue
        for match in TITLE_OR_CUE.finditer(clause):
            if match["title"]:
                before.append(normalised(match["title"]))
                disliked |= set(before if cue == "worst" else ())
                continue
            behind = BEHIND.search(clause[: match.start()])
            if match.lastgroup == "worst" and (behind or not cue):
                disliked |= set(before[-1:] if cue else before)
            cue, before = "" if behind else match.lastgroup, []
    return disliked


def fidelity(text: str, history: pd.DataFrame, vocabulary: list[str]) -> dict[str, int]:
    """Compare what a profile says with the history it was written from; counts of `COUNTS`.

    Categories (or brands) are *seen* in the history, *liked* (of the five most frequent or three best rated),
    *inverted* (presented as the contrary of a fact: the worst rated as liked, the fading one as rising, or the other
    way round), *supported* (named by a fact and not inverted). A trend is *right* if the category's share moved that
    way between the halves of the history. A title in quotes is *inverted* if it is rated above the user's mean and
    named as disliked, or at most 2.5 and not above that mean, and named as a favourite.
    """
    computed, moved, mean = facts(history), trends(history), history["value"].mean()
    stated = {name: named_categories(computed.get(name, ""), vocabulary) for name in ("frequent", *CUES)}
    said, named = claims(text, vocabulary), named_categories(unquoted(text), vocabulary)
    inverted = set().union(*(said[cue] & stated[CONTRARY[cue]] - stated[cue] for cue in CUES))
    seen = {name for names in history["categories"] for name in names} | set(history.get("brand", ()))
    liked = {*[*shares(history["categories"])][:5], *[*category_means(history)][:3]}
    titles, disliked = {normalised(title) for title in re.findall(r'"([^"\n]{2,90})"', text)}, disliked_titles(text)
    rated = zip(history["title"], history["value"], strict=True)
    ratings = {name: value for title, value in rated if (name := normalised(clean(title, 80))) in titles}
    turned = [value > mean if name in disliked else value <= min(2.5, mean) for name, value in ratings.items()]
    right = [moved.get(name, 0) > 0 for name in said["rising"]] + [moved.get(name, 0) < 0 for name in said["fading"]]
    supported = named & set().union(*stated.values()) - inverted
    counts = [len(part) for part in (named, named & seen, named & liked, inverted, supported, right)]
    counts += [sum(right), len(titles), len(ratings), sum(turned)]
    return dict(zip(COUNTS, counts, strict=True))


def audit(texts: pd.DataFrame, histories: dict[int, pd.DataFrame], vocabulary: list[str]) -> pd.DataFrame:
    """Check profiles (user, text, finish): words, cut at the token limit, counts of `fidelity`, number of wrong claims.

    `vocabulary`: names of categories (and brands) to look for. `wrong` adds up categories not seen or inverted, trends
    the wrong way, titles unseen or inverted.
    """
    rows = [
        {"user": row.user, "words": len(row.text.split()), "cut": row.finish == "length"}
        | fidelity(row.text, histories[row.user], vocabulary)
        for row in texts.itertuples()
    ]
    table = pd.DataFrame(rows, columns=["user", "words", "cut", *COUNTS], dtype=None if rows else int)
    unseen = table[BASES].sum(axis=1)
    unseen -= table[["categories_seen", "trends_right", "titles_seen"]].sum(axis=1)
    return table.assign(wrong=unseen + table["categories_inverted"] + table["titles_inverted"])


def summary(checked: pd.DataFrame) -> dict[str, float]:
    """Shares over all profiles of an audit; NaN where nothing of the kind is named."""
    total = checked[[*COUNTS]].sum()
    categories, trend, titles = (total[name] or float("nan") for name in BASES)
    return {
        "words": float(checked["words"].mean()),
        "cut_share": float(checked["cut"].mean()),
        "unsupported_share": 1 - total["categories_supported"] / categories,
        "unseen_category_share": 1 - total["categories_seen"] / categories,
        "inverted_category_share": total["categories_inverted"] / categories,
        "wrong_trend_share": 1 - total["trends_right"] / trend,
        "unseen_title_share": 1 - total["titles_seen"] / titles,
        "inverted_title_share": total["titles_inverted"] / titles,
    }

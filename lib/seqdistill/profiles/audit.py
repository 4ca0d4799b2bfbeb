"""Is a profile what was asked for, and is it true? Everything is checked against the history it was written from."""

import re
from itertools import count

import pandas as pd

from seqdistill.profiles.facts import category_means, clean, facts, shares, trends

REFUSAL = r"\b(as an ai\b|i('m| am) sorry|i (can ?not|can't)|i am (unable|not able) to|unable to (assist|help|provide))"
ENGLISH = "a an and are as at but by for from has have in is it of on or that the this to who with"
FOREIGN = "der das ein eine einer für mit und von ist nicht le les des et une est pour "
FOREIGN += "el los las una con y que il di che per uma em"
# What a cue word claims about nearby names. It may follow them ("rates War worst") or precede them ("more War").
CUES = {
    "best": r"(?<!least )(?:best|highest|loves?|favou?rites?|enjoys?|prefers?|likes|liked)",
    "worst": r"worst|lowest|dislikes?|disliked|hates?|avoids?|least|poorly",
    "rising": r"more|rising|increas\w+|growing|grown|towards?",
    "fading": r"less|fewer|fading|declin\w+|decreas\w+|away from|dropp\w+",
}
CONTRARY = {"best": "worst", "worst": "best", "rising": "fading", "fading": "rising"}
BREAKS = r"[.;!?\n]|:(?! \")|\brat(?:es|ed|ing)\b(?! best| worst)|\bwhile\b|\bbut\b|\blately\b|\bwho\b|\bwith(?= \")"
SPLIT = re.compile("|".join([rf"(?P<stop>{BREAKS})", *(rf"(?P<{cue}>\b(?:{CUES[cue]})\b)" for cue in CUES)]), re.I)
ARTICLES = "the|a|an|der|die|das|den|det|le|la|les|l'|el|los|las|il|i|lo|gli|un|une|una|o|os|as"  # moved behind a title
TITLE = re.compile(r'"([^"\n]*)"')


def normalised(title: str) -> str:
    """Title in lower case, without marks at its ends, its article in front: "Matrix, The" is "the matrix"."""
    title = title.strip(" .,;:!").lower()
    return re.sub(rf"^([^(]+), ({ARTICLES})(?=$| \()", r"\2 \1", title)


def named_categories(text: str, vocabulary: list[str]) -> set[str]:
    """Categories that a text names: whole words in any case, with or without a plural s."""
    lower = text.lower()
    near = [name for name in vocabulary if name.lower() in lower]
    return {name for name in near if re.search(rf"(?<![\w-]){re.escape(name)}s?(?![\w-])", text, re.I)}


def fault(text: str) -> str:
    """Name the hard check that a text fails, or "". A failing text is requested once more, then left out."""
    clear, titles = TITLE.sub('""', text), TITLE.findall(text)
    words, tokens = clear.lower().split(), re.findall(r"[^\W\d_]+", clear.lower())
    runs, letters = list(zip(words, words[1:], words[2:], words[3:], strict=False)), "".join(filter(str.isalpha, clear))
    repeated = any(title and titles.count(title) > 2 for title in titles)
    repeated |= len(runs) >= 20 and len(set(runs)) < 0.6 * len(runs)
    latin = sum(letter < "ɐ" for letter in letters) >= 0.9 * len(letters)
    foreign = sum(token in FOREIGN.split() for token in tokens) > sum(token in ENGLISH.split() for token in tokens)
    checks = {
        "empty answer": len(text.split()) < 5,
        "refusal": re.search(REFUSAL, clear[:300], re.I),
        "repetition loop": repeated,
        "answer in another language": foreign or not latin,
    }
    return next((name for name, failed in checks.items() if failed), "")


def claims(text: str, vocabulary: list[str]) -> dict[str, set[str]]:
    """Extract which categories and titles ("in quotes", normalised) a text calls best, worst, rising and fading.

    "best" and "worst" refer to the names just before them in the same clause ("rates War worst"). If there are none,
    and for every other cue, the names that follow count ("more War"). If a quotation mark is missing, the text between
    two titles looks quoted; it begins or ends with a blank or comma, and is skipped.
    """
    claimed: dict[str, set[str]] = {cue: set() for cue in CUES}
    titles, numbers = TITLE.findall(text), count()
    clear = TITLE.sub(lambda _: f'"_{next(numbers)}"', text)  # words of a title claim nothing
    near, cue, last, pending = list(named_categories(clear, vocabulary)), "", 0, set()
    for match in SPLIT.finditer(f"{clear}\n"):
        part, kind = clear[last : match.start()], match.lastgroup
        quoted = [titles[int(number)] for number in re.findall(r'"_(\d+)"', part)]
        names = {f'"{normalised(title)}"' for title in quoted if title == title.strip(" ,;")}
        names |= named_categories(part, near)
        (claimed[cue] if cue else pending).update(names)
        if kind in ("best", "worst") and pending and not cue:
            claimed[kind] |= pending
        else:
            cue = "" if kind == "stop" else kind
        last, pending = match.end(), set()
    return claimed


def fidelity(text: str, history: pd.DataFrame, vocabulary: list[str]) -> dict[str, int]:
    """Compare what a profile says with the history that it was written from.

    Categories (or brands) are *seen* in the history, *liked* (of the five most frequent or three best rated),
    *inverted* (presented as the contrary of a fact: the worst rated as liked, the fading one as rising, or the other
    way round), *supported* (named by a fact and not inverted). A trend is *right* if the category's share moved that
    way between the halves of the history. A superlative (best or worst) is *invented* if the profile gives it to a
    category and no fact does; `superlatives_open` counts the two that no fact states. A title in quotes is *inverted*
    if it is named as disliked but rated above the user's mean, or not named as disliked but rated at most 2.5 and not
    above the mean. `wrong` adds up what is inverted or invented, wrong trends, and unseen categories and titles.
    """
    computed, moved, mean = facts(history), trends(history), history["value"].mean()
    stated = {name: named_categories(computed.get(name, ""), vocabulary) for name in ("frequent", *CUES)}
    said, named = claims(text, vocabulary), named_categories(TITLE.sub('""', text), vocabulary)
    inverted = set().union(*(said[cue] & stated[CONTRARY[cue]] - stated[cue] for cue in CUES))
    seen = {name for names in history["categories"] for name in names} | set(history.get("brand", ()))
    liked = {*[*shares(history["categories"])][:5], *[*category_means(history)][:3]}
    titles = {normalised(title) for title in re.findall(r'"([^"\n]{2,90})"', text)}
    rated = zip(history["title"], history["value"], strict=True)
    ratings = {name: value for title, value in rated if (name := normalised(clean(title, 80))) in titles}
    turned = [
        value > mean if f'"{name}"' in said["worst"] else value <= min(2.5, mean) for name, value in ratings.items()
    ]
    open_cues = [cue for cue in ("best", "worst") if not stated[cue]]
    rising, fading = said["rising"] & named, said["fading"] & named
    right = [moved.get(name, 0) > 0 for name in rising] + [moved.get(name, 0) < 0 for name in fading]
    counts = {
        "categories_named": len(named),
        "categories_seen": len(named & seen),
        "categories_liked": len(named & liked),
        "categories_inverted": len(inverted),
        "categories_supported": len(named & set().union(*stated.values()) - inverted),
        "superlatives_open": len(open_cues),
        "superlatives_invented": sum(bool(said[cue] & named) for cue in open_cues),
        "trends_claimed": len(right),
        "trends_right": sum(right),
        "titles_named": len(titles),
        "titles_seen": len(ratings),
        "titles_inverted": sum(turned),
    }
    unseen = counts["categories_named"] - counts["categories_seen"] + counts["titles_named"] - counts["titles_seen"]
    wrong = unseen + counts["trends_claimed"] - counts["trends_right"]
    others = ("categories_inverted", "superlatives_invented", "titles_inverted")
    return counts | {"wrong": wrong + sum(counts[name] for name in others)}


def audit(texts: pd.DataFrame, histories: dict[int, pd.DataFrame], vocabulary: list[str]) -> pd.DataFrame:
    """Check profiles (user, text, finish): words, cut at the limit, `fidelity`; vocabulary: categories and brands."""
    rows = [
        {"user": row.user, "words": len(row.text.split()), "cut": row.finish == "length"}
        | fidelity(row.text, histories[row.user], vocabulary)
        for row in texts.itertuples()
    ]
    return pd.DataFrame(rows)


def summary(checked: pd.DataFrame) -> dict[str, float]:
    """Shares over all profiles of an audit; NaN where nothing of the kind is named."""
    total = checked.sum()
    names = ("categories_named", "superlatives_open", "trends_claimed", "titles_named")
    categories, superlatives, trend, titles = (total[name] or float("nan") for name in names)
    return {
        "words": float(checked["words"].mean()),
        "cut_share": float(checked["cut"].mean()),
        "unsupported_share": 1 - total["categories_supported"] / categories,
        "unseen_category_share": 1 - total["categories_seen"] / categories,
        "inverted_category_share": total["categories_inverted"] / categories,
        "invented_superlative_share": total["superlatives_invented"] / superlatives,
        "wrong_trend_share": 1 - total["trends_right"] / trend,
        "unseen_title_share": 1 - total["titles_seen"] / titles,
        "inverted_title_share": total["titles_inverted"] / titles,
    }

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st
from seqdistill.profiles import facts

NAN = float("nan")


@given(st.text(max_size=300), st.integers(1, 100))
def test_cleaned_text_is_one_safe_line(text, most):
    cleaned = facts.clean(text, most)
    assert len(cleaned) <= most and len(cleaned.splitlines()) <= 1 and not set(cleaned) & set('"<>\x00\u202e')
    assert not facts.MARKUP.search(cleaned)


def test_cleaned_by_hand():
    cleaned = {"two\r\n\tlines\u2028here": "two lines here", "[IN[INST]ST]x[/I[/I<NST]NST]": "x"}
    cleaned |= {"n\x00o\u202ene": "none", "left  as it is": "left  as it is"}
    assert {text: facts.clean(text, 80) for text in cleaned} == cleaned


def test_facts_by_hand():
    history = pd.DataFrame({"title": list("ABCDEFGH"), "year": [1981.0] * 5 + [1999.0] * 3})
    history["categories"] = [["War"]] * 4 + [["Sci-Fi"]] * 3 + [["War", "Sci-Fi"]]
    history["value"] = [1.0, 2.0, 1.0, 2.0, 5.0, 4.0, 5.0, 5.0]
    told = {"frequent": "War, Sci-Fi", "rater": "strict", "best": "Sci-Fi", "worst": "War", "loved": '"H", "G", "E"'}
    told |= {"disliked": '"A"', "decade": "1980s", "rising": "Sci-Fi", "fading": "War"}
    assert facts.facts(history) == told
    unrated = history.assign(value=NAN, year=NAN, categories=[["X"]] * 8)
    assert facts.facts(unrated) == {"frequent": "X", "latest": '"H", "G", "F"', "rising": "", "fading": ""}


def test_ties_between_trends_are_told_alike_for_ever():
    halves = [["B"], ["A"], ["D"], ["C"]], [["B", "A"]] * 3 + [["B"]] + [["B", "A"]] * 2 + [["B"], []]
    other, alike = (facts.trends(pd.DataFrame({"categories": events})) for events in halves)
    assert list(other.items()) == [("A", -0.5), ("B", -0.5), ("C", 0.5), ("D", 0.5)]
    assert list(alike.items()) == [("B", -0.25), ("A", -0.25)]


def test_means_leave_out_what_is_not_rated():
    history = pd.DataFrame({"categories": [["X"]] * 5 + [["Y"]] * 3, "value": [5.0, 4.0, NAN, 4.0, 3.0, 1.0, 1.0, 1.0]})
    assert facts.category_means(history) == {"X": 4.0}

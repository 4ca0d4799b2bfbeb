import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqdistill.embeddings import teachers
from seqdistill.io import UserError
from seqdistill.profiles.facts import histories

ITEMS = pd.DataFrame(
    {"item": range(1, 31), "title": [f"T{i}" for i in range(1, 31)], "categories": ["A|B", "C", "D"] * 10}
)


@given(st.integers(2, 60), st.integers(0, 2**31))
def test_a_derangement_leaves_nothing_in_place(n, seed):
    order = teachers.derangement(np.random.default_rng(seed).permutation(n))
    assert sorted(order) == list(range(n)) and (order != np.arange(n)).all()


def test_no_held_out_event_reaches_the_text_of_a_source(events):
    held = events["split"] != "train"
    fresh = events.copy()
    fresh.loc[held, "item"] = range(31, 31 + held.sum())
    marked = pd.DataFrame({"item": range(31, 31 + held.sum()), "title": "MARKER", "categories": "Leaked"})
    read = histories(fresh[fresh["split"] == "train"], pd.concat([ITEMS, marked]))
    asked = []

    def encode(texts):
        asked.extend(texts)
        return np.zeros((len(texts), 2))

    for source in ("facts", "raw-history"):
        teachers.source_vectors(source, pd.Series("p", index=list(read)), read, np.zeros((30, 2)), encode, 50, 0)
    text = "\n".join(asked)
    assert len(asked) == 2 * len(read) and "T1" in text and "C" in text
    assert "MARKER" not in text and "Leaked" not in text
    with pytest.raises(UserError, match="outside the training split"):
        histories(fresh, pd.concat([ITEMS, marked]))


def letters(texts):
    return np.array([[text == "x", text == "y"] for text in texts], float)


@pytest.mark.parametrize(
    ("source", "vectors"),
    [
        ("profile", [[0.5, 0.5], [1, 0]]),  # the mean of a user's parts
        ("shuffled", [[1, 0], [0.5, 0.5]]),
        ("item-text", [[1, 2], [3, 3]]),
        ("noise", np.random.default_rng(0).standard_normal((2, 2))),
    ],
)
def test_sources_by_hand(source, vectors):
    texts = pd.Series(["x", "y", "x"], index=[4, 4, 7])
    read = {4: pd.DataFrame({"item": [1, 2]}), 7: pd.DataFrame({"item": [3]})}
    items = np.array([[0.0, 1], [2, 3], [3, 3]])
    made = teachers.source_vectors(source, texts, read, items, letters, 5, 0)
    np.testing.assert_allclose(made, vectors, rtol=1e-6)


def test_an_unknown_source_is_named():
    with pytest.raises(UserError, match='"profil" is not a teacher; choose one of profile, facts'):
        teachers.source_vectors("profil", pd.Series(dtype=str), {}, np.zeros((1, 2)), letters, 5, 0)

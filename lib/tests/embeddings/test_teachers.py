import numpy as np
import pandas as pd
import pytest
from seqdistill.embeddings import teachers
from seqdistill.io import UserError
from seqdistill.profiles.facts import facts_text, history_lines


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


def test_without_an_llm_a_text_is_made_from_the_history_alone():
    one = pd.DataFrame({"title": list("ABC"), "categories": [["X"], ["Y"], ["X"]], "year": 1990, "value": 4.0})
    profiles, read, asked = pd.Series("p", index=[7, 4]), {7: one, 4: one[1:]}, []

    def encode(texts):
        asked.extend(texts)
        return np.zeros((len(texts), 2))

    for source in ("facts", "raw-history"):
        teachers.source_vectors(source, profiles, read, None, encode, 1, 0)
    assert asked == [facts_text(one, {}), facts_text(one[1:], {}), *history_lines(one.tail(1)) * 2]


def test_an_unknown_source_is_named():
    with pytest.raises(UserError, match='"profil" is not a teacher; choose one of profile, facts'):
        teachers.source_vectors("profil", pd.Series(dtype=str), {}, np.zeros((1, 2)), letters, 5, 0)

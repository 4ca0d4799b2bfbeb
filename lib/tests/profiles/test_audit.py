import numpy as np
import pandas as pd
import pytest
from seqdistill.profiles import audit

WORDS = ["0", "Action", "Comedy", "Crime", "Drama", "Film-Noir", "Romance", "Sci-Fi", "Thriller", "War"]
# War is the worst and fading, Sci-Fi the best and rising.
HISTORY = pd.DataFrame({"title": ["Patton", "Stalag 17", "Platoon", "Glory", "Alien", "Dune", "Solaris", "Contact"]})
HISTORY = HISTORY.assign(categories=[["War"]] * 4 + [["Sci-Fi"]] * 4, value=[1.0, 2, 1, 1, 5, 5, 5, 4], year=1980.0)
TRUE = 'A viewer who rates Sci-Fi best and War worst. Favourites are "Alien" and "Dune", while "Patton" was disliked. Lately there is more Sci-Fi and less War.'
TURNED = 'A viewer who rates War best and Sci-Fi worst. Favourites are "Patton" and "Dune", while "Alien" was disliked. Lately there is more War and less Sci-Fi.'
INVENTED = 'A viewer who rates Romance best. A favourite is "Titanic". Lately there is more Romance.'
CLAIMS = {
    "who rates Crime and Thriller best and Romance worst.": {"best": "Crime Thriller", "worst": "Romance"},
    "Lately there is more Crime and less Action.": {"rising": "Crime", "fading": "Action"},
    "Views Drama, Action films, who rates War, Romance best and Drama worst.": {
        "best": "War Romance",
        "worst": "Drama",
    },
    "Loves comedies and Dramas but dislikes War; now turns to Action.": {"best": "Drama", "worst": "War"},
    "now turns towards Sci-Fi and away from Film-Noir.": {"rising": "Sci-Fi", "fading": "Film-Noir"},
    "Crime is declining. Increasingly Comedy.": {"rising": "Comedy"},
    'Favourites are "War" and "More_Drama", "0" too.': {"best": '"war" "more_drama" "0"'},
    "Watches Comedy and Drama.": {},
    "Likes Dramas, film-noir and Sci-Fi, no melodrama, no War-like scenes.": {"best": "Drama Film-Noir Sci-Fi"},
    'Rates War worst and likes "Heat" and "Alien".': {"worst": "War", "best": '"heat" "alien"'},
    'Likes "Heat" but dislikes "Alien" and "Jaws".': {"best": '"heat"', "worst": '"alien" "jaws"'},
    '"Heat" and "Jaws" are disliked. "Alien" is a favourite.': {"worst": '"heat" "jaws"', "best": '"alien"'},
    'Their least favourite film is "Jaws".': {"worst": '"jaws"'},
    'Least liked: "Jaws"; most liked: "Heat".': {"worst": '"jaws"', "best": '"heat"'},
    '"Heat" is a favourite and "Jaws" is disliked.': {"worst": '"jaws"', "best": '"heat"'},
    'Rates "Heat" best and "Alien" worst.': {"worst": '"alien"', "best": '"heat"'},
    'Likes "Heat", with "Alien" rated worst.': {"worst": '"alien"', "best": '"heat"'},
}


@pytest.mark.parametrize("text", CLAIMS)
def test_claims_by_hand(text):
    assert audit.claims(text, WORDS) == {cue: set(CLAIMS[text].get(cue, "").split()) for cue in audit.CUES}


LISTED = {
    "The Matrix": "Matrix, The",
    "Matrix, The": "Matrix, The",
    "a beautiful mind": "Beautiful Mind, A",
    "Il Postino (Postman, The)": "Postino, Il (Postman, The)",
    "Les Misérables": "Misérables, Les",
    "Kill Bill: Vol. 1": "Kill Bill: Vol. 1",
    "Mr. & Mrs. Smith": "Mr. & Mrs. Smith",
}


@pytest.mark.parametrize("written", LISTED)
def test_a_title_is_known_as_people_write_it(written):
    history = HISTORY.assign(title=[LISTED[written], *HISTORY["title"][1:]], value=[5.0, 1, 1, 1, 1, 1, 1, 1])
    counts = audit.fidelity(f'The viewer dislikes "{written}" and likes "Alien".', history, WORDS)
    assert (counts["titles_named"], counts["titles_seen"], counts["titles_inverted"]) == (2, 2, 2)
    assert audit.fidelity(f'The viewer likes "{written}".', history, WORDS)["titles_inverted"] == 0


def test_what_is_false_is_counted_and_the_summary_gives_shares():
    texts = pd.DataFrame({"user": [0, 1, 2], "text": [TRUE, TURNED, INVENTED], "finish": ["stop", "length", "stop"]})
    checked = audit.audit(texts, dict.fromkeys(range(3), HISTORY), WORDS)
    assert checked.drop(columns=["user", "words", "cut"]).to_numpy().tolist() == [
        [2, 2, 2, 0, 2, 0, 0, 2, 2, 3, 3, 0, 0],
        [2, 2, 2, 2, 0, 0, 0, 2, 0, 3, 3, 2, 6],
        [1, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 3],
    ]
    shares = {"words": 67 / 3, "cut_share": 1 / 3, "unsupported_share": 3 / 5, "unseen_category_share": 1 / 5}
    shares |= {"inverted_category_share": 2 / 5, "invented_superlative_share": np.nan, "wrong_trend_share": 3 / 5}
    shares |= {"unseen_title_share": 1 / 7, "inverted_title_share": 2 / 7}
    assert audit.summary(checked) == pytest.approx(shares, nan_ok=True)
    few = HISTORY[:2]  # too few ratings for a genre to be the best or the worst
    invented = audit.audit(texts[:1].assign(text="A viewer of films who rates War best."), {0: few}, WORDS)
    assert invented[["superlatives_open", "superlatives_invented"]].to_numpy().tolist() == [[2, 1]]
    assert audit.summary(invented)["invented_superlative_share"] == 0.5 and invented["wrong"][0] >= 1
    silent = audit.summary(audit.audit(texts[:1].assign(text="A viewer of the old and the new."), {0: HISTORY}, WORDS))
    assert pd.Series(silent).drop(["words", "cut_share"]).isna().all()


FAULTS = {
    TRUE: "",
    "": "empty answer",
    "I'm sorry, but I cannot write a profile of this person.": "refusal",
    'A viewer of "I\'m Sorry", the film, and of others like it that are old.': "",
    "the viewer likes war and films and " * 12: "repetition loop",
    'Likes "The Lion King II", "The Lion King II", "The Lion King II" and Drama.': "repetition loop",
    "Zuschauer mit einer Vorliebe für Dramen und Krimis aus alten Jahren": "answer in another language",
    "Un spectateur qui aime les drames et les comédies pour le plaisir": "answer in another language",
    "Preferences: Genres: Comedy, Crime, Drama; Behaviour: strictly, widely": "",
    "Этот зритель любит драмы и комедии и старые фильмы": "answer in another language",
}


def test_hard_checks_by_hand():
    assert {text: audit.fault(text) for text in FAULTS} == FAULTS

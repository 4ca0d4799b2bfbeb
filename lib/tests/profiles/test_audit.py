import pandas as pd
import pytest
from seqdistill.profiles import audit

WORDS = ["Action", "Comedy", "Crime", "Drama", "Film-Noir", "Romance", "Sci-Fi", "Thriller", "War"]


@pytest.mark.parametrize(
    ("text", "best", "worst", "rising", "fading"),
    [
        ("who rates Crime and Thriller best and Romance worst.", "Crime Thriller", "Romance", "", ""),
        ("Lately there is more Crime and less Action.", "", "", "Crime", "Action"),
        (
            "A viewer of Drama, Action films, who rates War, Romance best and Drama worst.",
            "War Romance",
            "Drama",
            "",
            "",
        ),
        (
            "Loves comedies and Dramas but dislikes War; now turns towards Sci-Fi and away from Film-Noir.",
            "Drama",
            "War",
            "Sci-Fi",
            "Film-Noir",
        ),
        ("Crime is declining. Increasingly Comedy.", "", "", "Comedy", ""),
        ('Favourites are "War and Peace" and "More Drama".', "", "", "", ""),
        ("Watches Comedy and Drama.", "", "", "", ""),
    ],
)
def test_claims_by_hand(text, best, worst, rising, fading):
    expected = {"best": best, "worst": worst, "rising": rising, "fading": fading}
    assert audit.claims(text, WORDS) == {name: set(words.split()) for name, words in expected.items()}


# War 1.0 four times, then Sci-Fi 5.0 four times: War is the worst and fading, Sci-Fi the best and rising.
HISTORY = pd.DataFrame(
    {
        "title": ["Patton", "Stalag 17", "Platoon", "Glory", "Alien", "Dune", "Solaris", "Contact"],
        "categories": [["War"]] * 4 + [["Sci-Fi"]] * 4,
        "value": [1.0, 2.0, 1.0, 1.0, 5.0, 5.0, 5.0, 4.0],
        "year": 1980.0,
    }
)
TRUE = 'A viewer who rates Sci-Fi best and War worst. Favourites are "Alien" and "Dune", while "Patton" was disliked. Lately there is more Sci-Fi and less War.'
TURNED = 'A viewer who rates War best and Sci-Fi worst. Favourites are "Patton" and "Dune", while "Alien" was disliked. Lately there is more War and less Sci-Fi.'
INVENTED = 'A viewer who rates Romance best. A favourite is "Titanic". Lately there is more Romance.'


def test_a_true_profile_has_nothing_wrong():
    found = audit.fidelity(TRUE, HISTORY, WORDS)
    assert found == {
        "categories_named": 2,
        "categories_seen": 2,
        "categories_liked": 2,
        "categories_inverted": 0,
        "categories_supported": 2,
        "trends_claimed": 2,
        "trends_right": 2,
        "titles_named": 3,
        "titles_seen": 3,
        "titles_inverted": 0,
    }


def test_a_profile_turned_round_is_seen_through():
    found = audit.fidelity(TURNED, HISTORY, WORDS)
    assert (found["categories_inverted"], found["categories_supported"]) == (2, 0)
    assert (found["trends_claimed"], found["trends_right"], found["titles_inverted"]) == (2, 0, 2)


def test_an_invented_profile_is_seen_through():
    found = audit.fidelity(INVENTED, HISTORY, WORDS)
    assert (found["categories_named"], found["categories_seen"], found["categories_supported"]) == (1, 0, 0)
    assert (found["titles_named"], found["titles_seen"]) == (1, 0)
    assert (found["trends_claimed"], found["trends_right"]) == (1, 0)


def test_the_table_counts_what_is_wrong_and_the_summary_gives_shares():
    texts = pd.DataFrame({"user": [0, 1, 2], "text": [TRUE, TURNED, INVENTED], "finish": ["stop", "length", "stop"]})
    checked = audit.audit(texts, dict.fromkeys(range(3), HISTORY), WORDS)
    assert checked["wrong"].tolist() == [0, 6, 3]
    shares = audit.summary(checked)
    assert shares["cut_share"] == pytest.approx(1 / 3)
    assert shares["unsupported_share"] == pytest.approx(3 / 5)
    assert shares["wrong_trend_share"] == pytest.approx(3 / 5)
    assert shares["unseen_title_share"] == pytest.approx(1 / 7)
    assert shares["inverted_title_share"] == pytest.approx(2 / 7)


def test_no_profile_at_all_has_no_shares():
    shares = audit.summary(audit.audit(pd.DataFrame(columns=["user", "text", "finish"]), {}, WORDS))
    full = audit.audit(pd.DataFrame({"user": [0], "text": [TRUE], "finish": ["stop"]}), {0: HISTORY}, WORDS)
    assert shares.keys() == audit.summary(full).keys() and pd.Series(shares).isna().all()
    assert set(audit.COUNTS) == audit.fidelity(TRUE, HISTORY, WORDS).keys()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (TRUE, ""),
        ("", "empty answer"),
        ("I'm sorry, but I cannot write a profile of this person.", "refusal"),
        ('A viewer of "I\'m Sorry", the film, and of others like it that are old.', ""),
        ("the viewer likes war and films and " * 12, "repetition loop"),
        ('Likes "The Lion King II", "The Lion King II", "The Lion King II" and Drama.', "repetition loop"),
        ("Zuschauer mit einer Vorliebe für Dramen und Krimis aus alten Jahren", "answer in another language"),
        ("Un spectateur qui aime les drames et les comédies pour le plaisir", "answer in another language"),
        ("Preferences: Genres: Comedy, Crime, Drama; Behaviour: strictly, widely", ""),
        ("Этот зритель любит драмы и комедии и старые фильмы", "answer in another language"),
    ],
)
def test_hard_checks_by_hand(text, name):
    assert audit.fault(text) == name


def test_every_category_name_is_found_whole_only():
    assert audit.named_categories("Dramas, film-noir and Sci-Fi, no melodrama, no War-like scenes", WORDS) == {
        "Drama",
        "Film-Noir",
        "Sci-Fi",
    }


@pytest.mark.parametrize(
    ("text", "disliked"),
    [
        ('Rates War worst and likes "Heat" and "Alien".', set()),
        ('Likes "Heat" but dislikes "Alien" and "Jaws".', {"alien", "jaws"}),
        ('"Heat" and "Jaws" are disliked. "Alien" is a favourite.', {"heat", "jaws"}),
        ('Favourites are "Heat" and "Jaws".', set()),
        ('Their least favourite film is "Jaws".', {"jaws"}),
        ('Least liked: "Jaws"; most liked: "Heat".', {"jaws"}),
        ('"Heat" is a favourite and "Jaws" is disliked.', {"jaws"}),
        ('Rates "Heat" best and "Alien" worst.', {"alien"}),
        ('Likes "Heat", with "Alien" rated worst.', {"alien"}),
    ],
)
def test_the_last_cue_before_a_title_says_whether_it_is_liked(text, disliked):
    assert audit.disliked_titles(text) == disliked

import numpy as np
import pandas as pd
import pytest
from seqbook.power import components, power, raised, synthetic
from seqdistill.evaluation.significance import assess, decide

SPREAD = {"user_sd": 0.03, "seed_sd": 0.002, "rest_sd": 0.05}
AGAINST, CONTROLS = {"taught 0": "plain", "control 0": "plain"}, {"taught 0": "control 0"}


@pytest.mark.parametrize(("seeds", "students"), [(2, 1), (3, 4)])
def test_a_gain_that_the_control_shows_too_is_found_in_five_tables_of_a_hundred_at_most(seeds, students):
    size = power(SPREAD, [300], [seeds], [0.05], 0.05, students, tables=200)["any"].iloc[0]
    assert size <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)


def test_a_student_whose_seeds_differ_more_than_the_others_is_not_found_more_often():
    rng, found, controls = (
        np.random.default_rng(0),
        [],
        {f"taught {number}": f"control {number}" for number in range(2)},
    )
    against = dict.fromkeys([*controls, *controls.values()], "plain")
    for _ in range(200):
        drawn = synthetic(rng, SPREAD, 300, 3, 0.05, 0.05, 2)
        shifts = 5 * SPREAD["seed_sd"] * rng.standard_normal(3)
        drawn["taught 0"] = [values + shift for values, shift in zip(drawn["taught 0"], shifts, strict=True)]
        found.append((decide(assess(drawn, against, controls))["verdict"] == "significant gain").any())
    assert np.mean(found) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 200)


def test_a_gain_of_the_detectable_size_is_found_four_times_in_five():
    table = assess(synthetic(np.random.default_rng(0), SPREAD, 300, 5, 0.0, 0.0, 1), AGAINST, CONTROLS)
    found = power(SPREAD, [300], [5], [table["detectable"].iloc[1]], students=1, tables=200)["power"].iloc[0]
    assert 0.65 < found < 0.95


def test_the_variances_of_synthetic_tables_are_those_that_they_were_drawn_with():
    drawn = synthetic(np.random.default_rng(0), SPREAD, 4000, 40, 0.0, 0.0, 1)
    found = components((drawn["taught 0"], drawn["plain"]))
    assert found == {name: pytest.approx(value, rel=0.25) for name, value in SPREAD.items()}
    same = pd.Series(np.zeros(5))
    assert set(components(([same, same], [same, same])).values()) == {0.0}


def test_variances_are_averaged_over_pairs_before_what_is_negative_counts_as_none():
    drawn = [synthetic(np.random.default_rng(seed), SPREAD, 300, 3, 0.0, 0.0, 1) for seed in range(60)]
    pairs = [(tables["taught 0"], tables["plain"]) for tables in drawn]
    alone = [components(pair)["seed_sd"] for pair in pairs]
    assert alone.count(0.0) > 10 and components(*pairs)["seed_sd"] == pytest.approx(SPREAD["seed_sd"], rel=0.5)


def test_a_raised_table_is_the_table_of_students_that_gain_more():
    drawn = [synthetic(np.random.default_rng(0), SPREAD, 300, 3, gain, 0.001, 1) for gain in (0.0, 0.006)]
    low, high = (assess(each, AGAINST, CONTROLS) for each in drawn)
    more = raised({name: low[name].to_numpy() for name in low}, 0.006)
    for name in ("delta", "p", "control_delta", "control_p"):
        np.testing.assert_allclose(more[name], high[name])
    assert high["p"].iloc[1] < low["p"].iloc[1]
    same = [pd.Series(np.zeros(5))] * 2
    table = assess({"plain": same, "taught 0": same, "control 0": same}, AGAINST, CONTROLS)
    still = {name: table[name].to_numpy() for name in table}
    assert raised(still, 0.0)["p"][1] == 1 and raised(still, 0.1)["p"][1] == 0

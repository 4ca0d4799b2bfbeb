import numpy as np
import pandas as pd
import pytest
from seqdistill.evaluation.power import components, power, synthetic

SPREAD = {"user_sd": 0.03, "seed_sd": 0.002, "rest_sd": 0.05}


@pytest.mark.parametrize("seeds", [2, 5])
def test_a_gain_that_the_control_shows_too_is_found_in_five_tables_of_a_hundred_at_most(seeds):
    found = power(SPREAD, [300], [seeds], [0.05], lift=0.05, students=1, tables=400).iloc[0]
    assert found["any"] <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400) and found["any"] > 0.001


def test_no_gain_is_found_where_there_is_none_and_more_seeds_find_more():
    none = power(SPREAD, [300], [3], [0.0], tables=200).iloc[0]
    assert none["any"] <= 0.05
    few, many = power(SPREAD, [300], [2, 10], [0.008], tables=60)["power"]
    assert few + 0.2 < many and many > 0.7
    small, large = power(SPREAD, [100, 1000], [3], [0.008], tables=60)["power"]
    assert small + 0.2 < large


def test_the_variances_of_synthetic_tables_are_those_that_they_were_drawn_with():
    drawn = synthetic(np.random.default_rng(0), SPREAD, 4000, 40, 0.0, 0.0, 1)
    found = components(drawn["taught 0"], drawn["plain"])
    assert found == {name: pytest.approx(value, rel=0.25) for name, value in SPREAD.items()}
    same = pd.Series(np.zeros(5))
    assert set(components([same, same], [same, same]).values()) == {0.0}

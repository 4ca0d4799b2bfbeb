import numpy as np
import pandas as pd
import pytest
from scipy import stats
from seqdistill.evaluation.significance import assess, compare, decide, differences, holm, paired
from seqdistill.io import UserError


@pytest.mark.parametrize("gains", [[0.5, 0.5], [0.5]])
def test_a_single_user_and_users_who_all_gain_alike_are_no_sample_to_test(gains):
    found = paired(differences([pd.Series(gains) + 0.1], [pd.Series(gains) * 0 + 0.1]))
    assert found["delta"] == 0.5 and np.isnan([found["p"], found["ci_low"], found["ci_high"]]).all()
    alike = [pd.Series(seed) for seed in ((0.1, 0.3), (0.2, 0.2), (0.3, 0.1))]  # means that differ by rounding
    assert np.isnan(paired(alike)["p"])


def test_users_who_are_all_served_alike_show_no_difference():
    assert paired([pd.Series([0.0, 0.0])])["p"] == 1


def test_of_one_seed_the_p_is_the_t_tests():
    a = pd.Series(np.random.default_rng(3).normal(0.03, 0.2, 200))
    assert paired([a])["p"] == pytest.approx(stats.ttest_1samp(a, 0).pvalue)


def test_seeds_that_differ_widen_the_interval_and_the_p():
    noise, base = pd.Series(np.random.default_rng(0).normal(0, 0.05, 400)), pd.Series(np.zeros(400))
    calm, wild = ([base + 0.02 + noise + shift for shift in shifts] for shifts in ([0, 0, 0], [-0.03, 0, 0.03]))
    narrow, wide = (paired(differences(one, [base] * 3)) for one in (calm, wild))
    assert narrow["delta"] == pytest.approx(wide["delta"]) and narrow["p"] < 0.001 < 0.05 < wide["p"]
    users, seeds = 0.05**2 / 400, 0.03**2 / 3
    df = (users + seeds) ** 2 / (users**2 / 399 + seeds**2 / 2)
    margin = stats.t.ppf(0.975, df) * np.sqrt(users + seeds)
    assert (wide["ci_high"] - wide["ci_low"]) / 2 == pytest.approx(margin, rel=0.01)
    assert paired(differences(wild[:1], [base]))["ci_high"] < 0, "one seed says nothing of the spread over seeds"


def test_holm_by_hand():
    adjusted = holm(pd.Series([0.01, np.nan, 0.04, 0.03]))
    assert adjusted.tolist() == pytest.approx([0.03, np.nan, 0.06, 0.06], nan_ok=True)


def ranked_at(*ranks, users=200):
    """What `rank` returns, of one seed: these ranks again and again, one a user."""
    frame = pd.DataFrame({"user": np.arange(users), "item": 1, "position": 0, "rank_unseen": 1})
    return [frame.assign(rank_all=np.tile(ranks, users // len(ranks)))]


def compared(systems, against, controls=None, last=False, **more):
    return compare(systems, against, "included", last, controls, **more).set_index("variant")


def test_a_difference_is_the_difference_of_the_columns_beside_it():
    plain, other = ranked_at(1, *[12] * 9, users=10), ranked_at(40, *[3] * 9, users=10)
    systems = {"plain": plain, "other": other}
    systems = {name: [frame.assign(user=[0] + [1] * 9) for frame in frames] for name, frames in systems.items()}
    table = compared(systems, {"other": "plain"})
    assert table["ndcg@10"].tolist() == pytest.approx([0.5, 0.25])
    assert table["delta_ndcg@10"].iloc[1] == pytest.approx(-0.25)


def test_a_gain_must_also_beat_its_own_control():
    names = {"plain": (9, 20), "taught": (3, 9), "weak": (3, 9), "lost": (3, 9)}
    names |= {"taught control": (3, 9), "weak control": (20, 20), "lost control": (1, 2)}
    systems = {name: ranked_at(*ranks) * 2 for name, ranks in names.items()}
    controls = {name: f"{name} control" for name in ("taught", "weak", "lost")}
    table = compared(systems, dict.fromkeys([*names][1:], "plain"), controls)
    tried, outside = table.loc[[*controls]], table.drop([*controls])
    assert tried["verdict"].tolist() == ["inconclusive", "significant gain", "inconclusive"]
    assert tried["control_verdict"].tolist() == ["inconclusive", "significant gain", "significant loss"]
    assert tried["p_holm"].tolist()[::2] == [1, 1] and table.loc["weak", "p_holm"] < 0.001
    assert table.loc["weak", "upper_share"] > table.loc["weak", "delta_ndcg@10"] / table.loc["plain", "ndcg@10"]
    assert table.loc["taught", "control_delta_ndcg@10"] == 0 and table["control"].tolist()[1:4] == [*controls.values()]
    assert set(outside["verdict"]) == set(outside["control"]) == {""} and outside["p_holm"].isna().all()
    assert table.loc["weak control", "ci_high"] < 0, "described, without a verdict"


def test_of_one_target_a_user_the_last_is_all():
    systems, against = {"plain": ranked_at(9, 20) * 2, "taught": ranked_at(3, 9, 12, 1) * 2}, {"taught": "plain"}
    single = [compared(systems, against, against, last) for last in (True, False)]
    pd.testing.assert_frame_equal(*single, check_exact=True)  # so chapter 4 tests it once
    again = {name: [pd.concat([one, one.assign(position=1, rank_all=2)]) for one in of] for name, of in systems.items()}
    deltas = [compared(again, against, last=last).loc["taught", "delta_ndcg@10"] for last in (True, False)]
    assert deltas[0] == 0 < deltas[1]


@pytest.mark.parametrize(
    ("seeds", "fixed", "verdict"),
    [((1, 1), [], "one seed"), ((1, 2), [], "one seed"), ((1, 2), ["plain"], "significant gain")],
)
def test_two_runs_of_one_seed_get_no_verdict(seeds, fixed, verdict):
    systems = {"plain": ranked_at(9, 20) * seeds[0], "taught": ranked_at(3, 9) * seeds[1]}
    table = compared(systems, {"taught": "plain"}, fixed=fixed)
    assert table["verdict"].tolist() == ["", verdict] and table["p_holm"].iloc[1] < 0.001 and "once" not in table


def test_groups_count_a_user_in_the_seeds_that_have_them():
    taught = ranked_at(1, 3, 99, users=3) + ranked_at(99, 3, 1, users=3)
    systems = {"plain": ranked_at(99, users=3) * 2, "taught": taught}
    masks, against = [np.array([True, True, False]), np.array([False, True, True])], {"taught": "plain"}
    groups = {"cold": masks, "warm": [~mask for mask in masks]}
    cold, warm = (rows.loc["taught"] for _, rows in compared(systems, against, groups=groups).groupby("group"))
    assert (cold["cases"], cold["users"], cold["seeds"]) == (4, 3, 2)
    assert cold["ndcg@10"] == cold["delta_ndcg@10"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert warm["delta_ndcg@10"] == 0
    with pytest.raises(UserError, match="no test case of any seed"):
        compared(systems, against, groups={"cold": [np.zeros(3, bool)] * 2})
    with pytest.raises(UserError, match="on different users"):
        differences([pd.Series([1.0])], [pd.Series([1.0], [7])])


def test_from_the_first_failed_step_on_no_interval_excludes_zero():
    t = np.array([2.15, 2.05])  # in standard errors: the first fails its step of 2.5 %, the second would pass 5 %
    table = pd.DataFrame({"variant": ["a", "b"], "family": True, "delta": t, "error": 1.0, "df": 1e6, "once": False})
    table = table.assign(p=2 * stats.norm.sf(t), ci_low=0.0, ci_high=0.0, upper_share=1.0)
    decided = decide(table)
    assert (decided["ci_low"] < 0).all() and set(decided["verdict"]) == {"inconclusive"}


def test_what_is_outside_the_family_keeps_its_own_spread():
    rng, spreads = np.random.default_rng(0), {"plain": 0.001, "taught": 0.001, "control": 0.001, "other": 0.05}
    noise = {name: [rng.normal(0.1, 0.01, 200) for _ in range(3)] for name in spreads}
    gains = {name: [pd.Series(one + spreads[name] * rng.normal()) for one in of] for name, of in noise.items()}
    table = assess(gains, dict.fromkeys([*gains][1:], "plain"), {"taught": "control"})
    own = paired(differences(gains["other"], gains["plain"]))
    assert table["error"].iloc[3] == own["error"] > 5 * table["error"].iloc[1]

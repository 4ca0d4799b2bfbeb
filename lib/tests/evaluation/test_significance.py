import numpy as np
import pandas as pd
import pytest
from scipy import stats
from seqdistill.evaluation.significance import assess, by_user, compare, decide, differences, holm, paired
from seqdistill.io import UserError


def test_users_who_all_gain_alike_are_no_sample_to_test():
    found = paired([pd.Series([0.5, 0.5])])
    assert found["delta"] == 0.5 and np.isnan([found["p"], found["ci_low"], found["ci_high"]]).all()
    assert paired([pd.Series([0.0, 0.0])])["p"] == 1


def test_of_one_seed_the_p_is_the_t_tests():
    a = pd.Series(np.random.default_rng(3).normal(0.03, 0.2, 200))
    assert paired([a])["p"] == pytest.approx(stats.ttest_1samp(a, 0).pvalue)


def test_seeds_that_differ_widen_the_interval_and_the_p():
    rng = np.random.default_rng(0)
    noise, base = pd.Series(rng.normal(0, 0.05, 400)), pd.Series(np.zeros(400))
    calm, wild = ([base + 0.02 + noise + shift for shift in shifts] for shifts in ([0, 0, 0], [-0.03, 0, 0.03]))
    narrow, wide = (paired(differences(one, [base] * 3)) for one in (calm, wild))
    assert narrow["delta"] == pytest.approx(wide["delta"]) and narrow["p"] < 0.001 < 0.05 < wide["p"]
    users, seeds = 0.05**2 / 400, 0.03**2 / 3
    df = (users + seeds) ** 2 / (users**2 / 399 + seeds**2 / 2)
    margin = stats.t.ppf(0.975, df) * np.sqrt(users + seeds)
    assert (wide["ci_high"] - wide["ci_low"]) / 2 == pytest.approx(margin, rel=0.01) and df < 3
    assert wide["ci_low"] < 0 < narrow["ci_low"]
    assert wide["detectable"] > 5 * narrow["detectable"]
    assert paired(differences(wild[:1], [base]))["ci_high"] < 0, "one seed says nothing of the spread over seeds"


def test_holm_by_hand():
    adjusted = holm(pd.Series([0.01, np.nan, 0.04, 0.03]))
    assert adjusted.tolist() == pytest.approx([0.03, np.nan, 0.06, 0.06], nan_ok=True)


def test_by_user_averages_cases():
    ranks = pd.DataFrame({"user": [0, 0, 1], "rank_all": [1, 99, 3]})
    assert by_user(ranks, "included").to_dict("list") == {"recall@10": [0.5, 1.0], "ndcg@10": [0.5, 0.5]}


def test_a_difference_is_the_difference_of_the_columns_beside_it():
    plain = pd.DataFrame(
        {"user": [0] + [1] * 9, "item": 1, "position": 0, "rank_all": [1, *[12] * 9], "rank_unseen": 1}
    )
    other = plain.assign(rank_all=[40, *[3] * 9])
    table = compare({"plain": [plain], "other": [other]}, {"other": "plain"}, "included", last=False).set_index(
        "variant"
    )
    assert table.loc["other", "delta_ndcg@10"] == pytest.approx(table["ndcg@10"].diff().iloc[-1])
    assert table["ndcg@10"].tolist() == pytest.approx([0.5, 0.25])


def test_a_single_user_leaves_nothing_to_test():
    found = paired(differences([pd.Series([0.4], [7])], [pd.Series([0.1], [7])]))
    assert found["delta"] == pytest.approx(0.3) and np.isnan(found["p"])


def test_effect_and_detectable_difference_by_hand():
    a = pd.Series(np.tile([0.3, -0.1], 200))
    found = paired([a])
    spread = np.sqrt(0.04 * 400 / 399)
    assert found["effect"] == pytest.approx(0.1 / spread)
    assert found["detectable"] == pytest.approx((1.959964 + 0.841621) * spread / 20, rel=0.01)
    rng = np.random.default_rng(1)
    true = [stats.ttest_1samp(rng.normal(found["detectable"], spread, 400), 0).pvalue < 0.05 for _ in range(2000)]
    assert np.mean(true) == pytest.approx(0.8, abs=0.03)
    assert paired([a], tests=10)["detectable"] == pytest.approx((2.807034 + 0.841621) * spread / 20, rel=0.01)


def ranked_at(*ranks):
    return [
        pd.DataFrame({"user": np.arange(200), "item": 1, "position": 0, "rank_all": np.tile(ranks, 200 // len(ranks))})
    ]


def test_a_gain_must_also_beat_its_own_control():
    names = {"plain": (9, 20), "taught": (3, 9), "weak": (3, 9), "taught control": (3, 9), "weak control": (20, 20)}
    systems = {name: ranked_at(*ranks) * 2 for name, ranks in names.items()}
    against = dict.fromkeys([name for name in names if name != "plain"], "plain")
    controls = {"taught": "taught control", "weak": "weak control"}
    table = compare(systems, against, "included", False, controls).set_index("variant")
    assert table.loc[["taught", "weak"], "verdict"].tolist() == ["inconclusive", "significant gain"]
    assert table.loc[["taught", "weak"], "control_verdict"].tolist() == ["inconclusive", "significant gain"]
    assert table.loc["taught", "p_holm"] == 1 and table.loc["weak", "p_holm"] < 0.001
    assert table.loc["weak", "upper_share"] > table.loc["weak", "delta_ndcg@10"] / table.loc["plain", "ndcg@10"]
    assert table.loc["taught", "control_delta_ndcg@10"] == 0
    assert table["control"].tolist() == ["", "taught control", "weak control", "", ""]
    outside = table.loc[["taught control", "weak control", "plain"]]
    assert set(outside["verdict"]) == {""} and outside["p_holm"].isna().all()
    assert table.loc["weak control", "ci_high"] < 0, "described, without a verdict"


def test_holms_steps_adjust_intervals_as_they_do_p():
    rng = np.random.default_rng(0)
    users = np.arange(400)
    draw = lambda mean: [  # noqa: E731
        pd.DataFrame({"user": users, "item": 1, "position": 0, "rank_all": np.where(rng.random(400) < mean, 1, 99)})
        for _ in range(5)
    ]
    systems = {"plain": draw(0.3), **{f"taught {n}": draw(0.3 + n / 50) for n in range(6)}}
    table = compare(systems, dict.fromkeys(list(systems)[1:], "plain"), "included", False).iloc[1:]
    agree = (table["p_holm"] < 0.05) == (table["ci_low"] > 0)
    widths = (table["ci_high"] - table["ci_low"]).loc[table["delta_ndcg@10"].sort_values(ascending=False).index]
    assert agree.all() and 1 <= (table["ci_low"] > 0).sum() < 6
    assert widths.iloc[0] > 1.2 * widths.iloc[-1], "the largest is held against 5 % / 6, the smallest against 5 %"


def test_of_one_target_a_user_the_last_is_all():
    systems, against = {"plain": ranked_at(9, 20) * 2, "taught": ranked_at(3, 9, 12, 1) * 2}, {"taught": "plain"}
    single = [compare(systems, against, "included", last, {"taught": "plain"}) for last in (True, False)]
    pd.testing.assert_frame_equal(*single, check_exact=True)  # so chapter 4 tests it once
    again = {
        name: [pd.concat([frame, frame.assign(position=1, rank_all=2)]) for frame in it] for name, it in systems.items()
    }
    table = compare(again, against, "included", True)
    assert (
        table["delta_ndcg@10"].iloc[1] == 0 and compare(again, against, "included", False)["delta_ndcg@10"].iloc[1] > 0
    )


def test_two_runs_of_one_seed_get_no_verdict():
    table = compare({"plain": ranked_at(9, 20), "taught": ranked_at(3, 9)}, {"taught": "plain"}, "included", False)
    assert table["verdict"].tolist() == ["", "one seed"] and table["p_holm"].iloc[1] < 0.001
    assert "once" not in table
    both = {"plain": ranked_at(9, 20), "taught": ranked_at(3, 9) * 2}
    assert compare(both, {"taught": "plain"}, "included", False)["verdict"].tolist() == ["", "one seed"]
    assert compare(both, {"taught": "plain"}, "included", False, fixed=["plain"])["verdict"].tolist() == [
        "",
        "significant gain",
    ]


def test_groups_count_a_user_in_the_seeds_that_have_them():
    frame = pd.DataFrame({"user": [0, 1, 2], "item": 1, "position": 0, "rank_all": [99, 99, 99], "rank_unseen": 1})
    taught = [frame.assign(rank_all=ranks) for ranks in ([1, 3, 99], [99, 3, 1])]
    masks = [np.array([True, True, False]), np.array([False, True, True])]
    systems, groups = {"plain": [frame] * 2, "taught": taught}, {"cold": masks, "warm": [~mask for mask in masks]}
    table = compare(systems, {"taught": "plain"}, "included", False, groups=groups).set_index(["group", "variant"])
    cold = table.loc["cold", "taught"]
    assert (cold["cases"], cold["users"], cold["seeds"]) == (4, 3, 2)
    assert cold["ndcg@10"] == cold["delta_ndcg@10"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert table.loc[("warm", "taught"), "delta_ndcg@10"] == 0
    none = {"cold": [np.zeros(3, bool)] * 2}
    with pytest.raises(UserError, match="no test case of any seed"):
        compare(systems, {"taught": "plain"}, "included", False, groups=none)
    with pytest.raises(UserError, match="on different users"):
        differences([pd.Series([1.0])], [pd.Series([1.0], [7])])


def test_from_the_first_failed_step_on_no_interval_excludes_zero():
    errors = {"a": 2.15, "b": 2.05}  # in standard errors: the first fails its step of 2.5 %, the second would pass 5 %
    rows = [
        {"variant": name, "family": True, "delta": t, "error": 1.0, "df": 1e6, "ci_low": 0.0, "ci_high": 0.0,
         "p": 2 * stats.norm.sf(t), "effect": 0.0, "detectable": 0.0, "upper_share": 1.0, "once": False}
        for name, t in errors.items()
    ]  # fmt: skip
    table = decide(pd.DataFrame(rows))
    assert (table["ci_low"] < 0).all() and set(table["verdict"]) == {"inconclusive"}


def test_a_gain_over_plain_that_loses_to_its_control_has_a_p_of_one():
    systems = {name: ranked_at(*ranks) * 2 for name, ranks in {"plain": (9, 20), "taught": (3, 9), "c": (1, 2)}.items()}
    table = compare(systems, {"taught": "plain", "c": "plain"}, "included", False, {"taught": "c"}).set_index("variant")
    assert table.loc["taught", "p_holm"] == 1 and table.loc["taught", "verdict"] == "inconclusive"
    assert table.loc["taught", "control_verdict"] == "significant loss"


def test_what_is_outside_the_family_keeps_its_own_spread():
    rng = np.random.default_rng(0)
    series = lambda sd: [pd.Series(rng.normal(0.1, 0.01, 200) + sd * rng.standard_normal()) for _ in range(3)]  # noqa: E731
    gains = {"plain": series(0.001), "taught": series(0.001), "control": series(0.001), "other": series(0.05)}
    against = dict.fromkeys(["taught", "control", "other"], "plain")
    table = assess(gains, against, {"taught": "control"})
    own = paired(differences(gains["other"], gains["plain"]))
    assert table["error"].iloc[3] == own["error"] > 5 * table["error"].iloc[1]

import numpy as np
import pandas as pd
import pytest
from seqbook.reporting import efficiency, report
from seqdistill.io import ROOT

BENCH = ROOT / "outputs" / "bench"
CONTRACT = ["dataset", "system", "train_cpu_s_per_epoch", "train_wall_s_per_epoch", "infer_cpu_s", "infer_wall_s"]
CONTRACT += ["p50_ms", "p99_ms", "peak_rss_mb", "parameters"]


@pytest.fixture
def measured():
    pairs = pd.DataFrame({"model": "SASRec", "share": 0.5, "pair": range(4), "plain_cpu_s": [1.0, 2, 1, 2]})
    pairs["distilled_cpu_s"] = 1.1 * pairs["plain_cpu_s"]
    pairs[["plain_wall_s", "distilled_wall_s"]] = 2 * pairs[["plain_cpu_s", "distilled_cpu_s"]]
    served = pd.DataFrame({"batch": [256, 256, 256, 1], "cpu_s": [1.0, 3, 2, 9], "p50_ms": [np.nan] * 3 + [1]})
    served = served.assign(wall_s=served["cpu_s"], p99_ms=3 * served["p50_ms"], peak_rss_mb=300 + served["batch"])
    served = served.assign(cases=100, parameters=7, dataset="toy", **{"ndcg@10": 0.1})
    return pairs, pd.concat(served.assign(system=system) for system in ("SASRec", "SASRec + distillation"))


def test_costs_are_medians_and_ratios_count_inference_per_case(measured):
    other = {"train_cpu_s_per_epoch": 30.0, "infer_cpu_s": 20.0, "infer_cases": 10, "parameters": 60, "config": {}}
    table = efficiency.table(*measured, {"IDGenRec": other})
    assert list(table.columns[:10]) == CONTRACT
    assert table["system"].tolist() == ["SASRec", "SASRec + distillation", "IDGenRec"]
    plain, taught, rival = table.to_dict("records")
    assert plain["train_cpu_s_per_epoch"] == 1.5 and taught["train_cpu_s_per_epoch"] == pytest.approx(1.65)
    assert plain["infer_cpu_s"] == 2.0 and plain["infer_cpu_s_batch1"] == 9.0 and plain["peak_rss_mb_batch1"] == 301
    assert rival["infer_cases"] == 10 and np.isnan(rival["p50_ms"]) and rival["dataset"] == "toy"
    ratios = efficiency.ratios(table, report.paper("efficiency")).set_index(["what", "system"])
    inference, training = ratios.loc[("inference", "IDGenRec")], ratios.loc[("training, an epoch", taught["system"])]
    assert inference["ours"] == pytest.approx(100)  # 2 s a case against 0.02
    assert [inference["paper_low"], inference["paper_high"]] == pytest.approx([120.38 / 2.37, 342.03 / 1.12])
    assert [training["ours"], training["paper_high"]] == pytest.approx([1.1, 833.36 / 663.26])


def test_an_overhead_has_an_interval_and_weighs_by_the_share_of_phase_1(measured):
    pairs = measured[0].assign(distilled_cpu_s=[1.1, 2.4, 1.1, 2.4])
    row = efficiency.overheads(pairs).iloc[0]
    assert row["phase_1"] == pytest.approx((1.1 * 1.2) ** 0.5) and row["ci_low"] < row["phase_1"] < row["ci_high"]
    assert row["run"] == pytest.approx(1 + 0.5 * (row["phase_1"] - 1))
    assert (row["aim_phase_1"], row["aim_run"]) == ("missed", "inconclusive")
    thin = efficiency.overheads(pairs.assign(distilled_cpu_s=[1.14, 2.3, 1.14, 2.3], share=0.25)).iloc[0]
    assert (thin["aim_phase_1"], thin["aim_run"]) == ("missed", "met")


def test_an_exponent_is_the_slope_on_logarithmic_axes():
    sizes = np.array([10, 100, 1000, 10_000])
    growth = pd.DataFrame({"of": "items", "loss": "full", "items": sizes, "step_cpu_s": 3 * sizes**1.5})
    growth["step_mb"] = 5 * sizes * np.array([1.1, 0.9, 1.1, 0.9])
    growth[["epoch_cpu_s", "rank_256_cpu_s", "rank_all_cpu_s"]] = np.nan
    table = efficiency.exponents(growth).set_index("cost")
    assert list(table.index) == ["training step", "training memory"]
    assert table.loc["training step", ["exponent", "ci_high"]].tolist() == pytest.approx([1.5, 1.5])
    assert table.loc["training memory", "ci_low"] < 1 < table.loc["training memory", "ci_high"]


def test_constants_are_carried_to_more_users():
    step = {"of": "amazon-m2", "loss": "full", "batch": 64, "items": 1000, "dim": 50, "step_cpu_s": 2.0}
    growth = pd.DataFrame([{**step, "rank_256_cpu_s": 0.5, "peak_rss_mb": 900.0}])
    once = pd.DataFrame({"step": ["profiles, x", "encoder", "UMAP"], "seconds_per_user": [2.0, 0.5, 0.2]})
    far = efficiency.reach(growth, once, 6_401, 1e6).set_index("what")
    assert far.loc["an epoch, full softmax", "hours"] == pytest.approx(101 * 2 / 3600)  # 101 steps
    assert far.loc["profiles, x", "hours"] == pytest.approx(6_401 * 2 / 3600)
    assert far["exchange_share"].iloc[0] == pytest.approx(2 * 4 * 1000 * 50 / 1e6 / 2.0)


def test_the_committed_tables_are_whole():
    table = efficiency.table(report.read_table("overhead", BENCH), report.read_table("serving", BENCH))
    assert table[CONTRACT].notna().all().all()
    students = table["system"].str.split(" ").str[0]
    assert table.groupby(students)["parameters"].agg(["size", "nunique"]).to_numpy().tolist() == [[2, 1]] * 2
    rival = report.read_table("rival", BENCH).set_index("system")
    assert rival.notna().all().all() and (rival["p99_ms"] >= rival["p50_ms"]).all()

import numpy as np
import pandas as pd
import pytest
from seqdistill.io import ROOT, UserError
from seqdistill.reporting import efficiency, report

BENCH = ROOT / "outputs" / "bench"
CONTRACT = ["dataset", "system", "train_cpu_s_per_epoch", "train_wall_s_per_epoch", "infer_cpu_s", "infer_wall_s"]
CONTRACT += ["p50_ms", "p99_ms", "peak_rss_mb", "parameters"]


@pytest.fixture
def measured():
    pairs = pd.DataFrame({"model": "SASRec", "share": 0.5, "pair": range(4), "plain_cpu_s": [1.0, 2, 1, 2]})
    pairs["distilled_cpu_s"] = pairs["plain_cpu_s"] * [1.1, 1.1, 1.1, 1.1]
    pairs[["plain_wall_s", "distilled_wall_s"]] = 2 * pairs[["plain_cpu_s", "distilled_cpu_s"]]
    rows = [
        {"dataset": "toy", "system": system, "batch": batch, "cpu_s": cpu, "wall_s": cpu, "cases": 100,
         "p50_ms": 1.0 if batch == 1 else np.nan, "p99_ms": 3.0 if batch == 1 else np.nan, "peak_rss_mb": 300.0 + batch,
         "parameters": 7, "ndcg@10": 0.1}
        for system in ("SASRec", "SASRec + distillation")
        for batch, cpu in ((256, 1.0), (256, 3.0), (256, 2.0), (1, 9.0))
    ]  # fmt: skip
    return pairs, pd.DataFrame(rows)


def test_the_table_has_the_columns_of_the_contract_and_medians(measured):
    other = {"train_cpu_s_per_epoch": 30.0, "infer_cpu_s": 20.0, "infer_cases": 10, "parameters": 60, "config": {}}
    table = efficiency.table(*measured, {"IDGenRec": other})
    assert list(table.columns[:10]) == CONTRACT
    assert table["system"].tolist() == ["SASRec", "SASRec + distillation", "IDGenRec"]
    plain, taught, rival = table.to_dict("records")
    assert plain["train_cpu_s_per_epoch"] == 1.5 and taught["train_cpu_s_per_epoch"] == pytest.approx(1.65)
    assert plain["infer_cpu_s"] == 2.0 and plain["infer_cpu_s_batch1"] == 9.0 and plain["peak_rss_mb_batch1"] == 301
    assert rival["infer_cases"] == 10 and np.isnan(rival["p50_ms"]) and rival["dataset"] == "toy"


def test_ratios_count_inference_per_case_and_stand_beside_the_papers(measured):
    other = {"train_cpu_s_per_epoch": 30.0, "infer_cpu_s": 20.0, "infer_cases": 10, "parameters": 60}
    found = efficiency.ratios(efficiency.table(*measured, {"IDGenRec": other}), report.paper("efficiency"))
    found = found.set_index(["what", "system"])
    assert found.loc[("inference", "IDGenRec"), "ours"] == pytest.approx(100)  # 2 s a case against 0.02
    assert found.loc[("inference", "IDGenRec"), "paper_low"] == pytest.approx(120.38 / 2.37)
    assert found.loc[("inference", "IDGenRec"), "paper_high"] == pytest.approx(342.03 / 1.12)
    assert found.loc[("training, an epoch", "SASRec + distillation"), "ours"] == pytest.approx(1.1)
    assert found.loc[("training, an epoch", "SASRec + distillation"), "paper_high"] == pytest.approx(833.36 / 663.26)


def test_an_overhead_has_an_interval_and_weighs_by_the_share_of_phase_1(measured):
    pairs = measured[0].assign(distilled_cpu_s=[1.1, 2.4, 1.1, 2.4])
    row = efficiency.overheads(pairs).iloc[0]
    assert row["phase_1"] == pytest.approx((1.1 * 1.2) ** 0.5) and row["ci_low"] < row["phase_1"] < row["ci_high"]
    assert row["run"] == pytest.approx(1 + 0.5 * (row["phase_1"] - 1))
    assert (row["aim_phase_1"], row["aim_run"]) == ("missed", "inconclusive")
    sure = pairs.assign(distilled_cpu_s=[1.14, 2.3, 1.14, 2.3])
    thin = efficiency.overheads(sure.assign(share=0.25))
    assert (thin.iloc[0]["aim_phase_1"], thin.iloc[0]["aim_run"]) == ("missed", "met")
    assert "is **missed**" in efficiency.overhead_sentences(thin)[0]


def test_an_exponent_is_the_slope_on_logarithmic_axes():
    sizes = np.array([10, 100, 1000, 10_000])
    growth = pd.DataFrame({"of": "items", "loss": "full", "items": sizes, "step_cpu_s": 3 * sizes**1.5})
    growth["step_mb"] = 5 * sizes * np.array([1.1, 0.9, 1.1, 0.9])
    growth[["epoch_cpu_s", "rank_256_cpu_s", "rank_all_cpu_s"]] = np.nan
    found = efficiency.exponents(growth).set_index("cost")
    assert list(found.index) == ["training step", "training memory"]
    assert found.loc["training step", "exponent"] == pytest.approx(1.5)
    assert found.loc["training step", "ci_high"] == pytest.approx(1.5)
    assert found.loc["training memory", "ci_low"] < 1 < found.loc["training memory", "ci_high"]


def test_constants_are_carried_to_more_users():
    step = {"of": "amazon-m2", "loss": "full", "batch": 64, "items": 1000, "dim": 50, "step_cpu_s": 2.0}
    growth = pd.DataFrame([{**step, "rank_256_cpu_s": 0.5, "peak_rss_mb": 900.0}])
    profiles = pd.Series({"llm": "x", "covered": 10, "prompt_tokens": 70, "output_tokens": 30, "seconds": 80.0})
    umap = pd.DataFrame({"users": [5, 20], "fit_cpu_s": [1.0, 4.0]})
    once = efficiency.teacher_cost(profiles, 4, pd.Series({"encoder": "e", "texts": 2, "cpu_s": 1.0}), umap)
    assert once["seconds_per_user"].tolist() == [2.0, 0.5, 0.2] and once["tokens"].iloc[0] == 100
    far = efficiency.reach(growth, once, 6_401, 1e6).set_index("what")["hours"]
    assert far["an epoch, full softmax"] == pytest.approx(101 * 2 / 3600)  # 101 steps
    assert far["profiles, x"] == pytest.approx(6_401 * 2 / 3600)
    share = efficiency.reach(growth, once, 6_401, 1e6)["exchange_share"].iloc[0]
    assert share == pytest.approx(2 * 4 * 1000 * 50 / 1e6 / 2.0)


def test_an_index_pays_only_if_it_keeps_the_recall():
    table = pd.DataFrame({"items": 100, "embeddings": "random", "index": ["exact", "a", "b"], "encode_cpu_ms": 1.0})
    table["search_cpu_ms"], table["recall@10"] = [9.0, 1.0, 4.0], [1.0, 0.5, 0.96]
    assert "b takes 4.0000 ms" in efficiency.index_sentences(table, 0.95)[0]
    assert "2.0000 times as fast" in efficiency.index_sentences(table, 0.95)[0]
    assert "no index tried keeps 99%" in efficiency.index_sentences(table, 0.99)[0]


def test_what_was_not_measured_is_named(tmp_path):
    with pytest.raises(UserError, match=r"latency\.csv: no such file; `make bench` measures it"):
        efficiency.bench(tmp_path, "latency")


def test_the_committed_tables_are_whole():
    systems = set(efficiency.bench(BENCH, "serving")["system"])
    assert systems == {"SASRec", "SASRec + distillation", "BERT4Rec", "BERT4Rec + distillation"}
    table = efficiency.table(efficiency.bench(BENCH, "overhead"), efficiency.bench(BENCH, "serving"))
    assert table[CONTRACT].notna().all().all()
    pairs = table.set_index("system")["parameters"]
    assert pairs["SASRec"] == pairs["SASRec + distillation"] and pairs["BERT4Rec"] == pairs["BERT4Rec + distillation"]
    rival = efficiency.bench(BENCH, "rival").set_index("system")
    assert set(rival.index) == {"IDGenRec", "IDGenRec without user ids", "IDGenRec leaking"}
    assert (
        rival.notna().all().all() and (rival["p99_ms"] >= rival["p50_ms"]).all() and set(rival["infer_cases"]) == {671}
    )
    assert {10_000, 100_000, 1_000_000} <= set(efficiency.bench(BENCH, "catalogue")["items"])
    assert efficiency.bench(BENCH, "growth")["items"].max() == 334_060

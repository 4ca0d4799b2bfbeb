import pandas as pd
import pytest
import summary
from seqdistill.io import save_json


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQDISTILL_OUTPUTS", str(tmp_path))
    return tmp_path / "mine"


def test_a_chapter_says_what_it_took_here_or_scales_what_it_took_elsewhere(outputs, monkeypatch):
    assert summary.expected("mine", "01-data") == "its time is not known yet"
    monkeypatch.setattr(summary, "calibration", lambda: 3.0)
    save_json({"01-data": 20, "calibration": 1.5}, outputs / "seconds.json")
    assert "about 40 s" in summary.expected("mine", "01-data")
    summary.record("mine", "01-data", 7.4)
    summary.record("mine", "02-profiles", 9.0)
    assert "7 s here" in summary.expected("mine", "01-data")


def test_the_answer_counts_gains_over_plain_and_control_and_names_the_smallest_that_could_be_seen(outputs, capsys):
    gain, columns = "significant gain", ["model", "variant", "ndcg@10", "verdict", "control_verdict", "detectable"]
    rows = [("SASRec", "plain", 0.1, "", None, None), ("SASRec", "distilled", 0.11, gain, gain, 0.004)]
    rows += [
        ("SASRec", "distilled-student", 0.11, gain, "inconclusive", 0.006),
        ("SASRec", "shuffled", 0.1, gain, None, 1),
    ]
    table = pd.DataFrame(rows, columns=columns).assign(protocol="leave_one_out/all", seen="excluded")
    assert summary.answer(table).startswith(
        "1 of 2"
    ) and "(SASRec distilled); a gain in NDCG@10 below 4%" in summary.answer(table)
    (outputs / "tables").mkdir(parents=True)
    table.to_csv(outputs / "tables" / "main.csv", index=False)
    summary.record("mine", "04-distillation", 120)
    summary.print_summary("mine")
    answer, read, took = capsys.readouterr().out.splitlines()
    assert "1 of 2" in answer and "08-results.html" in read and took.startswith("Time: 2 minutes")

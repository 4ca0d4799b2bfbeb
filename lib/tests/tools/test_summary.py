from pathlib import Path

import pandas as pd
import pytest
import summary
import times
from seqdistill.io import UserError


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQDISTILL_OUTPUTS", str(tmp_path))
    return tmp_path / "mine"


def test_a_chapter_says_what_it_took_here(outputs):
    assert times.expected("mine", "01-data") == "first execution here"
    times.record("mine", "01-data", 7.4)
    times.record("mine", "02-profiles", 9.0)
    assert "7 s here" in times.expected("mine", "01-data")


def test_a_first_execution_is_foretold_by_the_speed_of_this_machine(outputs, monkeypatch):
    times.record("mine", "01-data", 10)
    times.record("mine", "04-distillation", 590)
    monkeypatch.setattr(times, "calibration", lambda: 0.5)
    with pytest.raises(UserError, match="00-method has not been executed"):
        times.keep_times("mine")
    monkeypatch.setattr(times, "chapters", lambda: ["01-data", "04-distillation"])
    monkeypatch.setattr(times, "REFERENCES", outputs.parent)
    times.keep_times("mine")
    (outputs / "artifacts" / "seconds.json").unlink()
    monkeypatch.setattr(times, "calibration", lambda: 1.0)  # a machine that takes twice as long
    assert times.expected("mine", "04-distillation").startswith("about 1180 s of 20 minutes")
    assert times.expected("mine", "09-explore") == "first execution here"


def test_the_answer_counts_gains_over_plain_and_control_and_names_the_smallest_that_could_be_seen(outputs, capsys):
    gain, columns = "significant gain", ["model", "variant", "ndcg@10", "verdict", "control_verdict"]
    columns += ["detectable", "control_detectable"]
    rows = [("SASRec", "plain", 0.1, "", *3 * [None]), ("SASRec", "distilled", 0.11, gain, gain, 0.002, 0.004)]
    rows += [
        ("SASRec", "distilled-student", 0.11, gain, "inconclusive", 0.006, 0.001),
        ("SASRec", "shuffled", 0.1, gain, None, 1, None),
    ]
    table = pd.DataFrame(rows, columns=columns).assign(protocol="leave_one_out/all", seen="excluded")
    assert summary.answer(table).startswith(
        "1 of 2"
    ) and "(SASRec distilled); a gain in NDCG@10 below 4%" in summary.answer(table)
    (outputs / "tables").mkdir(parents=True)
    table.to_csv(outputs / "tables" / "main.csv", index=False)
    (outputs / "08-results.html").touch()
    times.record("mine", "04-distillation", 120)
    summary.print_summary("mine")
    answer, read, took = capsys.readouterr().out.splitlines()
    assert "1 of 2" in answer and "08-results.html" in read and took.startswith("Time: 2 minutes")


def test_a_rival_that_ranks_better_for_certain_is_the_answer():
    rows = [("SASRec", "plain", 0.10, None, None), ("baseline", "EASE", 0.12, 0.01, 0.03)]
    rows += [("baseline", "item-kNN", 0.11, 0.001, 0.02), ("GRU4Rec", "plain", 0.13, -0.01, 0.07)]
    table = pd.DataFrame(rows, columns=["model", "variant", "ndcg@10", "ci_low", "ci_high"])
    table = table.assign(baseline="SASRec plain", **{"delta_ndcg@10": table["ndcg@10"] - 0.1})
    said, path = summary.answer(table, "SASRec plain"), Path("student.onnx")
    assert said.startswith("deploy EASE, which ranks better than SASRec plain (+0.0200 [+0.0100, +0.0300]); the best")
    assert summary.answer(table[table["variant"] == "plain"], "SASRec plain").startswith(
        "deploy SASRec plain: no student"
    )
    assert summary.answer(table, "GRU4Rec plain").startswith("deploy GRU4Rec plain: no student")
    line = "The best student, exported by make export: student.onnx (SASRec plain)"
    assert summary.exported(table, "SASRec plain", path) == f"{line}; EASE, which ranks better, is not exported"
    assert summary.exported(table[table["variant"] == "plain"], "SASRec plain", path) == line


def test_a_book_without_a_teacher_or_known_times_ends_as_well(outputs, capsys):
    table = pd.DataFrame({"model": ["SASRec"], "variant": ["plain"], "ndcg@10": [0.1], "verdict": ["-"]})
    (outputs / "tables").mkdir(parents=True)
    (outputs / "artifacts").mkdir()
    (outputs / "artifacts" / "01-data.done").touch()
    table.assign(protocol="leave_one_out/all", seen="excluded").to_csv(outputs / "tables" / "main.csv", index=False)
    summary.print_summary("mine")
    assert "no student was taught" in capsys.readouterr().out
    assert (outputs / "artifacts" / "01-data.done").exists()

from pathlib import Path

import deploy
import pandas as pd
import pytest
import times
from seqdistill.io import UserError


def test_a_chapter_says_what_it_took_here_or_would_at_the_speed_of_this_machine(home, monkeypatch):
    assert times.expected("mine", "01-data") == "first execution here"
    times.record("mine", "01-data", 10.4)
    times.record("mine", "04-distillation", 590)
    assert times.expected("mine", "01-data") == "took 10 s here last time"
    with pytest.raises(UserError, match="00-method has not been executed"):
        times.keep_times("mine")
    monkeypatch.setattr(times, "chapters", lambda: ["01-data", "04-distillation"])
    monkeypatch.setattr(times, "REFERENCES", home / "outputs")
    monkeypatch.setattr(times, "calibration", lambda: 0.5)
    times.keep_times("mine")
    (home / "outputs" / "mine" / "artifacts" / "seconds.json").unlink()
    monkeypatch.setattr(times, "calibration", lambda: 1.0)  # a machine that takes twice as long
    assert times.expected("mine", "04-distillation").startswith("about 1180 s of 20 minutes")
    assert times.expected("mine", "09-explore") == "first execution here"


def test_the_answer_counts_gains_over_plain_and_control_and_names_the_smallest_that_could_be_seen():
    columns = ["variant", "ndcg@10", "verdict", "control_verdict", "detectable", "control_detectable"]
    gain = deploy.GAIN
    rows = [("plain", 0.1, "", *3 * [None]), ("distilled", 0.11, gain, gain, 0.002, 0.004)]
    rows += [("distilled-student", 0.11, gain, "inconclusive", 0.006, 0.001), ("shuffled", 0.1, gain, None, 1, None)]
    table = pd.DataFrame(rows, columns=columns).assign(model="SASRec", ci_low=None)
    said = deploy.answer(table, "SASRec distilled", {"distilled": 0.5})
    assert said.startswith("deploy SASRec distilled: 1 of 2")
    assert "(SASRec distilled); a gain in NDCG@10 below 4%" in said
    assert said.endswith("users who were taught: distilled 50%.")


def test_a_rival_that_ranks_better_for_certain_is_the_answer():
    rows = [("SASRec", "plain", 0.10, None, None), ("baseline", "EASE", 0.12, 0.01, 0.03)]
    rows += [("baseline", "item-kNN", 0.11, 0.001, 0.02), ("GRU4Rec", "plain", 0.13, -0.01, 0.07)]
    table = pd.DataFrame(rows, columns=["model", "variant", "ndcg@10", "ci_low", "ci_high"])
    table = table.assign(baseline="SASRec plain", **{"delta_ndcg@10": table["ndcg@10"] - 0.1})
    alone, path, over = table[table["variant"] == "plain"], Path("student.onnx"), "+0.0200 [+0.0100, +0.0300]"
    said = deploy.answer(table, "SASRec plain", {})
    assert said.startswith(f"deploy EASE, which ranks better than SASRec plain ({over}); the best")
    assert deploy.answer(alone, "SASRec plain", {}) == "deploy SASRec plain: no student was taught."
    rival = f"the best rival without training is EASE: {over} over SASRec plain"
    assert deploy.answer(table, "GRU4Rec plain", {}) == f"deploy GRU4Rec plain ({rival}): no student was taught."
    line = "The best student, exported by make export: student.onnx (SASRec plain)"
    assert deploy.exported(table, "SASRec plain", path) == f"{line}; EASE, which ranks better, is not exported"
    assert deploy.exported(alone, "SASRec plain", path) == line

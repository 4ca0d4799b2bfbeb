"""`make power`: power from the runs of 04, and what it says where there are too few."""

from dataclasses import replace

import pandas as pd
import power
import pytest
from seqdistill.config import Distillation, to_dict
from seqdistill.io import UserError, outputs_dir, save_csv, save_json
from seqdistill.training import ablation
from seqdistill.training.sweep import plan, sweep
from test_train import SMALL


def test_power_comes_from_the_runs_of_04_and_grows_with_users(data, tmp_path, monkeypatch):
    monkeypatch.setenv("SEQDISTILL_OUTPUTS", str(tmp_path))
    home, seeds, run = outputs_dir("mine"), [0, 1], replace(SMALL, epochs=2)
    taught = Distillation(projection="student")
    chosen = {"students": {"SASRec": {"run": to_dict(run), "teacher": to_dict(taught)}}, "own": {}, "seeds": seeds}
    save_json(chosen, home / "artifacts" / "student.json")
    monkeypatch.setattr(power, "load_training_data", lambda artifacts: data)
    monkeypatch.setattr(power, "TABLES", 10)
    with pytest.raises(UserError, match="with two seeds or more"):
        power.powers("mine", "included")
    first, *_ = ablation.setups(home, data, "", seeds, "loky", {})
    sweep(plan({name: first.runs[name] for name in ("plain", "distilled-student")}, seeds, data), home / "runs")
    rows = [("plain", "", None), ("distilled-student", "inconclusive", "inconclusive")]
    table = pd.DataFrame(rows, columns=["variant", "verdict", "control_verdict"])
    save_csv(table.assign(model="SASRec", protocol="a/all", seen="included"), home / "tables" / "main.csv")
    monkeypatch.setattr(power, "components", lambda *_: {"user_sd": 0.2, "seed_sd": 0.0, "rest_sd": 0.2})
    what, table = power.powers("mine", "included")
    assert what.endswith("40 users") and table.shape == (8, 4)
    assert table.loc[(40, 2)].mean() + 0.3 < table.loc[(160, 10)].mean()

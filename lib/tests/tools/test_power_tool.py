"""`make power`: power from the runs of 04, and what it says where there are too few."""

from dataclasses import replace

import power
import pytest
from seqdistill.config import Distillation, to_dict
from seqdistill.io import UserError, outputs_dir, save_json
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
    what, table = power.powers("mine", "included")
    assert what.endswith("40 users") and table.shape == (12, 4)
    assert table.loc[40].to_numpy().sum() <= table.loc[640].to_numpy().sum()

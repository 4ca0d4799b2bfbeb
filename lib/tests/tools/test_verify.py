import json
import shutil

import numpy as np
import pandas as pd
import pytest
import verify
from presets import chapters
from seqdistill.io import ROOT, UserError

STORED = ROOT / "outputs" / "smoke"


@pytest.fixture
def fresh(tmp_path):
    """A copy of the committed smoke outputs, as if a fresh run had given the same."""
    shutil.copytree(STORED / "tables", tmp_path / "tables")
    shutil.copy(STORED / "metrics.json", tmp_path)
    return tmp_path


def edited(home, name, edit):
    path = home / "tables" / name
    table = pd.read_csv(path)
    edit(table)
    table.to_csv(path, index=False)


def trained(table):
    return table.index[(table["model"] == "SASRec") & (table["variant"] == "distilled")][0]


def test_equal_outputs_have_not_moved(fresh):
    table = verify.compared(STORED, fresh)
    assert table.empty and table.attrs["cells"] > 1000
    assert verify.report(table) == [f"{table.attrs['cells']:,} cells compared, 0 moved."]


def steady(home, spread):
    """Give the students of a copy a spread over seeds that is this share of what they reach."""

    def edit(table):
        for metric in ("recall@10", "ndcg@10"):
            table[f"{metric}_std"] = (spread * table[metric]).where(table["model"] != "baseline")

    edited(home, "main.csv", edit)


@pytest.mark.parametrize(
    ("spread", "factor", "judged"),
    [(0.05, 1.001, "within"), (0.05, 0.0, "beyond"), (0.05, 30.0, "beyond"), (1.0, 0.0, "unjudged")],
)
def test_a_trained_number_may_move_as_far_as_seeds_move_it_and_never_to_zero(fresh, tmp_path, spread, factor, judged):
    def edit(table):
        table.loc[trained(table), "ndcg@10"] *= factor

    steady(fresh, spread)
    stored = shutil.copytree(fresh, tmp_path / "stored")
    edited(fresh, "main.csv", edit)
    table = verify.compared(stored, fresh)
    assert table["judged"].tolist() == [judged] and table["column"].tolist() == ["ndcg@10"]
    assert judged == "unjudged" or 0 < table["allowed"].item() < table["stored"].item()
    assert any("SASRec distilled" in line for line in verify.report(table)) == (judged == "beyond")


def test_a_count_a_name_a_baseline_and_a_row_must_be_equal(fresh):
    def edit(table):
        table.loc[0, "cases"] += 1
        table.loc[1, "variant"] = "item-kMM"
        table.loc[table["model"] == "baseline", "recall@10"] += 0.001

    edited(fresh, "main.csv", edit)
    pd.read_csv(fresh / "tables" / "arms.csv").drop(index=0).to_csv(fresh / "tables" / "arms.csv", index=False)
    (fresh / "tables" / "data.csv").unlink()
    metrics = json.loads((fresh / "metrics.json").read_text())
    metrics["01-data"]["users"] += 1
    (fresh / "metrics.json").write_text(json.dumps(metrics))
    table = verify.compared(STORED, fresh)
    assert set(table["judged"]) == {"changed"}
    assert {"cases", "variant", "recall@10", "columns or rows", "users", ""} == set(table["column"])
    assert "data.csv" in set(table["where"])


def test_a_verdict_that_flips_is_said_and_time_is_nobodys_fault(fresh):
    def edit(table):
        table.loc[trained(table), "verdict"] = "significant gain!"

    edited(fresh, "main.csv", edit)
    edited(fresh, "profiles.csv", lambda table: table.__setitem__("seconds", table["seconds"] * 7))
    table = verify.compared(STORED, fresh)
    assert set(table["judged"]) == {"unjudged"}
    assert any("-> significant gain!" in line for line in verify.report(table))


def draws(rng, seeds):
    """A main table of four students whose metrics vary over seeds by 3 %."""
    rows = []
    for variant in "abcd":
        values = pd.DataFrame({metric: 0.05 * (1 + 0.03 * rng.standard_normal(seeds)) for metric in verify.TRAINED})
        row = {"model": "SASRec", "protocol": "p/all", "variant": variant, "seen": "included", "seeds": seeds}
        rows.append(row | values.mean().to_dict() | values.std().add_suffix("_std").to_dict())
    return pd.DataFrame(rows)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_other_seeds_are_called_out_as_seldom_as_promised(seeds):
    rng, called = np.random.default_rng(0), 0
    for _ in range(300):
        stored, fresh = draws(rng, seeds), draws(rng, seeds)
        table = verify.moved("main.csv", stored, fresh, verify.spreads(stored), 8)
        called += (table["judged"] == "beyond").any()
    assert called / 300 <= 0.08, "5 % were promised"
    assert called, "a bound that nothing ever meets would be too wide"


def test_what_git_does_not_hold_cannot_be_verified(tmp_path):
    with pytest.raises(UserError, match="git has no committed outputs/nosuch"):
        verify.committed("nosuch", tmp_path)


def test_the_committed_outputs_are_read_from_git(tmp_path):
    assert (verify.committed("smoke", tmp_path) / "tables" / "main.csv").exists()


@pytest.fixture
def anew(tmp_path, monkeypatch):
    """A run of the book that takes no time: every chapter "executed" leaves what is committed, and a trained run."""
    monkeypatch.setenv("SEQDISTILL_OUTPUTS", str(tmp_path))
    executed = []

    def execute(chapter, preset):
        executed.append(chapter)
        shutil.copytree(verify.committed(preset, tmp_path / "again"), tmp_path / preset, dirs_exist_ok=True)
        (tmp_path / preset / "runs" / chapter).mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(verify.book, "execute", execute)
    monkeypatch.setattr(verify.book, "weights", lambda _: None)
    return tmp_path / "smoke", executed


def test_every_chapter_is_executed_and_nothing_has_moved(anew, capsys):
    assert verify.run("smoke") == 0
    assert anew[1] == chapters() and "cells compared, 0 moved." in capsys.readouterr().out


def test_what_moved_ends_in_an_error_and_a_list(anew, monkeypatch, capsys):
    execute = verify.book.execute

    def wrong(chapter, preset):
        execute(chapter, preset)
        edited(anew[0], "main.csv", lambda table: table.__setitem__("cases", table["cases"] + 1))

    monkeypatch.setattr(verify.book, "execute", wrong)
    assert verify.run("smoke") == 1
    moved = pd.read_csv(anew[0] / "moved.csv")
    assert set(moved["column"]) == {"cases"} and set(moved["judged"]) == {"changed"}
    assert "must be equal and is not" in capsys.readouterr().out


def test_a_killed_check_keeps_its_runs_and_a_finished_one_is_thrown_away(anew, monkeypatch):
    home, _ = anew
    (home / "runs" / "trained").mkdir(parents=True)
    verify.run("smoke")
    assert (home / "runs" / "trained").exists(), "the run before was not compared: it was killed"
    verify.run("smoke")
    assert not (home / "runs" / "trained").exists(), "the run before was compared: this one is fresh"

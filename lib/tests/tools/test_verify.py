"""What `make verify` calls out: everything that must be equal, and trained numbers beyond the spread over seeds."""

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
    shutil.copytree(STORED / "tables", tmp_path / "fresh" / "tables")
    shutil.copy(STORED / "metrics.json", tmp_path / "fresh")
    return tmp_path / "fresh"


def edit(home, name, change):
    table = pd.read_csv(home / "tables" / name)
    change(table)
    table.to_csv(home / "tables" / name, index=False)


MOVES = [(0.05, 1.001, 0), (0.05, -30.0, 1), (1, -30.0, 0)]
MOVES = [("ndcg@10", 0.05, 0.0, 1), *((column, *move) for column in ("ndcg@10", "delta_ndcg@10") for move in MOVES)]


@pytest.mark.parametrize(("column", "spread", "factor", "lines"), MOVES)
def test_a_trained_number_may_move_as_far_as_seeds_move_it_and_never_to_zero(fresh, column, spread, factor, lines):
    old = pd.read_csv(STORED / "tables" / "main.csv")
    for metric in verify.METRICS:
        old[f"{metric}_std"] = (spread * old[metric]).where(old["model"] != "baseline")
    row, new = old.query("model == 'SASRec' and variant == 'distilled'").index[0], old.copy()
    new.loc[row, column] *= factor
    moved = verify.moved("main.csv", old, new, verify.seed_spread(old), 12)
    assert len(moved) == lines and all(f"main.csv, row {row}, {column}: " in line for line in moved)


def test_a_count_a_name_a_baseline_a_row_and_a_file_must_be_equal(fresh):
    def change(table):
        table.loc[0, "cases"] += 1
        table.loc[1, "variant"] = "item-kMM"
        table.loc[table["model"] == "baseline", "recall@10"] += 0.001

    edit(fresh, "main.csv", change)
    edit(fresh, "zero-shot.csv", lambda table: table.pop("source"))
    (fresh / "tables" / "data.csv").unlink()
    metrics = json.loads((fresh / "metrics.json").read_text())
    metrics["01-data"]["users"] += 1
    (fresh / "metrics.json").write_text(json.dumps(metrics))
    text, parts = "\n".join(verify.compare(STORED, fresh)), ["data.csv: not written", "zero-shot.csv: the columns"]
    parts += ["row 0, cases", "item-kMM", "recall@10", "01-data, users"]
    assert [part for part in parts if part not in text] == []


def test_a_verdict_that_flips_is_named_and_time_is_not(fresh):
    edit(fresh, "main.csv", lambda table: table.__setitem__("verdict", "significant gain!"))
    edit(fresh, "profiles.csv", lambda table: table.__setitem__("seconds", table["seconds"] * 7))
    lines = verify.compare(STORED, fresh)
    assert lines and all(line.startswith("VERDICT main.csv") for line in lines)


@pytest.mark.parametrize("seeds", [2, 5])
def test_other_seeds_are_called_out_as_seldom_as_promised(seeds):
    rng, called = np.random.default_rng(0), 0

    def draw():
        values = {name: 0.05 * (1 + 0.03 * rng.standard_normal((4, seeds))) for name in verify.METRICS}
        table = {"model": "SASRec", "protocol": "p/all", "seen": "included", "seeds": seeds, "variant": list("abcd")}
        table |= {name: value.mean(1) for name, value in values.items()}
        table |= {f"{name}_std": value.std(1, ddof=1) for name, value in values.items()}
        return pd.DataFrame(table | {"delta_ndcg@10": table["ndcg@10"] - table["ndcg@10"][0]})

    for _ in range(100):
        stored = draw()
        called += bool(verify.moved("main.csv", stored, draw(), verify.seed_spread(stored), 12))
    assert 0 < called <= 10, "5 % were promised, and a bound that nothing meets would be too wide"


def test_every_chapter_is_executed_and_what_was_compared_starts_afresh(home, monkeypatch, capsys):
    executed, outputs = [], verify.committed("smoke", home)
    monkeypatch.setattr(verify.book, "execute", lambda chapter, preset: executed.append(chapter))
    monkeypatch.setattr(verify.written, "weights", lambda _: None)
    (outputs / "runs" / "trained").mkdir(parents=True)
    assert verify.run("smoke") == 0
    assert executed == chapters() and "0 differences" in capsys.readouterr().out
    assert (outputs / "runs" / "trained").exists(), "the run before was killed: it resumes"
    monkeypatch.setattr(verify, "compare", lambda *_: ["MOVED all"])
    assert verify.run("smoke") == 1 and not (outputs / "runs" / "trained").exists()
    with pytest.raises(UserError, match="git has no committed outputs/nosuch"):
        verify.committed("nosuch", home)

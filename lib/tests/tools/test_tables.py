from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tables
from seqbook.reporting import main_tables
from seqbook.reporting.main_tables import Comparison, comparable, main_table, record, recorded
from seqdistill.evaluation.ranking import save_ranks
from seqdistill.io import ROOT, UserError, load_csv, save_json


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQDISTILL_OUTPUTS", str(tmp_path))
    return tmp_path / "smoke"


def ranks(seed, positions):
    rng, places = np.random.default_rng(seed), np.tile(np.arange(positions), 30)
    frame = pd.DataFrame({"user": np.repeat(np.arange(30), positions), "item": 1, "position": places})
    rank_all = rng.integers(1, 40, len(frame))
    return frame.assign(rank_all=rank_all, rank_unseen=np.maximum(1, rank_all - 2))


def compared(home, seeds, positions):
    """A plain student, a taught one that ranks far better than it and its control, and a baseline, as 04 leaves them."""
    names = ["SASRec plain", "SASRec distilled", "SASRec shuffled-target"]
    ranked, runs = {"baseline popularity": [ranks(99, positions)]}, {"baseline popularity": ["baseline-popularity"]}
    for place, name in enumerate(names):
        ranked[name] = [ranks(10 * place + seed, positions) for seed in seeds]
        runs[name] = [f"{name.split()[1]}{seed}" for seed in seeds]
    ranked[names[1]] = [frame.assign(rank_all=1, rank_unseen=1) for frame in ranked[names[1]]]
    for name in names:
        for seed, key, frame in zip(seeds, runs[name], ranked[name], strict=True):
            logs = [{"loss_model": 3.0 - epoch, "valid_ndcg@10": 0.1} for epoch in (0, 1)]
            save_json({"config": {"seed": seed}, "history": logs}, home / "runs" / key / "metrics.json")
            save_ranks(frame, home / "runs" / key / "ranks.parquet")
    against = dict.fromkeys([*names[1:], "baseline popularity"], names[0])
    return ranked, Comparison(runs, against, {names[1]: names[2]}, positions == 1, "mine", "loo", "digest")


def test_tables_are_made_again_from_the_recorded_runs_alone(home):
    ranked, comparison = compared(home, [0, 1], 2)
    record(comparison, ranked, home)
    made = tables.remake("smoke")
    assert all((home / name).exists() for name in made) and len(made) == 6
    main = main_table(ranked, comparison)
    pd.testing.assert_frame_equal(load_csv(home / "tables" / "main.csv"), main, check_dtype=False)
    assert set(main["protocol"]) == {"loo/all", "loo/last"} and len(main) == 4 * len(ranked)
    assert set(main.loc[main["variant"] == "distilled", "verdict"]) == {"significant gain"}
    assert load_csv(home / "tables" / "seen.csv")["variant"].tolist() == list(ranked)


def test_one_seed_and_one_target_a_user_have_neither_power_nor_a_second_reading(home):
    record(*compared(home, [0, 1], 1)[::-1], home)
    tables.remake("smoke")
    record(*compared(home, [0], 1)[::-1], home)
    assert not any("power" in name for name in tables.remake("smoke"))
    assert not (home / "tables" / "power.csv").exists() and not (home / "figures" / "power.png").exists()
    main = load_csv(home / "tables" / "main.csv")
    assert set(main["protocol"]) == {"loo/all"} and "one seed" in set(main["verdict"])


def test_only_a_table_of_the_same_events_settings_and_teacher_is_comparable(home):
    ranked, comparison = compared(home, [0], 1)
    other = home.parent / "other"
    assert not comparable(home, other)
    record(comparison, ranked, home)
    record(comparison, ranked, other)
    assert comparable(home, other)
    record(replace(comparison, made_with="another"), ranked, other)
    assert not comparable(home, other)


def test_power_comes_from_the_recorded_runs_and_grows_with_users_and_seeds(home, monkeypatch):
    monkeypatch.setattr(tables, "TABLES", 10)
    record(*compared(home, [0], 1)[::-1], home)
    with pytest.raises(UserError, match="with two seeds or more"):
        tables.powers("smoke")
    record(*compared(home, [0, 1], 1)[::-1], home)
    monkeypatch.setattr(main_tables, "components", lambda *_: {"user_sd": 0.02, "seed_sd": 0.0, "rest_sd": 0.02})
    what, table = tables.powers("smoke")
    assert what.endswith("30 users") and table.shape == (8, 4)
    assert table.loc[(30, 2)].mean() + 0.3 < table.loc[(120, 10)].mean()


def test_beautys_committed_table_follows_from_its_recorded_runs():
    home = ROOT / "outputs" / "amazon-beauty-5core"
    comparison, ranked = recorded(home)
    made = main_table(ranked, comparison)
    pd.testing.assert_frame_equal(load_csv(home / "tables" / "main.csv"), made, check_dtype=False, rtol=1e-9)
    assert {len(keys) for system, keys in comparison.runs.items() if system not in comparison.fixed} == {5}

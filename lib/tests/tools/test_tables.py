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
def smoke(home, monkeypatch):
    """Where the preset's outputs lie; two numbers of seeds and two gains make the power figure quick."""
    monkeypatch.setattr(main_tables, "SEEDS", [2, 5])
    monkeypatch.setattr(main_tables, "GAINS", [0.0, 0.1])
    return home / "outputs" / "smoke"


def ranks(seed, positions, spread):
    places, drawn = (
        np.tile(np.arange(positions), 30),
        np.random.default_rng(seed).integers(1, 1 + spread, 30 * positions),
    )
    frame = pd.DataFrame({"user": np.repeat(np.arange(30), positions), "item": 1, "position": places})
    return frame.assign(rank_all=drawn, rank_unseen=np.maximum(1, drawn - 2))


def compared(smoke, seeds, positions):
    """Record a plain student, a taught one that ranks far better, its control, and a baseline, as 04 does."""
    plain, taught, control, baseline = (
        "SASRec plain",
        "SASRec distilled",
        "SASRec shuffled-target",
        "baseline popularity",
    )
    ranked, runs = {baseline: [ranks(99, positions, 39)]}, {baseline: ["baseline-popularity"]}
    for place, (name, spread) in enumerate({plain: 39, taught: 1, control: 39}.items()):
        ranked[name], runs[name] = [], [f"{name.split()[1]}{seed}" for seed in seeds]
        for seed, key in zip(seeds, runs[name], strict=True):
            logs = [{"loss_model": 3.0 - epoch, "valid_ndcg@10": 0.1} for epoch in (0, 1)]
            save_json({"config": {"seed": seed}, "history": logs}, smoke / "runs" / key / "metrics.json")
            ranked[name].append(ranks(10 * place + seed, positions, spread))
            save_ranks(ranked[name][-1], smoke / "runs" / key / "ranks.parquet")
    against = dict.fromkeys([taught, control, baseline], plain)
    comparison = Comparison(runs, against, {taught: control}, positions == 1, "mine", "loo", "digest")
    record(comparison, ranked, smoke)
    return ranked, comparison


def test_tables_are_made_again_from_the_recorded_runs_alone(smoke):
    ranked, comparison = compared(smoke, [0, 1], 2)
    made = tables.remake("smoke")
    assert all((smoke / name).exists() for name in made) and len(made) == 6
    main = main_table(ranked, comparison)
    pd.testing.assert_frame_equal(load_csv(smoke / "tables" / "main.csv"), main, check_dtype=False)
    assert set(main["protocol"]) == {"loo/all", "loo/last"} and len(main) == 4 * len(ranked)
    assert set(main.loc[main["variant"] == "distilled", "verdict"]) == {"significant gain"}
    assert load_csv(smoke / "tables" / "seen.csv")["variant"].tolist() == list(ranked)


def test_one_seed_and_one_target_a_user_have_neither_power_nor_a_second_reading(smoke):
    compared(smoke, [0, 1], 1)
    tables.remake("smoke")
    compared(smoke, [0], 1)
    assert not any("power" in name for name in tables.remake("smoke"))
    assert not (smoke / "tables" / "power.csv").exists() and not (smoke / "figures" / "power.png").exists()
    main = load_csv(smoke / "tables" / "main.csv")
    assert set(main["protocol"]) == {"loo/all"} and "one seed" in set(main["verdict"])
    with pytest.raises(UserError, match="with two seeds or more"):
        tables.powers("smoke")


def test_only_a_table_of_the_same_events_settings_and_teacher_is_comparable(smoke):
    (ranked, comparison), other = compared(smoke, [0], 1), smoke.parent / "other"
    assert not comparable(smoke, other)
    record(comparison, ranked, other)
    assert comparable(smoke, other)
    record(replace(comparison, made_with="another"), ranked, other)
    assert not comparable(smoke, other)


def test_power_comes_from_the_recorded_runs_and_grows_with_users_and_seeds(smoke, monkeypatch):
    monkeypatch.setattr(tables, "TABLES", 20)
    monkeypatch.setattr(main_tables, "GAINS", [0.0, 0.05])
    compared(smoke, [0, 1], 1)
    monkeypatch.setattr(main_tables, "components", lambda *_: {"user_sd": 0.02, "seed_sd": 0.0, "rest_sd": 0.02})
    what, table = tables.powers("smoke")
    assert what.endswith("30 users") and table.shape == (4, 1)
    assert table.loc[(30, 2)].mean() + 0.3 < table.loc[(120, 5)].mean()


def test_beautys_committed_table_follows_from_its_recorded_runs():
    home = ROOT / "outputs" / "amazon-beauty-5core"
    comparison, ranked = recorded(home)
    made = main_table(ranked, comparison)
    pd.testing.assert_frame_equal(load_csv(home / "tables" / "main.csv"), made, check_dtype=False, rtol=1e-9)
    assert {len(keys) for system, keys in comparison.runs.items() if system not in comparison.fixed} == {5}

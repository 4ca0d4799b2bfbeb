import shutil

import numpy as np
import pandas as pd
import pytest
import tables
from seqdistill.evaluation.ranking import save_ranks
from seqdistill.io import UserError, load_csv, save_json
from seqdistill.reporting.main_tables import Comparison, main_table, record, recorded


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQDISTILL_OUTPUTS", str(tmp_path))
    return tmp_path / "smoke"


def ranks(seed):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"user": np.repeat(np.arange(30), 2), "item": 1, "position": np.tile([0, 1], 30)})
    rank_all = rng.integers(1, 40, 60)
    return frame.assign(rank_all=rank_all, rank_unseen=np.maximum(1, rank_all - 2))


@pytest.fixture
def compared(home):
    names = ["SASRec plain", "SASRec distilled", "SASRec shuffled-target"]
    runs = {name: [f"{name.split()[1]}{seed}" for seed in (0, 1)] for name in names}
    ranked = {name: [ranks(10 * place + seed) for seed in (0, 1)] for place, name in enumerate(names)}
    for name, keys in runs.items():
        for seed, (key, frame) in enumerate(zip(keys, ranked[name], strict=True)):
            logs = [{"loss_model": 3.0 - epoch, "valid_ndcg@10": 0.1} for epoch in (0, 1)]
            save_json({"config": {"seed": seed}, "history": logs}, home / "runs" / key / "metrics.json")
            save_ranks(frame, home / "runs" / key / "ranks.parquet")
    ranked["baseline popularity"] = [ranks(99)]
    against = dict.fromkeys([*names[1:], "baseline popularity"], names[0])
    return ranked, Comparison(
        runs | {"baseline popularity": ["baseline-popularity"]}, against, {names[1]: names[2]}, False, "mine", "loo"
    )


def test_tables_are_made_again_from_the_recorded_runs_alone(home, compared):
    ranked, comparison = compared
    record(comparison, ranked, home)
    made = tables.remake("smoke")
    assert all((home / name).exists() for name in made) and len(made) == 6
    main = main_table(ranked, comparison)
    pd.testing.assert_frame_equal(load_csv(home / "tables" / "main.csv"), main, check_dtype=False)
    assert set(main["protocol"]) == {"loo/all", "loo/last"} and len(main) == 4 * len(ranked)
    assert main.loc[main["variant"] == "distilled", "verdict"].isin(["inconclusive", "significant gain"]).all()


def test_a_run_that_is_not_recorded_is_named(home, compared):
    ranked, comparison = compared
    record(comparison, ranked, home)
    shutil.rmtree(home / "runs" / "distilled1")
    with pytest.raises(UserError, match="the ranks of SASRec distilled are not recorded in distilled1"):
        recorded(home)

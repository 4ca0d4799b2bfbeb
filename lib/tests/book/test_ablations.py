from dataclasses import replace

import bench_transfer
import numpy as np
import pandas as pd
import pytest
import torch
from seqbook import ablation
from seqbook.ablation import CONTROLS, Setup, ablate, noise_like, only_some, planned, quarters
from seqdistill.config import Distillation, ModelConfig, TrainConfig
from seqdistill.io import ROOT, UserError, load_json
from seqdistill.training.sweep import Job, plan, results, sweep

SMALL = TrainConfig(ModelConfig(dim=8, blocks=1, heads=1, length=10), epochs=2, batch=16)


@pytest.fixture
def teacher():
    drawn = torch.randn(2_000, 3, generator=torch.Generator().manual_seed(0))
    made = drawn @ torch.tensor([[2.0, 0, 0], [1, 1, 0], [0, 0, 0.5]])
    made[::4] = torch.nan
    return made


@pytest.fixture
def setup(data, tmp_path):
    literal, taught = Distillation(phase1_fraction=1), Distillation(phase1_fraction=1, projection="student")
    return Setup(tmp_path, data, SMALL, literal, taught, [0], "loky", {})


def test_noise_has_the_covariance_of_the_teacher_and_no_more(teacher):
    noise, has = noise_like(teacher, 0), ~teacher.isnan().any(1)
    assert torch.equal(noise.isnan(), teacher.isnan())
    ours, true = (torch.cov((vectors[has] / teacher[has].std(0)).T) for vectors in (noise, teacher))
    torch.testing.assert_close(ours, true, atol=0.12, rtol=0)
    assert abs(np.corrcoef(noise[has].T, teacher[has].T)[:3, 3:]).max() < 0.1
    assert not torch.equal(noise[has], noise_like(teacher, 1)[has])


def test_a_larger_share_of_users_holds_the_smaller(teacher):
    few, many = (~only_some(teacher, share, 0).isnan().any(1) for share in (0.1, 0.5))
    assert (few.sum(), many.sum()) == (150, 750)
    assert (many | ~few).all() and not few[::4].any()
    assert torch.equal(only_some(teacher, 0.1, 0)[few], teacher[few])
    assert not torch.equal(few, ~only_some(teacher, 0.1, 1).isnan().any(1))


def test_a_recorded_table_is_read_unless_its_settings_are_others(setup, tmp_path):
    home, cells = tmp_path / "recorded", {"one": setup.taught}
    trained = ablate(replace(setup, home=home, seeds=[0, 1], teacher={"encoder": "e5"}), "weights", cells)
    reading = replace(setup, recorded=home, teacher={"encoder": "e5"})
    pd.testing.assert_frame_equal(ablate(reading, "weights", cells), trained, check_dtype=False)
    copied, original = (folder / "tables" / "ablation-weights.json" for folder in (setup.home, home))
    assert load_json(copied) == load_json(original) and load_json(copied)["seeds"] == [0, 1]
    assert not (setup.home / "runs").exists()
    stale = [{"alone": replace(setup.alone, epochs=3)}, {"seeds": [0, 2]}, {"teacher": {"encoder": "minilm"}}]
    stale = [(change, cells) for change in (*stale, {"data": replace(setup.data, key="other events")})]
    for change, asked in [*stale, ({}, {"one": replace(setup.taught, alpha=0.9)}), ({}, {"two": setup.taught})]:
        with pytest.raises(UserError, match="not recorded with these data, teacher and settings"):
            ablate(replace(reading, **change), "weights", asked)
    original.unlink()
    with pytest.raises(UserError, match=r"ablation-weights\.json: no such file"):
        ablate(reading, "weights", cells)


def test_the_best_rival_is_chosen_on_validation(setup):
    cells = {name: Job(replace(setup.alone, lr=lr), setup.data) for name, lr in (("a", 0.01), ("b", 1e-6), ("c", 0.02))}
    sweep(plan(cells, setup.seeds, setup.data), setup.home / "runs", workers=1)
    table = ablation.against_best(setup, cells, "a", ["b", "c"])
    runs = results(plan(cells, setup.seeds, setup.data), setup.home / "runs")
    best = max("bc", key=lambda name: runs[name, 0]["valid_ndcg@10"])
    assert table["variant"].tolist() == ["a", best] and table["baseline"].tolist() == [best, ""]


def test_varied_tells_a_run_from_its_teacher(data):
    taught = {"a": Distillation(loss="cosine"), "b": Distillation(loss="mse", alpha=0.6)}
    jobs = {name: Job(TrainConfig(loss="sampled", distillation=one), data) for name, one in taught.items()}
    assert ablation.varied(jobs).to_dict("list") == {"alpha": [0.4, 0.6], "distil_loss": ["cosine", "mse"]}


def test_every_taught_cell_has_a_shuffled_control_of_its_side(setup):
    cells = {side: Distillation(projection=side, phase1_fraction=1) for side in CONTROLS}
    longer = {"longer": TrainConfig(epochs=3)}
    jobs, controls = planned(setup, cells | longer)
    assert controls == CONTROLS and jobs["plain", 0].run.distillation is None
    settings = [jobs[control, 0].run.distillation for control in controls.values()]
    assert [(one.projection, one.shuffled) for one in settings] == [(side, True) for side in CONTROLS]
    other = Job(TrainConfig(distillation=cells["student"]), setup.data)
    jobs, controls = planned(setup, {"facts": other, "profile": cells["student"]}, own=["facts"])
    assert controls == {"facts": "facts-shuffled", "profile": "shuffled"}
    assert jobs["facts-shuffled", 0] == other._replace(run=ablation.shuffled(other.run))
    assert {variant for variant, _ in planned(setup, longer)[0]} == {"plain", "longer"}


def test_quarters_in_their_order_and_of_equal_values():
    cut = quarters(pd.Series(range(1, 9)))
    assert list(cut.cat.categories) == ["1 to 2", "3 to 4", "5 to 6", "7 to 8"]
    assert cut.value_counts().tolist() == [2] * 4 and cut.cat.codes.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert list(quarters(pd.Series([5, 5, 5])).cat.categories) == ["5"]


def test_gains_within_groups_by_hand():
    base = pd.DataFrame({"user": range(100), "item": 1, "position": 0, "rank_all": 3})
    taught = base.assign(rank_all=np.where(base["user"] < 50, 1 + base["user"] % 2, 3))
    halves = lambda cases: (cases["user"] < 50).map({True: "low", False: "high"}).astype("category")  # noqa: E731
    table = ablation.gains_by([taught] * 2, [base] * 2, {"half": halves}).set_index("group")
    assert table["cases"].to_dict() == {"high": 50, "low": 50} and table["ndcg@10"].tolist() == [0.5, 0.5]
    assert table["delta_ndcg@10"].to_dict() == {"high": 0.0, "low": pytest.approx(0.5 / np.log2(3))}
    assert table["verdict"].to_dict() == {"high": "inconclusive", "low": "significant gain"}
    assert set(ablation.gains_by([taught], [base], {"half": halves})["verdict"]) == {"one seed"}


def test_what_is_tested_on_beauty_was_chosen_on_validation():
    search, table = (pd.read_csv(ROOT / "outputs" / "bench" / f"transfer{of}.csv") for of in ("-search", ""))
    taught, chosen = search.dropna(subset="untaught"), bench_transfer.SEARCHED
    assert {"plain", "profile", *bench_transfer.SOURCES, "reads", *taught["untaught"]} <= set(search["variant"])
    assert search["variant"].str.endswith(", to the end").any() and set(search["seeds"]) == {len(chosen)}
    winner = taught.loc[taught["valid_ndcg@10"].idxmax()]
    untaught = search[search["untaught"].isna()].set_index("variant")["valid_ndcg@10"].idxmax()
    tested = table[(table["variant"] == winner["variant"]) & (table["baseline"] == "plain")]
    assert list(tested["seen"]) == ["excluded", "included"] * 2 and set(tested["control"]) == {"shuffled"}
    assert not set(bench_transfer.FRESH) & set(chosen)
    seeds = [" ".join(map(str, each)) for each in (chosen, bench_transfer.FRESH)]
    assert list(table["tested"].unique()) == seeds and set(table["cases"]) == {22_363}
    assert (table["seeds"] == table["tested"].str.split().str.len()).all()
    baselines = table.loc[table["variant"] == winner["variant"], "baseline"]
    assert set(baselines) == {"plain", winner["untaught"], untaught}


def test_strength_compares_each_budget_with_its_own_plain_student(setup):
    table = ablation.strength(setup, [0.5, 1.0]).set_index("variant")
    forms = ("plain", "distilled-student", "shuffled")
    assert table["epochs"].to_dict() == {f"{form}, {epochs} epochs": epochs for epochs in (1, 2) for form in forms}
    taught, plain = (table.loc[f"{form}, 1 epochs"] for form in ("distilled-student", "plain"))
    assert taught["baseline"] == "plain, 1 epochs" and taught["control"] == "shuffled, 1 epochs"
    assert taught["delta_ndcg@10"] == pytest.approx(taught["ndcg@10"] - plain["ndcg@10"])
    assert (setup.home / "tables" / "strength.csv").exists()


def test_a_budget_leaves_phase_1_an_epoch(setup):
    taught = Distillation(phase1_fraction=0.25)
    long = replace(setup, alone=replace(setup.alone, epochs=20), taught=taught, literal=taught)
    assert [ablation.epochs_for(long, share) for share in (0.01, 0.5, 1.0, 2.0)] == [3, 10, 20, 40]

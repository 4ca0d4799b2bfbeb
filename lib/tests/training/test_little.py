"""The study of few training users, whose data set is not in the repository: what it chooses, trains and writes."""

from dataclasses import replace

import bench_little
import little_sources
import numpy as np
import pandas as pd
import pytest
from seqdistill.config import Distillation, ModelConfig, TrainConfig, parse
from seqdistill.data import Dataset
from seqdistill.io import load_csv, load_json, save_csv
from seqdistill.training.sweep import plan, results, run_folder
from seqdistill.training.train import with_teacher

SMALL = TrainConfig(ModelConfig(dim=8, blocks=1, heads=1, length=10), epochs=2, batch=16)
CANDIDATES = {"short": replace(SMALL, epochs=1), "long": SMALL}


@pytest.fixture
def study(tmp_path, monkeypatch):
    constants = {
        "RUNS": tmp_path / "runs", "OUT": tmp_path, "SEEDS": [0, 1], "SEARCHED": [0, 1],
        "CANDIDATES": {"SASRec": CANDIDATES}, "TAUGHT": Distillation(projection="student", phase1_fraction=1.0),
    }  # fmt: skip
    for name, value in constants.items():
        monkeypatch.setattr(bench_little, name, value)
    return bench_little


def test_settings_are_chosen_by_the_mean_of_the_seeds_on_validation(study, data):
    best, searched = study.chosen("SASRec", data)
    runs = results(plan(CANDIDATES, [0, 1], data), study.RUNS)
    means = {name: sum(runs[name, seed]["valid_ndcg@10"] for seed in (0, 1)) / 2 for name in CANDIDATES}
    assert searched.set_index("settings")["valid_ndcg@10"].to_dict() == pytest.approx(means)
    assert best == max(means, key=means.get) and list(searched.query("chosen")["settings"]) == [best]


def test_every_source_is_tested_against_plain_and_its_own_control(study, data):
    jobs = study.planned(SMALL, data, {"facts": with_teacher(data, data.teacher.roll(1, 0))})
    assert {name: job.run.distillation and job.run.distillation.shuffled for (name, _), job in jobs.items()} == {
        "plain": None, "facts": False, "facts-shuffled": True,
    }  # fmt: skip
    columns = {"model": "SASRec", "trained_on": 40, "settings": "long", "dataset": "small"}
    table, _ = study.compared(jobs, ["facts"], columns)
    for job in jobs.values():
        (run_folder(job, study.RUNS) / "model.safetensors").unlink()
    study.save({"little-data": [table]})
    saved = load_csv(study.OUT / "little-data.csv")
    assert list(saved.columns[:4]) == ["dataset", "model", "trained_on", "settings"]
    tested = saved.query("control != ''")[["variant", "seen", "baseline", "control"]].to_numpy().tolist()
    assert tested == [["facts", seen, "plain", "facts-shuffled"] for seen in ("excluded", "included")]
    pd.testing.assert_frame_equal(study.compared(jobs, ["facts"], columns)[0], table)


def test_doses_of_noise_go_from_the_teacher_to_its_control(study, data):
    jobs = study.planned(SMALL, data, {"facts": with_teacher(data, data.teacher.roll(1, 0))})
    noisy = {0.5: with_teacher(data, data.teacher.roll(2, 0))}
    table, slopes = study.dosed(jobs, "facts", noisy, {"model": "SASRec"})
    assert table[["variant", "seen", "share", "baseline"]].to_numpy().tolist() == [
        ["facts", seen, share, "plain"] for seen in ("excluded", "included") for share in (0.0, 0.5, 1.0)
    ]
    for seen, parts in slopes.items():
        level = table[table["seen"] == seen]["ndcg@10"].to_numpy()
        assert pd.concat(parts).mean() == pytest.approx(level[2] - level[0])  # of three shares in equal steps
    ends, _ = study.compared(jobs, ["facts"], {"model": "SASRec"})
    for share, name in ((0.0, "facts"), (1.0, "facts-shuffled")):
        gained = table.loc[table["share"] == share, "delta_ndcg@10"].tolist()
        assert gained == ends.loc[ends["variant"] == name, "delta_ndcg@10"].tolist()


def test_the_whole_study_writes_every_table_and_keeps_the_rows_of_others(study, events, tmp_path, monkeypatch):
    rng, items, users = np.random.default_rng(0), int(events["item"].max()), events["user"].unique()
    names = pd.DataFrame({"item": range(1, items + 1), "item_id": range(1, items + 1), "title": "Soap"})
    ids = pd.DataFrame({"user": users, "user_id": users.astype(str)})
    dataset = Dataset(events, ids, names, True, "beauty", (), name="small")

    def teachers(dataset, left, drawn, catalogue, styles):
        sources = dict.fromkeys([*study.SOURCES, *styles])
        vectors = {source: rng.standard_normal((len(drawn), 6)).astype(np.float32) for source in sources}
        return drawn, vectors, {source: pd.Series(f"Likes {source}.", drawn) for source in styles}

    constants = {
        "STUDIES": [("SASRec", 20), ("SASRec", 15)], "CALLS": [10], "DOSES": [0.5], "DOSED": ["facts", "profile"], "CUTS": [3],
        "SOURCES": ["profile", "facts", "item-text"], "WIDTH": 4, "encoder_key": lambda _: "key",
        "beauty": lambda: (dataset, events, rng.standard_normal((items, 6))),
    }  # fmt: skip
    for name, value in constants.items():
        monkeypatch.setattr(study, name, value)
    for module in (study, little_sources):
        monkeypatch.setattr(module, "teachers", teachers)
    search = {"dataset": "small", "model": ["SASRec", "GRU4Rec"], "trained_on": [20, 9], "settings": ["long", "old"]}
    save_csv(pd.DataFrame(search).assign(chosen=False), tmp_path / "little-search.csv")
    study.main()
    written = ["data", "doses", "extension", "rivals", "search", "short", "short-rivals", "zero-shot"]
    tables = {name: load_csv(tmp_path / f"little-{name}.csv") for name in written}
    searched = tables["search"].groupby("trained_on")["settings"].agg(list).to_dict()
    assert searched == {20: ["short", "long"], 15: ["short", "long"], 9: ["old"]}
    assert tables["data"].groupby("trained_on").size().to_dict() == {20: 14, 15: 14}
    assert tables["extension"].query("variant == 'extended-10'")["calls"].tolist() == [10, 10]
    doses = tables["doses"].query("seen == 'excluded'")
    assert doses[["variant", "share"]].to_numpy().tolist() == [
        [source, share] for source in ("facts", "profile") for share in (0.0, 0.5, 1.0)
    ]
    ends = [doses.query("variant == 'facts' and share == @share")["ndcg@10"].item() for share in (0.0, 1.0)]
    assert doses["slope"].iloc[0] == pytest.approx(ends[1] - ends[0])
    shorter, longer = (tables[name].query("seen == 'excluded'") for name in ("short", "data"))
    assert shorter["variant"].tolist() == longer.query("trained_on == 20")["variant"].tolist()
    assert set(shorter["length"]) == set(tables["short-rivals"]["length"]) == {3}
    runs = [parse(TrainConfig, load_json(path), path.name) for path in study.RUNS.glob("*/config.json")]
    short = {replace(run, model=replace(run.model, length=10), windows="all") for run in runs if run.windows == "last"}
    assert {run.model.length for run in runs if run.windows == "last"} == {3} and short < set(runs)
    assert set(tables["rivals"]["variant"]) == {"profile", "extended-10"}
    assert tables["zero-shot"]["variant"].tolist()[-3:] == [*little_sources.TRIED]


def test_each_source_is_ranked_with_the_profiles_of_its_llm_and_prompt(events, monkeypatch):
    items, asked = pd.DataFrame({"item": range(1, 31), "title": "Soap"}), []
    dataset = Dataset(events, None, items, True, "beauty", ())

    def profiles(_, read, llm, style):
        asked.append((llm, style, len(read)))
        return pd.Series(f"By {llm}, {style}.", sorted(read))

    def encode(texts, _):
        return np.array([[len(text), "1.5b" in text, "insight" in text] for text in texts], np.float32), 0.0

    for name, value in {"profiles": profiles, "encode": encode, "TRIED_USERS": 10}.items():
        monkeypatch.setattr(little_sources, name, value)
    table = little_sources.untrained(dataset, events, np.arange(40), np.eye(30, 3, dtype=np.float32) + 0.1)
    small, large = "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"
    few = [(small, "grounded"), (small, "insight"), (large, "grounded"), (large, "insight")]
    assert asked == [(small, "grounded", 40), *((*one, 10) for one in few)]
    assert table["users"].tolist() == [40] * 4 + [10] * 7
    assert table["variant"].tolist()[-3:] == ["insight", "profile-1.5b", "insight-1.5b"]

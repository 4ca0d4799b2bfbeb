"""Benchmarks on Beauty, whose data are not in the repository: lines about items, losses, and few training users."""

from dataclasses import replace
from types import SimpleNamespace

import bench_form
import bench_items
import bench_little
import bench_search
import little_sources
import numpy as np
import pandas as pd
import pytest
from seqbook.zero_shot import similarity_ranks
from seqdistill.config import Distillation, ModelConfig, TrainConfig, parse
from seqdistill.data import Dataset
from seqdistill.embeddings.teachers import centred
from seqdistill.evaluation.baselines import popularity
from seqdistill.evaluation.ranking import metrics, rank
from seqdistill.io import digest, load_csv, load_json, save_csv
from seqdistill.profiles.answers import load_shipped
from seqdistill.profiles.chat import Answer, Failure
from seqdistill.profiles.prompts import template
from seqdistill.training.sweep import plan, results
from seqdistill.training.train import training_data

SMALL = TrainConfig(ModelConfig(dim=8, blocks=1, heads=1, length=10), epochs=2, batch=16)
CANDIDATES = {"short": replace(SMALL, epochs=1), "long": SMALL}
BEAUTY = "amazon-beauty-5core"
TITLES = ["Soap", "Comb", "Oil", "Wax", "OPI Nail Lacquer, Blue"]  # the last in the prompt's examples, too


def test_items_are_described_once_and_new_ones_added(tmp_path, monkeypatch):
    items = pd.DataFrame({"item": range(1, 6), "item_id": [f"id {name}" for name in TITLES], "title": TITLES})
    dataset, asked = Dataset(None, None, items, False, "beauty", (), name="small"), []

    def answers(chats, sampling):
        """Repeat the item of the last message; refuse wax."""
        for index, (*_, message) in enumerate(chats):
            asked.append(item := message["content"])
            yield index, Failure("empty answer") if "Wax" in item else Answer(f"Use: {item}", 1, 1, 0.1, "stop")

    writer = SimpleNamespace(name="writer", answers=answers)
    for name, value in {"data_dir": lambda: tmp_path, "open_llm": lambda _: writer, "LEAST": 0.5}.items():
        monkeypatch.setattr(bench_items, name, value)
    first = bench_items.lines_of(dataset, np.array([2, 1]), "qwen2.5-coder-0.5b")
    assert first.to_dict() == {2: 'Use: "Comb"', 1: 'Use: "Soap"'} and asked == ['"Comb"', '"Soap"']
    (tmp_path / "cache" / "answers.sqlite").unlink()  # what is shipped is enough
    more = bench_items.lines_of(dataset, np.array([2, 1, 5, 4, 3]), "qwen2.5-coder-0.5b")
    assert more.index.tolist() == [2, 1, 3] and asked[2:] == ['"Wax"', '"Oil"']
    kept = load_shipped(tmp_path / "profiles" / "small" / "items" / "qwen2.5-coder-0.5b.parquet")
    assert kept["user_id"].tolist() == ["id Comb", "id Soap", "id Oil"]


def test_described_items_are_ranked_by_titles_and_lines_with_their_weights(monkeypatch):
    rng = np.random.default_rng(0)
    titles, lines = rng.normal(size=(9, 4)), rng.normal(size=(8, 4))  # item 9 has no lines
    items = pd.DataFrame({"item": range(1, 10), "item_id": range(1, 10), "title": [str(item) for item in range(1, 10)]})
    history = {user: rng.permutation(8)[:3] + 1 for user in range(6)}  # two items and the target
    splits = ("train", "train", "valid")
    rows = [(user, *pair) for user, known in history.items() for pair in zip(known, splits, strict=True)]
    rows += [(0, 9, "train"), (6, 9, "train"), (6, 1, "valid"), (7, 1, "train"), (7, 9, "valid")]
    rows += [(8, 2, "train"), (8, 2, "valid")]
    events = pd.DataFrame(rows, columns=["user", "item", "split"])

    def encode(texts, _):
        rows = [(titles if '"' in text else lines)[int(text.strip('"')) - 1] for text in texts]
        return np.stack(rows), 0

    monkeypatch.setattr(bench_items, "encode", encode)
    dataset = Dataset(None, None, items, False, "beauty", ())
    table = bench_items.zero_shot(dataset, events, pd.Series({item: str(item) for item in range(1, 9)}))
    assert set(table["users"]) == {6} and set(table["items"]) == {8}  # 6, 7 and 8 lack a history or a new target
    read, targets = (np.stack([*history.values()])[:, part] for part in (slice(2), 2))
    for (name, weights), percentile in zip(bench_items.ARMS.items(), table["percentile"], strict=True):
        blocks = zip(weights, (titles[:8], lines), strict=True)
        vectors = np.hstack([weight**0.5 * centred(block) for weight, block in blocks])
        ranks = similarity_ranks(vectors[read - 1].mean(1), vectors, targets, read)
        assert percentile == pytest.approx(1 - np.mean(ranks - 1) / 5), name
    assert len(set(table["percentile"])) > 2


def test_the_prompt_is_that_of_the_shipped_lines():
    asked = digest([template("beauty-item"), bench_items.SETTINGS])
    assert asked[:16] == "3c8e4ff3a558d06c", "another prompt or setting: every shipped line would be asked for again"


def test_a_form_is_recorded_by_seed_and_tested_against_its_control(data, tmp_path, monkeypatch):
    monkeypatch.setattr(bench_form, "SEEDS", [0, 1])
    for module in (bench_form, bench_little):
        monkeypatch.setattr(module, "RUNS", tmp_path)
    run = replace(SMALL, epochs=4)
    vectors = {"profile": np.random.default_rng(0).normal(size=(40, 80))}
    study = bench_form.Study({"model": "SASRec"}, data, np.arange(40), vectors, [], {"profile": data}, run, {})
    jobs = bench_form.by_form(study, bench_form.FORMS)
    table, target = bench_form.compared(jobs, [*bench_form.FORMS], study.first)[0], bench_form.variances(jobs)
    assert set(table.query("control != ''")["variant"]) == set(bench_form.FORMS)
    names = [f"{name}{control}" for name in bench_form.FORMS for control in ("", "-shuffled")]
    assert target[["variant", "seed"]].to_numpy().tolist() == [[name, seed] for name in names for seed in (0, 1)]
    assert (target["variance_start"] != target["variance_end"]).all()
    fixed = target[target["variant"].str.contains("frozen")]
    assert fixed["variance_start"].to_numpy() == pytest.approx(fixed["variance_end"].to_numpy(), rel=0.2)
    assert target["probe_r2"].notna().all()
    plain = [run["best_epoch"] for (name, _), run in results(jobs, tmp_path).items() if name == "plain"]
    assert bench_form.best_epochs(jobs)["plain"] == np.mean(plain)
    ways = bench_form.by_form(study, bench_form.WAYS)
    widths = {name: job.data.teacher.shape[1] for (name, _), job in ways.items() if name != "plain"}
    assert {name for name, width in widths.items() if width == 80} == {"not whitened", "not whitened-shuffled"}

    vectors["facts"] = np.random.default_rng(1).normal(size=(40, 80))
    monkeypatch.setattr(bench_form, "AGAIN", [2, 3])
    table, rivals = bench_form.again(study)
    assert set(table.query("control != ''")["variant"]) == {"profile", "facts"} and set(table["seeds"]) == {2}
    assert set(rivals["variant"] + ", " + rivals["baseline"]) == {"profile, facts"}


def test_all_users_are_taught_by_the_mean_of_their_training_items(events, tmp_path, monkeypatch):
    catalogue = np.random.default_rng(0).standard_normal((int(events["item"].max()), 12)).astype(np.float32)
    titles = pd.DataFrame({"item": range(1, len(catalogue) + 1), "title": "Soap"})
    dataset, given = Dataset(events, None, titles, True, "beauty", (), name="small"), {}

    def teaching(data, vectors, owners, *about):
        given.update(zip(owners, vectors, strict=True))
        return bench_little.teaching(data, vectors, owners, *about)

    settings = {"SEEDS": [0, 1], "RUNS": tmp_path, "BEAUTY": replace(SMALL, epochs=4), "teaching": teaching}
    for name, value in settings.items():
        monkeypatch.setattr(bench_form, name, value)
    monkeypatch.setattr(bench_little, "encoder_key", lambda _: "key")
    table, target = bench_form.everybody(dataset, events, catalogue)
    user = events["user"].iloc[0]
    read = events.query("user == @user and split == 'train'")["item"]
    assert given[user] == pytest.approx(np.mean([catalogue[item - 1] for item in read], axis=0), abs=1e-6)
    assert set(given) == set(events.query("split == 'train'")["user"])
    assert table.query("baseline == 'plain'")[["variant", "seen"]].to_numpy().tolist() == [
        ["distilled", "excluded"], ["distilled", "included"]
    ]  # fmt: skip
    assert list(target["seed"]) == [0, 1] and target["variance_end"].notna().all()


def test_the_recorded_searches_name_the_settings_that_they_chose():
    bert = bench_search.chosen(BEAUTY, "BERT4Rec")
    assert (bert.epochs, bert.model.dropout, bert.mask_prob, bert.lr) == (96, 0.1, 0.5, 1e-3)
    assert bench_search.chosen(BEAUTY, "SASRec") == bench_search.BEAUTY


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


def test_every_teacher_has_a_shuffled_control(study, data):
    jobs = study.planned(SMALL, data, {"facts": data}, [0, 1])
    taught = {name: job.run.distillation and job.run.distillation.shuffled for (name, _), job in jobs.items()}
    assert taught == {"plain": None, "facts": False, "facts-shuffled": True}


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
    written = ["baselines", "data", "doses", "extension", "rivals", "search", "short", "short-rivals", "zero-shot"]
    tables = {name: load_csv(tmp_path / f"little-{name}.csv") for name in written}
    searched = tables["search"].groupby("trained_on")["settings"].agg(list).to_dict()
    assert searched == {20: ["short", "long"], 15: ["short", "long"], 9: ["old"]}
    sources = [[source, "plain", f"{source}-shuffled"] for source in study.SOURCES]
    tested = tables["data"].query("control != ''")[["variant", "baseline", "control"]].to_numpy().tolist()
    assert list(tables["data"].columns[:4]) == ["dataset", "model", "trained_on", "settings"]
    assert tested == sources * 4 and tables["data"].groupby("trained_on").size().to_dict() == {20: 14, 15: 14}
    simple = tables["baselines"].query("trained_on == 15 and seen == 'excluded'").set_index("variant")["ndcg@10"]
    left = little_sources.few(events, 15)[0]
    counted = popularity(left[left["split"] == "train"], items)
    expected = metrics(rank(training_data(left, items).test, counted)["rank_unseen"])["ndcg@10"]
    assert simple["popularity"] == pytest.approx(expected) and len(tables["baselines"]) == 2 * 2 * 5
    assert tables["extension"].query("variant == 'extended-10'")["calls"].tolist() == [10, 10]
    alone = tables["data"].query("seen == 'excluded' and trained_on == 20").set_index("variant")["delta_ndcg@10"]
    doses = tables["doses"].query("seen == 'excluded'")
    for source, rows in doses.groupby("variant"):  # from the teacher to its control; three shares in equal steps
        assert rows["share"].tolist() == [0, 0.5, 1] and set(rows["baseline"]) == {"plain"}
        assert rows["delta_ndcg@10"].tolist()[::2] == pytest.approx([alone[source], alone[f"{source}-shuffled"]])
        assert rows["slope"].tolist() == pytest.approx([rows["ndcg@10"].iloc[2] - rows["ndcg@10"].iloc[0]] * 3)
    assert set(doses["variant"]) == set(study.DOSED)
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

"""Own files as they come: `make new` guesses what they are, and its preset answers without an LLM."""

import subprocess
import sys

import book
import deploy
import new
import numpy as np
import pandas as pd
import presets
import pytest
import torch
import yaml
from own_folders import BOOKS, READERS, loans, rows, semicolons, tabs
from seqdistill import data as datasets
from seqdistill.data.splits import Protocol, split
from seqdistill.embeddings.reducers import save_teacher
from seqdistill.io import UserError, load_json, save_csv, save_json, save_table
from seqdistill.serving import export as serving
from seqdistill.training.sweep import run_folder, sweep
from seqdistill.training.train import load_model

SHAPES = {
    semicolons: """
delimiter: ";"
domain: generic
users: {id: kunde}
items: {id: isbn, title: titel, texts: {author: autor}}
interactions: {user: kunde, item: isbn, time: am, format: iso}
""",
    tabs: """
delimiter: "\\t"
domain: movies
users: {id: userId}
items: {id: movieId, title: title, categories: genres, separator: "|", year: year}
interactions:
  {user: userId, item: movieId, time: timestamp, format: milliseconds, rating: rating, least: 0.0, best: 10.0}
""",
    rows: """
delimiter: "|"
domain: e-commerce
users: {id: client}
items: {id: sku, title: name, categories: shelf, separator: ";"}
interactions: {user: client, item: sku, time: position, format: position}
""",
}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_the_files_of_the_present_folder_become_a_data_set_and_a_preset(home, shape, monkeypatch, capsys):
    shape(home / "own")
    monkeypatch.chdir(home / "own")
    monkeypatch.setattr(sys, "argv", ["new", "mine", "."])
    new.main()
    settings = yaml.safe_load((home / "data" / "mine" / "raw" / "dataset.yaml").read_text())
    assert settings == yaml.safe_load(SHAPES[shape]) | {"unlisted": 0.0}
    data, plays = datasets.load("mine", 1), loans()
    assert data.dated == (shape is not rows)
    ids = data.items.set_index("item")["item_id"].str.removeprefix("s").astype(int) % 978000
    names = data.users["user_id"].str.removeprefix("c").astype(int)
    found = pd.DataFrame({"user": data.events["user"].map(names), "item": data.events["item"].map(ids)})
    found = found.sort_values("user", kind="stable", ignore_index=True)
    pd.testing.assert_frame_equal(found, plays[["user", "item"]], check_dtype=False)
    if shape is tabs:
        np.testing.assert_allclose(sorted(data.events["value"]), sorted(plays["stars"] / 2))
    said = capsys.readouterr().out
    assert "size: 40 users, 24 items, 400 events" in said and "minutes to the answer" in said
    assert "item texts: title" + ", author" * (shape is semicolons) in said
    if shape is semicolons:
        assert set(data.items["author"]) == {"Ann"} and "not read: regal, kategorie" in said
    assert presets.values_of("mine", "02-profiles")["llm"] == "facts"


def test_nothing_is_overwritten_without_force(home):
    tabs(home / "own")
    new.create("mine", home / "own", force=False)
    raw, preset = home / "data" / "mine" / "raw", home / "presets" / "mine.yaml"
    preset.write_text("own: words")
    before = {path.name: path.read_bytes() for path in raw.iterdir()}
    for there in (preset, raw / "dataset.yaml"):
        with pytest.raises(UserError, match=f"{there.name} is there; FORCE=1 replaces it"):
            new.create("mine", home / "own", force=False)
        assert {path.name: path.read_bytes() for path in raw.iterdir()} == before
        preset.unlink(missing_ok=True)
    (home / "other").mkdir()
    semicolons(home / "other")
    preset.write_text("own: words")
    new.create("mine", home / "other", force=True)
    assert preset.with_name("mine.yaml.old").read_text() == "own: words"
    files = {"dataset.yaml", "dataset.yaml.old", *(f"{role}.csv" for role in new.ROLES)}
    assert {path.name for path in raw.iterdir()} == files
    assert "minimum: 5" in preset.read_text()
    with pytest.raises(UserError, match="DATASET=beauty"):
        new.create("beauty", home / "own", force=True)


@pytest.mark.parametrize(
    ("file", "old", "text", "message"),
    [
        ("ausleihen.csv", r"978\d+;2024-(.*)\n", "978001\n", r"ausleihen\.csv, row 2: 2 cells; 3 cells are expected"),
        ("ausleihen.csv", "2024-[^\n]*\n", "soon\n", r"ausleihen\.csv, row 2, column \"am\": 'soon': a time like"),
        ("ausleihen.csv", ";97800", ";12300", r"ausleihen\.csv, row 3, column \"isbn\": '123\d+': not in buecher\.csv"),
        ("ausleihen.csv", "\n0;", "\n;", r"ausleihen\.csv, row 2, column \"kunde\".*an id in UTF-8 is expected"),
        ("ausleihen.csv", "kunde;isbn;am\n", "", r"ausleihen\.csv, row 1: names of columns"),
        ("buecher.csv", "titel", "isbn", r"buecher\.csv, row 1: the column \"isbn\" stands here twice"),
        ("buecher.csv", "\n978000;", "\n978001;", r"no column of the interactions holds ids .*buecher\.csv"),
    ],
)
def test_bad_input_is_named_by_file_row_and_column_and_nothing_is_written(home, file, old, text, message):
    semicolons(home / "own")
    path = home / "own" / file
    path.write_text(new.re.sub(old, text, path.read_text(), count=";97800" not in old))
    with pytest.raises(UserError, match=f"(^| ){message}"):
        new.create("mine", home / "own", force=False)
    assert not list((home / "data").iterdir())
    assert not (home / "presets" / "mine.yaml").exists()


@pytest.mark.parametrize(("source", "message"), [("none", "is no folder"), ("own", "0 CSV"), ("", "FROM= the folder")])
def test_a_folder_without_the_files_is_named(home, monkeypatch, source, message):
    monkeypatch.setattr(sys, "argv", ["new", "mine", source and str(home / source)])
    with pytest.raises(SystemExit, match=message):
        new.main()


SMALL = {"model": {"dim": 8, "blocks": 1, "heads": 1, "length": 5}, "epochs": 2, "batch": 16, "lr": 0.01}


def shrink(home, **chapters):
    """Make the preset that was written as small as a test wants it."""
    path = home / "presets" / "mine.yaml"
    sections = yaml.safe_load(path.read_text())
    for name, values in chapters.items():
        sections[name] |= values
    path.write_text(yaml.safe_dump(sections))


def served(folder, *history):
    """What serve.py says in a process that knows nothing of this package."""
    command = [sys.executable, "-I", str(folder / "serve.py"), *history]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("shape", [pytest.param(one, marks=[pytest.mark.slow] * (one is not tabs)) for one in SHAPES])
def test_the_recommended_student_is_exported_and_served(home, shape):
    shape(home / "own")
    new.create("mine", home / "own", force=False)
    shrink(home, **{"04-distillation": {"sasrec": SMALL}})
    outputs, values = home / "outputs" / "mine", presets.values_of("mine", "04-distillation")
    runs, data = outputs / "runs", datasets.load("mine", 5)
    events = data.events.assign(split=split(data.events, Protocol("leave_one_out"), data.dated))
    for name, table in (("events", events), ("items", data.items)):
        save_table(table, outputs / "artifacts" / f"{name}.parquet", "key")
    for name in ("teacher", "teacher-item-text"):
        save_teacher(outputs / "artifacts" / f"{name}.safetensors", torch.randn(READERS, 4), {"events": "key"})
    setting = {"run": values["sasrec"], "teacher": values["sasrec_teacher"]}
    chosen = {"BERT4Rec": setting | {"run": values["sasrec"] | {"lr": 0.02}}, "SASRec": setting}
    save_json({"students": chosen, "own": values["own"], "seeds": [0, 1]}, outputs / "artifacts" / "student.json")
    word = deploy.GAIN if shape is tabs else "inconclusive"
    tested = [
        ("plain", 0.1, "", None),
        ("item-text", 0.2, word, word),
        ("distilled-student", 0.2, word, "inconclusive"),
    ]
    table = pd.DataFrame(tested, columns=["variant", "ndcg@10", "verdict", "control_verdict"]).assign(model="SASRec")
    table = table.assign(baseline="SASRec plain", protocol="a/all", seen="excluded")
    save_csv(table, outputs / "tables" / "main.csv")
    for variant in table["variant"]:
        sweep(deploy.jobs_of(outputs, "SASRec", variant), runs, workers=1)
    name, path = deploy.export("mine")
    assert name == ("SASRec item-text" if shape is tabs else "SASRec plain")
    history, model = data.items["item_id"].tolist()[:7], load_model(run_folder(deploy.chosen("mine")[1], runs))
    net = serving.served(serving.session(serving.save_onnx(model, home / "other.onnx")), 5, data.items)
    said = served(path.parent, *history, "unknown")
    assert said.stdout.split() == serving.top(net, history)["item_id"].tolist(), said.stderr
    assert "ids of items are expected" in served(path.parent, "unknown").stderr
    jobs = deploy.jobs_of(outputs, "GRU4Rec", "plain", "SASRec plain")
    sweep(jobs, runs, workers=1)
    for job in jobs.values():  # as if validation liked it best
        metrics = run_folder(job, runs) / "metrics.json"
        save_json(load_json(metrics) | {"valid_ndcg@10": 1.0}, metrics)
    save_csv(pd.concat([table, table[:1].assign(model="GRU4Rec")]), outputs / "tables" / "main.csv")
    assert deploy.export("mine") == ("GRU4Rec plain", path)
    assert len(served(path.parent, *history).stdout.split()) == 10


@pytest.mark.slow
def test_a_book_without_an_llm_ends_with_the_answer_and_what_to_deploy(home, capsys):
    rows(home / "own")
    new.create("mine", home / "own", force=False)
    few = {"seeds": [0, 1], "sasrec": SMALL, "power_tables": 20}
    shrink(home, **{"03-embeddings": {"encoder": "minilm"}, "04-distillation": few})
    for chapter in presets.chapters()[1:5]:
        book.execute(chapter, "mine")
    capsys.readouterr()
    deploy.print_summary("mine")
    answer, deployed, serve, read, _ = capsys.readouterr().out.splitlines()
    assert answer.startswith("Answer: deploy ") and "0 of 2 taught students" in answer
    assert "distilled-student 100%, item-text 100%" in answer and "04-distillation.html" in read
    assert f"student.onnx ({deploy.chosen('mine')[0]})" in deployed
    assert "serve.py s0 s1 s10" in serve
    ids = served(home / "outputs" / "mine" / "export", "s0", "s1", "s2").stdout.split()
    assert len(set(ids)) == 10 and set(ids) < {f"s{n}" for n in range(3, BOOKS)}

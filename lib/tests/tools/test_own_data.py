"""A reader's own data set, three CSV files of another domain, goes through the whole book with a ten-line preset."""

import json
import shutil

import book
import pages
import pandas as pd
import presets
import pytest
import written as writing
from own_folders import BOOKS, EACH, READERS, loans, titles
from seqdistill.io import ROOT, load_table
from seqdistill.profiles import answers as store
from seqdistill.profiles.chat import Answer

PRESET = """
01-data: {dataset: books, minimum: 3, protocol: global_time, targets: all}
02-profiles: {live_users: 0}
03-embeddings: {components: 4, neighbors: 8, encoder: minilm}
04-distillation:
  seeds: [0]
  sasrec: {model: {dim: 8, blocks: 1, heads: 1, length: 10}, epochs: 2, batch: 16, lr: 0.01}
  sasrec_teacher: {phase1_fraction: 0.5}
06-cold-start: {seeds: [0, 1], new_seeds: [0], weights: [0.0, 1.0], lifts: [0.0, 1.0]}
07-efficiency:
  idgenrec: {layers: 1, width: 16, heads: 2, tag_epochs: 1, recommender_epochs: 1, samples: 32, batch: 16}
05-ablations: {seeds: [0], alphas: [0.4], shares: [0.5], coverage: [0.5], components: [3], neighbors: 8}
"""
SETTINGS = """
items: {id: isbn, title: name, categories: shelf, separator: " > "}
interactions: {user: user_id, item: isbn, time: borrowed, format: iso, rating: stars, best: 10}
"""
PLANTED, KEY = "<script>planted()</script>", "sk-planted-0123456789"
SHELVES = ["Fiction > Crime", "Fiction > Fantasy", "History", f"Poetry $\\frac${PLANTED}"]


@pytest.fixture
def library(home, monkeypatch):
    """Readers who come to a library at different times and keep to two shelves each."""
    for name in ("OPENAI_API_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, KEY)
    raw = home / "data" / "books" / "raw"
    raw.mkdir(parents=True)
    (home / "presets" / "mine.yaml").write_text(PRESET)
    (raw / "dataset.yaml").write_text(SETTINGS)
    plays = loans()
    days = pd.to_timedelta(plays["hours"] // 84 + plays["user"] // 4 * 3, unit="D")
    events = pd.DataFrame({"user_id": "r" + plays["user"].astype(str), "isbn": "978-" + plays["item"].astype(str)})
    events = events.assign(borrowed=(pd.Timestamp("2024-01-01") + days).dt.strftime("%Y-%m-%d"), stars=plays["stars"])
    events.to_csv(raw / "interactions.csv.gz", index=False)
    pd.DataFrame({"user_id": events["user_id"].unique()}).to_csv(raw / "users.csv", index=False)
    items = {"isbn": titles("978-{}"), "name": titles("The Book of {} *a* | $b$ " + PLANTED)}
    pd.DataFrame(items).assign(shelf=SHELVES * (BOOKS // 4)).to_csv(raw / "items.csv", index=False)
    return home / "outputs" / "mine"


def parrot(questions):
    """Answer every question with the facts that it holds: what a model would be asked to put into words."""
    said = {asked.key: f"{asked.messages[-1]['content']} # *a* {PLANTED}" for asked in questions}
    return {key: Answer(text, 50, 20, 0.1, "stop") for key, text in said.items()}


@pytest.mark.slow
def test_a_data_set_of_books_goes_through_the_whole_book(library):
    for chapter in presets.chapters():
        book.execute(chapter, "mine")
        if chapter.startswith("01"):
            path, task = writing.profile_task("mine", presets.values_of("mine", "02-profiles"))
            questions = task.first_questions()
            store.ship(path, questions, parrot(questions))
    events = load_table(library / "artifacts" / "events.parquet")
    sizes = pd.read_csv(library / "tables" / "data.csv").set_index("source").loc["ours"]
    assert sizes[["dataset", "users", "items", "interactions"]].tolist() == ["books", READERS, BOOKS, READERS * EACH]
    train = events.loc[events["split"] == "train", "user"].nunique()
    written = pd.read_csv(library / "tables" / "profiles.csv").iloc[0]
    assert (written["users"], written["covered"]) == (READERS, train) and 0 < train < READERS
    assert '"The Book of ' in questions[0].messages[-1]["content"] and "Fiction" in json.dumps(questions[0].messages)
    main = pd.read_csv(library / "tables" / "main.csv")
    assert set(main["dataset"]) == {"books"} and {"global_time/last", "global_time/all"} == set(main["protocol"])
    plain = (main["model"] == "SASRec") & (main["variant"] == "plain") & (main["seen"] == "included")
    tested = main[plain].set_index("protocol")["cases"]
    assert tested["global_time/all"] == (events["split"] == "test").sum() > tested["global_time/last"]
    assert tested["global_time/last"] == events.loc[events["split"] == "test", "user"].nunique()
    assert main["ndcg@10"].between(0, 1, inclusive="neither").all()
    assert json.loads((library / "metrics.json").read_text()).keys() >= {"01-data", "02-profiles", "04-distillation"}
    nothing_planted_grows(library, library.parents[1])


def nothing_planted_grows(outputs, home):
    """A script in titles, categories and profiles stays text on every page, and no file holds the planted key."""
    shutil.copytree(ROOT / "outputs" / pages.BEAUTY, outputs.parent / pages.BEAUTY)  # the site has its chapters, too
    pages.build("mine", home / "book")
    html = {path: path.read_text() for path in home.rglob("*.html") if "_static" not in path.parts}
    assert len(html) > 2 * len(presets.chapters())
    assert not [path for path, text in html.items() if PLANTED in text]
    shown = {path.stem for path, text in html.items() if path.parent == outputs and "planted()" in text}
    assert {"02-profiles", "09-explore"} <= shown, "it is there, as text"
    assert not [path for path in home.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]

"""Which files of a folder are needed, what they are, and who may say so instead of the guess."""

import sys

import guess
import new
import pandas as pd
import pytest
from own_folders import EACH, READERS, new_home, rows, tabs
from seqdistill import data as datasets
from seqdistill.io import UserError

home = pytest.fixture(new_home)
USERS = "customer_id,name\n" + "".join(f"{n},Ann {n}\n" for n in range(1, 101))


def orders(days, clock=""):
    """A hundred customers with as many products, ten each: times sorted, one row a day that is named."""
    rows = (f"{n % 100 + 1},{n * 7 % 100 + 1},{day}{clock}\n" for n, day in enumerate(days))
    return "customer_id,product_id,date\n" + "".join(rows)


JANUARY = [f"01/{1 + n * 12 // 1000:02}/2024" for n in range(1000)]


@pytest.mark.parametrize("clutter", ["README.txt", "notes.txt", "._ratings.csv", "old.csv/", "links.csv"])
def test_what_is_not_needed_is_left_out(home, clutter, capsys):
    tabs(home / "own")
    (home / "own" / "ratings.tsv").rename(home / "own" / "RATINGS.TSV")
    path = home / "own" / clutter
    path.mkdir() if clutter.endswith("/") else path.write_text(
        {"README.txt": "Summary\n=====\n\nText, and more.\n", "links.csv": "movieId,imdbId\n1\n"}.get(clutter, "")
    )
    new.create("mine", home / "own", force=False)
    said = capsys.readouterr().out
    assert "interactions: RATINGS.TSV" in said
    assert (f"left out: {clutter}" in said) == (clutter in ("README.txt", "notes.txt", "links.csv"))
    assert ("README.txt, row 3: 0 cells" in said) == (clutter == "README.txt")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("RATINGS.CSV", "userId,movieId,timestamp\n1,2\n", r"RATINGS\.CSV, row 2: 2 cells"),
        ("movies.csv", "movieId,title\n1,A, B\n", r"movies\.csv, row 2: 3 cells"),
    ],
)
def test_what_is_needed_and_cannot_be_read_is_named_though_others_would_do(home, file, text, message):
    (home / "own" / "tags.csv").write_text("userId,movieId,tag,timestamp\n" + "1,1,dark,1600000000\n")
    (home / "own" / "links.csv").write_text("movieId,imdbId\n1,a\n2,b\n")
    (home / "own" / file).write_text(text + "1,1\n" * 20 * (file == "RATINGS.CSV"))
    with pytest.raises(UserError, match=message):
        new.create("mine", home / "own", force=False)


@pytest.mark.parametrize("names", [("customers.csv", "products.csv"), ("a_members.csv.gz", "things.csv")])
def test_a_list_of_users_is_not_taken_for_the_items(home, names):
    folder = home / "own"
    (folder / "orders.csv").write_text(orders(JANUARY[:1] * 500 + ["01/31/2024"] * 500))
    for name, word in zip(names, ("Ann", "Soap"), strict=True):
        table = pd.DataFrame({"id": range(1, 101), "name": [f"{word} {n}" for n in range(100)]})
        table.to_csv(folder / name, index=False)
    found = new.guess("mine", sorted(folder.iterdir()))
    assert {role: path.name for role, path in found.files.items()} == {
        "interactions": "orders.csv", "users": names[0], "items": names[1],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("days", "form"),
    [
        (JANUARY * 21 + ["01/13/2024"] * 1000, "%m/%d/%Y"),
        (JANUARY + ["01/13/2024"] * 1000, "%m/%d/%Y"),
        (JANUARY + ["13/01/2024"] * 1000, "%d/%m/%Y"),
        (JANUARY, "%d/%m/%Y"),
    ],
)
@pytest.mark.parametrize("clock", ["", " 10:30"])
def test_days_and_months_are_told_apart_by_the_whole_column(home, days, form, clock):
    (home / "own" / "orders.csv").write_text(orders(days, clock))
    (home / "own" / "products.csv").write_text(USERS.replace("customer", "product"))
    found = new.guess("mine", sorted((home / "own").iterdir()))
    assert found.settings["interactions"]["format"] == form + clock.replace("10:30", "%H:%M")


def test_a_dataset_yaml_in_the_folder_is_taken_instead_of_the_guess(home, capsys):
    tabs(home / "own")
    path = home / "own" / "ratings.tsv"
    path.write_text(path.read_text().replace("movieId", "movie").replace("rating", "mark"))
    (home / "own" / "tags.csv").write_text("userId,movie,tag\n1,1,dark\n")
    text = (
        'delimiter: "\\t"\nusers: {id: userId}\nitems: {id: movieId, title: title}\n'
        "interactions: {user: userId, item: movie, time: timestamp, format: milliseconds}  # mine\n"
    )
    (home / "own" / "dataset.yaml").write_text(text)
    new.create("mine", home / "own", force=False)
    raw, said = home / "data" / "mine" / "raw", capsys.readouterr().out
    assert (raw / "dataset.yaml").read_text() == text and len(datasets.load("mine", 1).events) == READERS * EACH
    assert "items: movies.csv.gz" in said and "users: all of ratings.tsv" in said and "left out: tags.csv" in said
    (home / "own" / "dataset.yaml").write_text(text.replace("title: title", "title: author"))
    with pytest.raises(UserError, match=r"dataset.yaml, items: no file has the columns movieId, author\.$"):
        new.create("mine", home / "own", force=True)
    rows(home / "own")
    text = "delimiter: '|'\nusers: {id: client}\nitems: {id: sku, title: name}\n"
    text += "interactions: {user: client, item: sku, time: position, format: position}\n"
    (home / "own" / "dataset.yaml").write_text(text)
    new.create("mine", home / "own", force=True)
    assert "position: the order of the rows" in capsys.readouterr().out


@pytest.mark.parametrize("source", [".", ""])
def test_the_folder_may_be_the_present_one(home, monkeypatch, source):
    tabs(home / "own")
    monkeypatch.chdir(home / "own")
    monkeypatch.setattr(sys, "argv", ["new", "mine", source])
    if source:
        new.main()
    else:
        with pytest.raises(SystemExit, match="FROM= the folder of its CSV files"):
            new.main()
    assert (home / "presets" / "mine.yaml").exists() == bool(source)


def test_sentences_are_not_taken_for_categories():
    shelves = ["Fantasy; Young readers", "History", "Fantasy", "History; Young readers"] * 5
    prose = [f"Shelf {n}: a tale of police and fjord {n}; for those who liked volume {n - 1}" for n in range(20)]
    for cells, expected in ((shelves, ("shelf", ";")), (prose, (None, None))):
        table = pd.DataFrame({"id": range(20), "title": [f"Book {n}" for n in range(20)], "shelf": cells}).astype(str)
        found = guess.items_of(table, "id")
        assert (found.get("categories"), found.get("separator")) == expected

"""Which files of a folder are needed, what they are, and who may say so instead of the guess."""

import re

import new
import pandas as pd
import pytest
from own_folders import EACH, READERS, rows, tabs
from seqdistill import data as datasets
from seqdistill.io import UserError

JANUARY = [f"01/{1 + n * 12 // 1000:02}/2024" for n in range(1000)]


def orders(days, clock=""):
    """A hundred customers with as many products, ten each: times sorted, one row a day that is named."""
    rows = (f"{n % 100 + 1},{n * 7 % 100 + 1},{day}{clock}\n" for n, day in enumerate(days))
    return "customer_id,product_id,date\n" + "".join(rows)


def named(path, column, word):
    """Write a list of a hundred ids and names."""
    pd.DataFrame({column: range(1, 101), "name": [f"{word} {n}" for n in range(100)]}).to_csv(path, index=False)


def test_what_is_not_needed_is_left_out(home, capsys):
    tabs(home / "own")
    (home / "own" / "ratings.tsv").rename(home / "own" / "RATINGS.TSV")
    (home / "own" / "old.csv").mkdir()
    texts = {"README.txt": "Summary\n=====\n\nText, and more.\n", "links.csv": "movieId,imdbId\n1\n"}
    for name in ("README.txt", "._ratings.csv", "links.csv", "notes.txt"):
        (home / "own" / name).write_text(texts.get(name, ""))
    new.create("mine", home / "own", force=False)
    said = capsys.readouterr().out
    left = re.findall("left out: (.+)", said)
    assert "interactions: RATINGS.TSV" in said and "README.txt, row 3: 0 cells" in left[0]
    assert [line.split(",")[0] for line in left] == ["README.txt", "links.csv", "notes.txt"]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("RATINGS.CSV", "userId,movieId,timestamp\n1,2\n" + "1,1\n" * 20, r"RATINGS\.CSV, row 2: 2 cells"),
        ("movies.csv", "movieId,title\n1,A, B\n", r"movies\.csv, row 2: 3 cells"),
    ],
)
def test_what_is_needed_and_cannot_be_read_is_named_though_others_would_do(home, file, text, message):
    (home / "own" / "tags.csv").write_text("userId,movieId,tag,timestamp\n1,1,dark,1600000000\n")
    (home / "own" / "links.csv").write_text("movieId,imdbId\n1,a\n2,b\n")
    (home / "own" / file).write_text(text)
    with pytest.raises(UserError, match=message):
        new.create("mine", home / "own", force=False)


@pytest.mark.parametrize(("users", "items"), [("customers.csv", "products.csv"), ("a_members.csv.gz", "things.csv")])
def test_a_list_of_users_is_not_taken_for_the_items(home, users, items):
    (home / "own" / "orders.csv").write_text(orders(JANUARY[:1] * 500 + ["01/31/2024"] * 500))
    named(home / "own" / users, "id", "Ann")
    named(home / "own" / items, "id", "Soap")
    found = new.guess("mine", sorted((home / "own").iterdir())).files
    expected = {"interactions": "orders.csv", "users": users, "items": items}
    assert {role: path.name for role, path in found.items()} == expected


@pytest.mark.parametrize(
    ("days", "form"),
    [
        (JANUARY * 21 + ["01/13/2024"] * 1000, "%m/%d/%Y"),
        (JANUARY + ["13/01/2024"] * 1000, "%d/%m/%Y"),
        (JANUARY, "%d/%m/%Y"),
    ],
)
@pytest.mark.parametrize("clock", ["", " 10:30"])
def test_days_and_months_are_told_apart_by_the_whole_column(home, days, form, clock):
    (home / "own" / "orders.csv").write_text(orders(days, clock))
    named(home / "own" / "products.csv", "product_id", "Soap")
    found = new.guess("mine", sorted((home / "own").iterdir()))
    assert found.settings["interactions"]["format"] == form + clock.replace("10:30", "%H:%M")


def test_a_dataset_yaml_in_the_folder_is_taken_instead_of_the_guess(home, capsys):
    tabs(home / "own")
    path, said = home / "own" / "ratings.tsv", home / "own" / "dataset.yaml"
    path.write_text(path.read_text().replace("movieId", "movie").replace("rating", "mark"))
    (home / "own" / "tags.csv").write_text("userId,movie,tag\n1,1,dark\n")
    text = 'delimiter: "\\t"\nusers: {id: userId}\nitems: {id: movieId, title: title}\n'
    text += "interactions: {user: userId, item: movie, time: timestamp, format: milliseconds}  # mine\n"
    said.write_text(text)
    new.create("mine", home / "own", force=False)
    printed = capsys.readouterr().out
    assert (home / "data" / "mine" / "raw" / "dataset.yaml").read_text() == text
    assert len(datasets.load("mine", 1).events) == READERS * EACH
    for line in ("items: movies.csv.gz", "users: all of ratings.tsv", "left out: tags.csv"):
        assert line in printed
    said.write_text(text.replace("title: title", "title: author"))
    with pytest.raises(UserError, match=r"dataset.yaml, items: no file has the columns movieId, author\.$"):
        new.create("mine", home / "own", force=True)
    rows(home / "own")
    text = "delimiter: '|'\nusers: {id: client}\nitems: {id: sku, title: name}\n"
    said.write_text(text + "interactions: {user: client, item: sku, time: position, format: position}\n")
    new.create("mine", home / "own", force=True)
    assert "position: the order of the rows" in capsys.readouterr().out

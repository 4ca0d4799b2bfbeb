import gzip

import pytest
from seqdistill import data as datasets
from seqdistill.io import UserError
from test_datasets import EVENTS, decoded

RATED = "user_id,item_id,timestamp,rating\n"
HOSTILE = {
    "bad rating": (RATED + "1,5,10,four\n", "row 2, column \"rating\": 'four'"),
    "rating out of range": (RATED + "1,5,10,4\n1,6,10,9\n", 'row 3, column "rating"'),
    "infinite rating": (RATED + "1,5,10,inf\n", "a number is expected"),
    "bad time": (EVENTS + "1,5,10\n1,6,noon\n1,7,noon\n", "row 3, column \"timestamp\": 'noon'"),
    "infinite time": (EVENTS + "1,5,inf\n", "a whole number is expected"),
    "broken time": (EVENTS + "1,5,1.5\n", "a whole number is expected"),
    "huge time": (EVENTS + "1,5,99999999999999999999\n", "a whole number is expected"),
    "milliseconds": (EVENTS + "1,5,1700000000000\n", "'1700000000000': a time between 1900 and 2100"),
    "no time": (EVENTS + "1,5,\n", "row 2, column \"timestamp\": 'nan'"),
    "empty id": (EVENTS + "1,,10\n", 'row 2, column "item_id"'),
    "blank id": (EVENTS + "1,5,10\n1, ,10\n", 'row 3, column "item_id"'),
    "unknown item": (EVENTS + "1,99,10\n", "not in items.csv, which begins with 0, 1, 2;"),
    "unknown user": (EVENTS + "77,5,10\n", "not in users.csv, which begins with 0, 1, 2 (1 such"),
    "short row": (EVENTS + "1,5,10\n1,6\n", "Row #3: Expected 3 columns, got 2"),
    "blank line": (EVENTS + "1,5,10\n\n1,6,11\n", "row 3"),
    "no column": ("user,item_id,timestamp\n1,5,10\n", 'no column "user_id"'),
    "double column": ("user_id,item_id,timestamp,item_id\n1,5,10,6\n", '"item_id" stands here twice'),
    "endless header": ("x" * 200_000, "larger than field limit"),
    "no order": ("user_id,item_id\n1,5\n", 'no column "timestamp"'),
    "wrong delimiter": ("user_id;item_id;timestamp\n1;5;10\n", "separated by ','; found 'user_id;item_id;timestamp'"),
    "empty file": ("", "the file is empty"),
    "users.csv, header only": ("user_id\n", "no rows"),
    "items.csv, one twice": ("item_id,title\n5,A\n5,B\n", 'row 3, column "item_id"'),
    "items.csv, open quote": ('item_id,title\n5,"A\n6,B\n', "a quotation mark is not closed"),
    "items.csv, Latin-1": (b"item_id,title\n5,Am\xe9lie\n", '"title": invalid UTF8 data: text in UTF-8 is expected'),
    "items.csv, Latin-1 header": (b"item_id,title,Pr\xe9is\n5,A,1\n", "row 1: a name is not UTF-8"),
    "items.csv, UTF-16": ("item_id,title\n5,A\n".encode("utf-16"), "in UTF-8"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_named(raw, case):
    content, message = HOSTILE[case]
    name = case.split(",")[0] if ".csv" in case else "interactions.csv"
    (raw / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        datasets.load("books", 1)
    assert name in str(caught.value) and message in str(caught.value)


def test_a_byte_order_mark_and_windows_line_ends_are_read(raw):
    before = datasets.load("books", 1)
    for name in ("users", "items", "interactions"):
        path = raw / f"{name}.csv"
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    after = datasets.load("books", 1)
    assert after.events.equals(before.events) and after.items.equals(before.items) and after.users.equals(before.users)


def test_packed_files_are_read_and_a_cut_one_is_named(raw):
    before, path = datasets.load("books", 1).events, raw / "interactions.csv"
    packed = gzip.compress(path.read_bytes())
    path.with_suffix(".csv.gz").write_bytes(packed)
    with pytest.raises(UserError, match="keep one of them"):
        datasets.load("books", 1)
    path.unlink()
    assert datasets.load("books", 1).events.equals(before)
    for damaged in (packed[:-20], b"no gzip at all"):
        path.with_suffix(".csv.gz").write_bytes(damaged)
        with pytest.raises(UserError, match=r"interactions.csv.gz: cannot be read .*(gzip|Truncated)"):
            datasets.load("books", 1)


SETTINGS = """
domain: movies
users: {id: reader}
items: {id: isbn, title: name, categories: shelf, separator: " > ", root: true, year: printed}
interactions: {user: reader, item: isbn, time: day, format: "%d.%m.%Y", rating: stars, best: 10}
"""


@pytest.fixture
def renamed(raw):
    (raw / "users.csv").write_text("reader\nann\nbob\n")
    (raw / "items.csv").write_text(
        'isbn,name,shelf,printed,blurb\n1-X,"Good, bad",Books > Crime > Noir,1950,"Two\nlines"\n2-X,,Books,,\n'
    )
    (raw / "interactions.csv").write_text("reader,isbn,day,stars\nbob,2-X,02.01.1970,8\nbob,1-X,01.01.1970,10\n")
    (raw / "dataset.yaml").write_text(SETTINGS)
    return raw


def test_a_dataset_yaml_names_columns_times_and_ratings(renamed):
    data = datasets.load("books", 1)
    assert decoded(data) == [("bob", "1-X", 0), ("bob", "2-X", 86400)]
    assert data.events["value"].tolist() == [5.0, 4.0]
    assert data.items.columns.tolist() == ["item", "item_id", "title", "categories", "year", "blurb"]
    assert data.items.values.tolist() == [
        [1, "1-X", "Good, bad", "Crime|Noir", "1950", "Two\nlines"],
        [2, "2-X", "item 2-X", "", "", ""],
    ]
    assert data.domain == "movies" and data.dated


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("users: {ids: reader}", '"users.ids" is not a setting (did you mean "id"?)'),
        ("interactions: {best: many}", "\"interactions.best\" = 'many'"),
        ("domain: poems", "'movies', 'beauty', 'e-commerce' or 'generic'"),
        ("users: 3", '"users" = 3: input should be a dictionary'),
        (SETTINGS.replace("shelf", "name"), "items.csv: every column needs a name of its own"),
        (
            SETTINGS.replace("year: printed", "texts: {blurb: printed}"),
            "items.csv: every column needs a name of its own",
        ),
        ("- a", "input should be a dictionary"),
        ("{", "not valid YAML"),
        *((SETTINGS.replace("%d.%m.%Y", form), form) for form in ("%Q", "mixed", "%H:%M", "%Y %Y")),
        ("delimiter: 'é'", '"delimiter"'),
        ("delimiter: '\"'", '"delimiter"'),
        (SETTINGS.replace("time: day", "time: reader"), "one column of reader, "),
    ],
)
def test_a_wrong_dataset_yaml_is_named(renamed, text, message):
    (renamed / "dataset.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        datasets.load("books", 1)
    assert message in str(caught.value) and "dataset.yaml" in str(caught.value)


def test_semicolons_and_empty_ratings_are_read(raw):
    (raw / "users.csv").write_text("user_id\n1\n")
    (raw / "items.csv").write_text("item_id;title\n5;A, B\n6;C\n")
    (raw / "interactions.csv").write_text("user_id;item_id;timestamp;rating\n1;5;10;4\n1;6;11;\n")
    with pytest.raises(UserError, match=r"separated by ','; found 'item_id;.*dataset\.yaml"):
        datasets.load("books", 1)
    (raw / "dataset.yaml").write_text('delimiter: ";"')
    assert datasets.load("books", 1).events["value"].fillna(-1).tolist() == [4, -1]


@pytest.mark.parametrize("cell", ["now", "today", "", "2021", "02.01.2021"])
def test_a_word_is_no_time(raw, cell):
    (raw / "dataset.yaml").write_text("interactions: {time: at, format: '%Y-%m-%d'}")
    (raw / "interactions.csv").write_text(f"user_id,item_id,at\n1,5,2021-01-01\n1,6,{cell}\n")
    with pytest.raises(UserError, match=r'row 3, column "at".*a time as %Y-%m-%d'):
        datasets.load("books", 1)


@pytest.mark.parametrize(
    ("form", "cells", "order"),
    [
        ("unix", ["86400"], [1]),
        ("unix", ["86400.0"], [1]),
        ("milliseconds", ["86400900", "86400001", "86400000"], [1, 2, 1]),
        ("iso", ["1970-01-02T00:00:00.900", "1970-01-02T00:00:00.001", "1970-01-02"], [1, 2, 1]),
        ("iso", ["1970-01-02T02:00:00.000002+02:00", "1970-01-02T00:00:00.000001Z"], [2, 1]),
        ("iso", ["1970-01-02 00:00:00.123456", "1970-01-02T02:00:00+02:00"], [2, 1]),
    ],
)
def test_forms_of_time_and_the_order_within_a_second(raw, form, cells, order):
    rows = [f"1,{item},{cell}" for item, cell in zip((5, 6, 5), cells, strict=False)]
    (raw / "dataset.yaml").write_text(f"interactions: {{time: at, format: {form}}}")
    (raw / "interactions.csv").write_text("\n".join(["user_id,item_id,at", *rows]))
    events = datasets.load("books", 1).events
    assert events["item"].tolist() == order and set(events["time"]) == {86400}

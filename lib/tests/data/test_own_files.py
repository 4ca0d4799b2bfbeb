"""Own files as people write them, and as they break: delimiters, times, ids, packed files, files of another data set."""

import shutil

import pandas as pd
import pytest
from seqdistill import data as datasets
from seqdistill.io import UserError


def test_semicolons_and_empty_ratings_are_read(raw):
    for name in ("users", "items", "interactions"):
        (raw / f"{name}.csv").write_text((raw / f"{name}.csv").read_text().replace(",", ";"))
    (raw / "interactions.csv").write_text("user_id;item_id;timestamp;rating\n1;5;10;4\n1;6;11;\n")
    with pytest.raises(UserError, match=r"separated by ','; found 'item_id;.*dataset\.yaml"):
        datasets.load("books", 1)
    (raw / "dataset.yaml").write_text('delimiter: ";"')
    assert datasets.load("books", 1).events["value"].fillna(-1).tolist() == [4, -1]


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("interactions: {format: '%Q'}", "'%Q'"), ("interactions: {format: mixed}", "'mixed'"),
        ("interactions: {format: '%H:%M'}", "%H:%M"), ("interactions: {format: '%Y %Y'}", "%Y %Y"),
        ("delimiter: 'é'", '"delimiter"'), ("delimiter: '\"'", '"delimiter"'), ("interactions: {time: user_id}", "one column of user_id, "),
    ],
)  # fmt: skip
def test_a_dataset_yaml_that_breaks_a_parser_is_named(raw, text, fact):
    (raw / "dataset.yaml").write_text(text)
    with pytest.raises(UserError, match=fact) as caught:
        datasets.load("books", 1)
    assert "dataset.yaml" in str(caught.value)


@pytest.mark.parametrize("cell", ["now", "today", "", "2021"])
def test_a_word_is_no_time(raw, cell):
    (raw / "dataset.yaml").write_text("interactions: {time: at, format: '%Y-%m-%d'}")
    (raw / "interactions.csv").write_text(f"user_id,item_id,at\n1,5,2021-01-01\n1,6,{cell}\n")
    with pytest.raises(UserError, match=r'row 3, column "at".*a time as %Y-%m-%d'):
        datasets.load("books", 1)


def test_a_catalogue_that_matches_nothing_is_refused_beside_what_it_lists():
    plays = pd.DataFrame({"user_id": ["ann", "bob"], "item_id": ["b1", "b2"], "position": [1, 2]})
    with pytest.raises(UserError, match=r"100% .* the first 'b1'.* lists \['B1', 'B2'\]"):
        datasets.coded(plays, pd.DataFrame({"item_id": ["B1", "B2"], "title": "a"}))


def test_raw_files_of_another_data_set_are_replaced_by_force_alone(raw, tmp_path):
    source, before = tmp_path / "new", (raw / "interactions.csv").read_bytes()
    shutil.copytree(raw, source)
    datasets.convert("books", source)  # the same files
    (source / "interactions.csv").write_bytes(before + b"1,5,99,3\n")
    with pytest.raises(UserError, match="FORCE=1"):
        datasets.convert("books", source)
    assert (raw / "interactions.csv").read_bytes() == before
    datasets.convert("books", source, force=True)
    assert (raw / "interactions.csv").read_bytes() != before
    with pytest.raises(UserError, match=r"RAW: .*nowhere is no folder"):
        datasets.convert("books", tmp_path / "nowhere")

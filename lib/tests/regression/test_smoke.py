"""Compare the metrics of a fresh smoke run (build/nbval, written by `make nbval`) with the committed ones."""

import json

import pandas as pd
import pytest
from seqdistill.artifacts import ROOT

STORED, FRESH = ROOT / "outputs" / "smoke", ROOT / "build" / "nbval" / "smoke"


def leaves(value, path=()):
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, (*path, name))
    else:
        yield path, value


def numbers(home):
    return dict(leaves(json.loads((home / "metrics.json").read_text())))


def test_the_same_numbers_are_recorded():
    assert numbers(FRESH).keys() == numbers(STORED).keys()


def test_counts_are_exact():
    fresh, stored = numbers(FRESH), numbers(STORED)
    counts = [path for path in stored if path[0] in ("01-data", "02-profiles")]
    assert len(counts) > 8
    assert {path: fresh[path] for path in counts} == {path: stored[path] for path in counts}


@pytest.mark.parametrize("name", sorted(path.name for path in (STORED / "tables").glob("*.csv")))
def test_tables_have_the_same_shape_and_labels(name):
    fresh, stored = (pd.read_csv(home / "tables" / name) for home in (FRESH, STORED))
    words = [column for column in stored.columns if stored[column].dtype.kind not in "fiu" and column != "verdict"]
    assert list(fresh.columns) == list(stored.columns) and len(fresh) == len(stored)
    assert fresh[words].fillna("").astype(str).equals(stored[words].fillna("").astype(str))

"""Compare a fresh smoke run (build/nbval, by `make nbval`) with the committed one: counts exact, metrics near."""

import json

import pandas as pd
import pytest
from seqdistill.io import ROOT

STORED, FRESH = ROOT / "outputs" / "smoke", ROOT / "build" / "nbval" / "smoke"
SCORES = ["recall@10", "ndcg@10"]


def numbers(home):
    """Values of metrics.json by chapter and name."""
    metrics = json.loads((home / "metrics.json").read_text())
    return {(chapter, name): value for chapter, values in metrics.items() for name, value in values.items()}


def both(name, folder="tables"):
    return [pd.read_csv(home / folder / name) for home in (FRESH, STORED)]


def close(fresh, stored, share):
    """Within a share of the stored value, which is below 1: nothing passes at zero."""
    assert 0 < share < 1 and (stored > 0).all()
    assert fresh.to_numpy() == pytest.approx(stored.to_numpy(), rel=share), f"{fresh} is not near {stored}"


def test_the_same_numbers_are_recorded_and_counts_are_exact():
    fresh, stored = numbers(FRESH), numbers(STORED)
    assert fresh.keys() == stored.keys()
    counts = [key for key in stored if key[0] in ("01-data", "02-profiles")]
    assert len(counts) > 8 and {key: fresh[key] for key in counts} == {key: stored[key] for key in counts}


@pytest.mark.parametrize("name", sorted(path.name for path in (STORED / "tables").glob("*.csv")))
def test_tables_have_the_same_shape_and_labels(name):
    fresh, stored = both(name)
    words = [column for column in stored.columns if stored[column].dtype.kind not in "fiu" and "verdict" not in column]
    assert list(fresh.columns) == list(stored.columns) and len(fresh) == len(stored)
    pd.testing.assert_frame_equal(fresh[words], stored[words], check_dtype=False)


@pytest.mark.parametrize("metric", SCORES)
@pytest.mark.parametrize("name", ["main.csv", "ablation-alpha-beta.csv"])
def test_students_are_close(name, metric):
    """They were equal to five digits on two makes of processor where the teacher is: smoke reduces by PCA."""
    tables = [table[table["protocol"].str.endswith("/all")] for table in both(name)]
    close(*(table.query("variant == 'plain'")[metric] for table in tables), 0.1)
    taught = [table.query("variant != 'plain' and model == 'SASRec'") for table in tables]
    assert len(taught[1]) >= 4
    close(*(table.groupby("seen")[metric].mean() for table in taught), 0.1)


def test_baselines_are_equal_where_they_count_and_close_where_they_solve():
    tables = [table[table["protocol"].str.endswith("/all")] for table in both("main.csv")]
    tables = [table[table["model"] == "baseline"].set_index("variant")[SCORES] for table in tables]
    solved = tables[1].index.isin(["EASE", "iALS"])  # by linear algebra in float32
    close(*(table[solved].groupby(level=0).mean().melt()["value"] for table in tables), 0.1)
    fresh, stored = (table[~solved].to_numpy() for table in tables)
    assert len(stored) > 6 and fresh == pytest.approx(stored, rel=1e-12)


def test_training_losses_are_close():
    fresh, stored = both("learning.csv", "figures")
    last = (table[table["epoch"] == table["epoch"].max()] for table in (fresh, stored))
    ends = [table.groupby(["model", "variant"])["loss_model"].mean() for table in last]
    assert len(ends[1]) == 11
    assert ends[0].to_dict() == pytest.approx(ends[1].to_dict(), abs=0.3)
    for model in ("SASRec", "BERT4Rec"):
        assert ends[0][model, "plain"] == pytest.approx(ends[1][model, "plain"], abs=0.01)
    first = stored[stored["epoch"] == 1].groupby(["model", "variant"])["loss_model"].mean()
    assert (first - ends[1] > 4 * 0.3)["SASRec"].all()


def test_the_inside_of_the_students_is_close():
    tables = [table.set_index("variant") for table in both("inside.csv")]
    fixed = [f"{model} {form}" for model in ("SASRec", "BERT4Rec") for form in ("distilled-student", "shuffled")]
    close(*(table.loc[fixed, "variance_end"] for table in tables), 0.2)
    for table in tables:
        start, end, probe = table["variance_start"], table["variance_end"], table["probe_r2"]
        assert end["SASRec distilled"] < 0.5 * start["SASRec distilled"], "T collapses"
        assert (end[fixed] > 0.5).all(), "a fixed target does not"
        assert probe["SASRec distilled-student"] > 0.1 + probe[["SASRec plain", "SASRec shuffled"]].max()


def test_teachers_are_close():
    fresh, stored = (table.set_index("source")["item_percentile"] for table in both("zero-shot.csv"))
    assert fresh.to_dict() == pytest.approx(stored.to_dict(), abs=0.03)
    assert abs(stored["raw-history"] - stored["profile"]) > 2 * 0.03, "a swap of the two would be seen"
    fresh, stored = numbers(FRESH), numbers(STORED)
    overlaps = {f"umap to {size} neighbour_overlap": 0.06 for size in (16, 2)}
    for name, allowed in {"same_genre": 0.02, "same_genre_reduced": 0.02, **overlaps}.items():
        key = ("03-embeddings", name)
        assert fresh[key] == pytest.approx(stored[key], abs=allowed) and stored[key] > 2 * allowed

"""Compare the metrics of a fresh smoke run (build/nbval, written by `make nbval`) with the committed ones."""

import json

import pandas as pd
import pytest
from seqdistill.io import ROOT

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
    words = [column for column in stored.columns if stored[column].dtype.kind not in "fiu" and "verdict" not in column]
    assert list(fresh.columns) == list(stored.columns) and len(fresh) == len(stored)
    assert fresh[words].fillna("").astype(str).equals(stored[words].fillna("").astype(str))


SCORES = ["recall@10", "ndcg@10"]


def trained(home, name="main.csv"):
    table = pd.read_csv(home / "tables" / name).set_index(["protocol", "seen", "model", "variant"])
    return table[table.index.get_level_values("protocol").str.endswith("/all")]


def close(fresh, stored, share):
    """Within a share of the stored value, which is below 1: nothing passes at zero."""
    assert 0 < share < 1 and (stored > 0).all()
    assert fresh.to_numpy() == pytest.approx(stored.to_numpy(), rel=share), f"{fresh} is not near {stored}"


@pytest.mark.parametrize("metric", SCORES)
@pytest.mark.parametrize("name", ["main.csv", "ablation-alpha-beta.csv"])
def test_the_plain_student_is_repeated(name, metric):
    """It was equal to five digits on two makes of processor and three instruction sets."""
    fresh, stored = (trained(home, name).xs("plain", level="variant") for home in (FRESH, STORED))
    close(fresh[metric], stored[metric], 0.1)


@pytest.mark.parametrize("metric", SCORES)
@pytest.mark.parametrize("name", ["main.csv", "ablation-alpha-beta.csv"])
def test_taught_students_are_close_on_average(name, metric):
    """UMAP's vectors differ between processors: single rows moved by up to 38 %, their mean by up to 30 %."""
    fresh, stored = (trained(home, name).query("model == 'SASRec' and variant != 'plain'") for home in (FRESH, STORED))
    assert len(stored) >= 4
    close(*(table[metric].groupby("seen").mean() for table in (fresh, stored)), 0.6)


def test_training_losses_are_close():
    fresh, stored = (pd.read_csv(home / "figures" / "learning.csv") for home in (FRESH, STORED))
    ends = [
        table[table["epoch"] == table["epoch"].max()].groupby(["model", "variant"])["loss_model"].mean()
        for table in (fresh, stored)
    ]
    assert len(ends[1]) == 10
    assert ends[0].to_dict() == pytest.approx(ends[1].to_dict(), abs=0.3)
    for model in ("SASRec", "BERT4Rec"):
        assert ends[0][model, "plain"] == pytest.approx(ends[1][model, "plain"], abs=0.01)
    first = stored[stored["epoch"] == 1].groupby(["model", "variant"])["loss_model"].mean()
    assert (first - ends[1] > 4 * 0.3)["SASRec"].all()


def test_the_inside_of_the_students_is_close():
    fresh, stored = (pd.read_csv(home / "tables" / "inside.csv").set_index("variant") for home in (FRESH, STORED))
    fixed = [f"{model} {form}" for model in ("SASRec", "BERT4Rec") for form in ("distilled-student", "shuffled")]
    close(fresh.loc[fixed, "variance_end"], stored.loc[fixed, "variance_end"], 0.2)
    for table in (fresh, stored):
        start, end = table["variance_start"], table["variance_end"]
        assert end["SASRec distilled"] < 0.5 * start["SASRec distilled"], "T collapses"
        assert (end[fixed] > 0.5).all(), "a fixed target does not"
        read = table["probe_r2"]
        assert read["SASRec distilled-student"] > 0.1 + read[["SASRec plain", "SASRec shuffled"]].max()


@pytest.mark.parametrize("metric", SCORES)
def test_popularity_is_exact(metric):
    stored, fresh = trained(STORED, "main.csv"), trained(FRESH, "main.csv")
    counted = stored.index.get_level_values("model") == "baseline"
    assert fresh.loc[counted, metric].tolist() == pytest.approx(stored.loc[counted, metric].tolist(), rel=1e-12)
    assert (stored.loc[counted, metric] > 0).any()


def test_what_the_arms_carry_is_close():
    fresh, stored = (pd.read_csv(home / "tables" / "arms.csv").set_index("arm") for home in (FRESH, STORED))
    allowed, found = 0.03, stored["item_percentile"]
    assert fresh["item_percentile"].to_dict() == pytest.approx(found.to_dict(), abs=allowed)
    assert abs(found["raw-history"] - found["profile"]) > 2 * allowed, "a swap of the two would be seen"


def test_neighbourhoods_of_profiles_are_close():
    fresh, stored = numbers(FRESH), numbers(STORED)
    overlaps = {f"umap to {size} neighbour_overlap": 0.06 for size in (16, 2)}
    for name, allowed in {"same_genre": 0.02, "same_genre_umap": 0.06, **overlaps}.items():
        path = ("03-embeddings", name)
        assert fresh[path] == pytest.approx(stored[path], abs=allowed)
        assert stored[path] > 2 * allowed

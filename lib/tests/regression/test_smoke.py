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


SCORES = ["recall@10", "ndcg@10"]


def trained(home, name):
    labels = ["protocol", "seen", "variant"]
    return pd.read_csv(home / "tables" / name).set_index(labels)


@pytest.mark.parametrize("metric", SCORES)
def test_trained_metrics_are_within_the_seed_spread(metric):
    """Another processor rounds otherwise, which moves a run about as much as another seed does.

    Two means over n seeds of equal spread s differ by s * sqrt(2 / n) on average; four times that is allowed. The
    spread is pooled over the variants of a reading.
    """
    stored, fresh = trained(STORED, "main.csv"), trained(FRESH, "main.csv")
    students = stored["model"] == "SASRec"
    spread = (stored.loc[students, f"{metric}_std"] ** 2).groupby(level=[0, 1]).mean() ** 0.5
    allowed = 4 * spread * (2 / stored.loc[students, "seeds"].max()) ** 0.5
    allowed = allowed.reindex(stored.index.droplevel("variant")).to_numpy()
    off = (fresh[metric] - stored[metric]).abs()
    assert (off[students] <= allowed[students]).all(), off[students][off[students] > allowed[students]]
    every = stored.index.get_level_values("protocol").str.endswith("/all") & students
    plain = every & (stored.index.get_level_values("variant") == "plain")
    assert (stored.loc[plain, metric] > allowed[plain]).all(), "the tolerance would pass at zero"


@pytest.mark.parametrize("metric", SCORES)
def test_popularity_is_exact(metric):
    stored, fresh = trained(STORED, "main.csv"), trained(FRESH, "main.csv")
    counted = stored["model"] == "popularity"
    assert fresh.loc[counted, metric].tolist() == pytest.approx(stored.loc[counted, metric].tolist(), rel=1e-12)
    assert (stored.loc[counted, metric] > 0).any()


def test_neighbourhoods_of_profiles_are_close():
    fresh, stored = numbers(FRESH), numbers(STORED)
    overlaps = {f"umap to {size} neighbour_overlap": 0.06 for size in (16, 2)}
    for name, allowed in {"same_genre": 0.02, "same_genre_umap": 0.06, **overlaps}.items():
        path = ("03-embeddings", name)
        assert fresh[path] == pytest.approx(stored[path], abs=allowed)
        assert stored[path] > 2 * allowed

import ir_measures
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from seqdistill.config import ModelConfig
from seqdistill.data.sequences import Ragged
from seqdistill.evaluation import ranking
from seqdistill.evaluation.ranking import MISS, metrics, model_score, ranks_of, recommend, topk
from seqdistill.io import UserError
from seqdistill.models.transformer import SequentialRecommender


def test_saved_ranks_are_read_as_they_were_and_take_little_space(tmp_path):
    rng = np.random.default_rng(0)
    ranks = pd.DataFrame({"user": np.arange(22_363), "item": rng.integers(1, 12_102, 22_363), "position": 0})
    ranks["rank_all"] = rng.integers(1, 12_102, 22_363)
    ranks["rank_unseen"] = ranks["rank_all"] - rng.integers(0, 6, 22_363)
    ranks.loc[::100, "rank_unseen"] = MISS
    ranks.loc[::200, "rank_all"] = MISS
    for part in (ranks, ranks[:0], ranks[:1]):
        ranking.save_ranks(part, tmp_path / "ranks.parquet")
        pd.testing.assert_frame_equal(ranking.load_ranks(tmp_path / "ranks.parquet"), part)
        assert (tmp_path / "ranks.parquet").stat().st_size < 130_000


@settings(max_examples=60)
@given(st.integers(0, 10_000))
def test_ranks_equal_brute_force(seed):
    rng = np.random.default_rng(seed)
    scores = torch.from_numpy(rng.integers(0, 6, (4, 12)).astype(float))
    targets, seen = rng.integers(1, 13, 4), rng.integers(0, 13, (4, 5))
    kept, filtered = ranks_of(scores, torch.from_numpy(targets), torch.from_numpy(seen))
    for row, target in enumerate(targets):
        own = scores[row, target - 1]
        rivals = [item for item in range(1, 13) if item != target and scores[row, item - 1] >= own]
        assert kept[row] == 1 + len(rivals)
        ahead = 1 + len([item for item in rivals if item not in seen[row]])
        assert filtered[row] == (MISS if target in seen[row] else ahead)


def test_memory_bounds_the_block():
    assert ranking.block_size(2_792) == 256 and 4 * 334_060 * ranking.block_size(334_060) <= 2**26


@given(items=st.integers(1, 400), k=st.integers(1, 20), seed=st.integers(0, 2**31))
def test_the_best_by_groups_are_the_best(items, k, seed):
    scores = torch.randn(3, items, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(topk(scores, k), scores.argsort(1, descending=True)[:, :k])


def test_metrics_equal_ir_measures():
    scores = np.random.default_rng(0).standard_normal((60, 50))
    targets = np.arange(60) % 50
    ranks = pd.Series([(row >= row[target]).sum() for row, target in zip(scores, targets, strict=True)])
    judged = [ir_measures.Qrel(str(case), str(item), 1) for case, item in enumerate(targets)]
    run = [ir_measures.ScoredDoc(str(c), str(i), row[i]) for c, row in enumerate(scores) for i in range(50)]
    names = {"recall@10": "R@10", "ndcg@10": "nDCG@10", "ndcg@20": "nDCG@20", "mrr": "RR"}
    theirs = ir_measures.calc_aggregate([ir_measures.parse_measure(name) for name in names.values()], judged, run)
    ours = metrics(ranks)
    for name, measure in names.items():
        assert ours[name] == pytest.approx(theirs[ir_measures.parse_measure(measure)], abs=1e-9)


def rows_of(*histories):
    ends = np.cumsum([len(history) for history in histories])
    items = np.array([item for history in histories for item in history])
    return Ragged(items, ends - [len(history) for history in histories], ends, np.arange(len(histories)))


def test_where_fewer_than_k_items_are_unseen_the_rest_is_zero():
    scores = torch.arange(5.0).expand(2, 5)
    items = recommend(rows_of([1, 3, 4, 5], [5]), lambda rows, _: scores[rows], k=3)
    assert items.tolist() == [[2, 0, 0], [4, 3, 2]]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_scores_that_are_not_finite_are_refused(bad):
    scores = torch.zeros(2, 40)
    scores[1, 7] = bad
    with pytest.raises(UserError, match="scores: NaN or infinite"):
        recommend(rows_of([1], [2]), lambda rows, _: scores[rows], k=2)
    with pytest.raises(UserError, match="scores: NaN or infinite"):
        ranks_of(scores, torch.tensor([1, 2]), torch.tensor([[3], [4]]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_ranks_of_any_precision_are_counts(dtype):
    scores = torch.ones(1, 100_001, dtype=dtype)
    both = ranks_of(scores, torch.tensor([1]), torch.tensor([[2, 3, 3, 0]]))
    assert [rank.tolist() for rank in both] == [[100_001], [99_999]] and both[0].dtype == torch.int64


def test_an_empty_history_among_others_is_refused():
    model = SequentialRecommender(30, ModelConfig(dim=8, blocks=1, heads=1, length=5)).eval()
    with pytest.raises(UserError, match="row 1 has no item"):
        model.score(torch.tensor([[1, 2], [0, 0]]))
    with pytest.raises(UserError, match="row 1 has no item"):
        recommend(rows_of([1, 2], []), model_score(model))

"""Full ranking of the catalogue, a block of users at a time, and metrics from the ranks."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from seqdistill.data.sequences import Cases, Ragged, padded
from seqdistill.io import UserError, load_table, save_with

CUTOFFS = (5, 10, 20)
RANK_COLUMN = {"included": "rank_all", "excluded": "rank_unseen"}  # by whether seen items are candidates
MISS = 2**31 - 1  # rank of a target that is not recommended
HELD = 2**24  # scores held at a time
GROUP = 16  # columns that share one maximum in `topk`


def finite(scores: Tensor) -> Tensor:
    """Return scores [B, V] as they are; UserError if one is NaN or infinite, as from a diverged model."""
    if not scores.sum().isfinite() and not scores.isfinite().all():  # the sum is ten times as fast, but may overflow
        raise UserError("scores: NaN or infinite; the model has diverged: train it again, with a lower lr.")
    return scores


def ranks_of(scores: Tensor, targets: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Rank each target [B] in the catalogue by scores [B, V], column i being item i + 1; a tie counts against it.

    Returns ranks from 1 with seen items (histories [B, T], 0 at padding) included, and with them excluded; [B] each. If
    they are excluded, a target that is itself a seen item cannot be recommended: its rank is `MISS`.
    """
    own = finite(scores).gather(1, targets[:, None] - 1)  # [B, 1]
    ahead = torch.ge(scores, own, out=torch.empty_like(scores, dtype=torch.float32))  # bool sums take 3 times as long
    rank_all = ahead.sum(1).long()
    ids = seen.sort(1).values
    rivals = ids > 0
    rivals[:, 1:] &= ids[:, 1:] != ids[:, :-1]
    rank_unseen = rank_all - (rivals & (scores.gather(1, (ids - 1).clamp_min(0)) >= own)).sum(1)
    repeated = (ids == targets[:, None]).any(1)
    return rank_all, torch.where(repeated, MISS, rank_unseen)


def block_size(items: int) -> int:
    """Number of users scored together: at most 256, and at most `HELD` scores."""
    return max(1, min(256, HELD // items))


def blocks(histories: Ragged, size: int) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Yield (row numbers, histories [B, T]) with rows of similar length together."""
    order = np.argsort(histories.lengths, kind="stable")
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        yield chosen, padded(histories, chosen)


Score = Callable[[np.ndarray, Tensor], Tensor]  # (row numbers, histories [B, T]) -> scores [B, V]


@torch.inference_mode()
def rank(cases: Cases, score: Score, size: int = 256) -> pd.DataFrame:
    """Rank the target of every case among all items; at most [size, V] scores exist at a time.

    Returns a row per case: user, item (the target), position (of the target among the user's), rank_all, rank_unseen.
    """
    table = pd.DataFrame({"user": cases.histories.users, "item": cases.targets, "position": cases.position})
    ranks, targets = np.zeros((2, len(cases)), dtype=np.int64), torch.from_numpy(cases.targets)
    for chosen, histories in blocks(cases.histories, size):
        scores = score(chosen, histories)
        both = ranks_of(scores, targets[chosen].to(scores.device), histories.to(scores.device))
        ranks[:, chosen] = torch.stack(both).cpu()
    return table.assign(**dict(zip(RANK_COLUMN.values(), ranks, strict=True)))


def save_ranks(ranks: pd.DataFrame, path: Path) -> None:
    """Write what `rank` returns in few bytes, for committed runs: smallest integer types, zstd; 0 stands for `MISS`.

    rank_unseen is stored as `above`, the seen items above the target (-1: `MISS`), which is nearly always small.
    """
    above = (ranks["rank_all"] - ranks["rank_unseen"]).where(ranks["rank_unseen"] < MISS, -1)
    table = ranks.drop(columns="rank_unseen").replace({"rank_all": {MISS: 0}}).assign(above=above)
    table = pa.Table.from_pandas(table.apply(pd.to_numeric, downcast="integer"), preserve_index=False)
    table = table.replace_schema_metadata(None)
    form = {"compression": "zstd", "use_dictionary": False, "column_encoding": {"user": "DELTA_BINARY_PACKED"}}
    save_with(lambda to: pq.write_table(table, to, **form), path)


def load_ranks(path: Path) -> pd.DataFrame:
    """Read what `save_ranks` wrote, as `rank` returned it."""
    table = load_table(path).astype(np.int64)
    rank_all, above = table["rank_all"].replace(0, MISS), table.pop("above")
    return table.assign(rank_all=rank_all, rank_unseen=(rank_all - above).where(above >= 0, MISS))


def topk(scores: Tensor, k: int) -> Tensor:
    """Columns of the k highest scores of each row, best first: [B, V] -> [B, k], or [B, V] where there are fewer.

    Only the k groups of columns with the highest maxima, and the columns that fill no group, can contain them.
    """
    groups = scores.shape[1] // GROUP
    if k >= groups:
        return scores.topk(min(k, scores.shape[1]), 1).indices
    leading = scores[:, : GROUP * groups].unflatten(1, (GROUP, groups)).amax(1).topk(k, 1).indices
    inside = leading[:, :, None] + groups * torch.arange(GROUP, device=scores.device)  # [B, k, GROUP]
    rest = torch.arange(GROUP * groups, scores.shape[1], device=scores.device).expand(len(scores), -1)
    columns = torch.cat([inside.flatten(1), rest], 1)
    return columns.gather(1, scores.gather(1, columns).topk(k, 1).indices)


@torch.inference_mode()
def recommend(histories: Ragged, score: Score, k: int = 10, seen: bool = False, size: int = 256) -> np.ndarray:
    """Item ids of the k (or V) best items of every history, best first, [U, k]; no items of the history unless `seen`.

    Where fewer than k items are unseen, the rest of the row is 0.
    """
    parts = []
    for chosen, ids in blocks(histories, size):
        scores = finite(score(chosen, ids))
        if not seen:
            row, column = (ids > 0).nonzero(as_tuple=True)
            scores = scores.index_put((row, ids[row, column] - 1), scores.new_tensor(-torch.inf))
        columns = topk(scores, k)
        parts.append((chosen, torch.where(scores.gather(1, columns).isneginf(), 0, columns + 1).cpu()))
    order, items = map(np.concatenate, zip(*parts, strict=True))
    return items[np.argsort(order)]


def model_score(model: torch.nn.Module) -> Score:
    """Scoring function of a student, which reads the last `max_history` events of each history."""

    def score(_: np.ndarray, histories: Tensor) -> Tensor:
        length = (histories > 0).sum(1, keepdim=True)
        columns = (length - model.max_history).clamp_min(0) + torch.arange(min(histories.shape[1], model.max_history))
        recent = histories.gather(1, columns.clamp_max(histories.shape[1] - 1)) * (columns < length)
        return model.score(recent.to(model.position.weight.device))

    return score


def metrics(ranks: pd.Series) -> dict[str, float]:
    """Recall@k, NDCG@k (one relevant item per case, so recall is the hit rate) and MRR, means over cases."""
    values = {}
    for k in CUTOFFS:
        hit = ranks <= k
        values[f"recall@{k}"] = float(hit.mean())
        values[f"ndcg@{k}"] = float((hit / np.log2(ranks + 1)).mean())
    return values | {"mrr": float((1 / ranks).mean())}

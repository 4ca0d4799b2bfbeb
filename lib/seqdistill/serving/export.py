"""The finished student without its training code: exported, run by ONNX Runtime, and asked by the items' own ids."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
import pandas as pd
import torch
import torch.nn.functional as F
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from seqdistill.data.sequences import Ragged
from seqdistill.evaluation.ranking import Score, blocks, model_score, topk
from seqdistill.io import UserError, save_with
from seqdistill.models.transformer import SequentialRecommender

Run = Callable[[np.ndarray], np.ndarray]  # item ids [B, T], T at most `max_history` -> scores [B, V]


class Scorer(nn.Module):
    """Next-item scores as one graph without a shape that depends on values; its weights are the student's own.

    Args:
        student: finished SASRec or BERT4Rec.
    """

    def __init__(self, student: SequentialRecommender):
        super().__init__()
        self.model = student

    def forward(self, ids: Tensor) -> Tensor:
        """Score the catalogue for the event after each history: [B, T], 0 at padding on the right -> [B, V]."""
        student, at = self.model, (ids > 0).sum(1) - 1  # [B]
        mask = None
        if not student.config.causal:
            at, ids = at + 1, F.pad(ids, (0, 1))
            ids = torch.where(torch.arange(ids.shape[1], device=ids.device) == at[:, None], student.mask_id, ids)
            mask = (ids > 0)[:, None, None]  # [B, 1, 1, T + 1]
        h = student.embed(ids)
        for block in student.blocks[:-1]:
            h = block(h, mask)
        h = student.scaled(student.norm(student.blocks[-1].last(h, at)))  # [B, 1, d]
        return h.squeeze(1) @ student.catalogue().T


def exported(student: SequentialRecommender) -> ExportedProgram:
    """Trace a student with `torch.export`: any number of histories, of any length that it reads."""
    shape = {"ids": {0: Dim("histories", min=1), 1: Dim("length", min=1, max=student.max_history)}}
    ids = torch.ones(2, min(3, student.max_history), dtype=torch.int64)
    return torch.export.export(Scorer(student).eval(), (ids,), dynamic_shapes=shape)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what exporters log about other models out of the page."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def save_onnx(student: SequentialRecommender, path: Path) -> Path:
    """Write a student as ONNX, input `ids` [B, T], output `scores` [B, V]; return the path."""
    with quiet():
        program = torch.onnx.export(
            exported(student), dynamo=True, input_names=["ids"], output_names=["scores"], verbose=False
        )
    save_with(lambda temporary: program.save(temporary, external_data=False), path)
    return path


def quantised(path: Path, target: Path) -> Path:
    """Write an ONNX model with int8 weights (onnxruntime's dynamic quantisation); return where it stands.

    Activations are scaled by the largest of the whole batch, so that a score depends a little on its neighbours.
    """
    with quiet():
        save_with(lambda temporary: quantize_dynamic(path, temporary, weight_type=QuantType.QInt8), target)
    return target


def session(path: Path) -> Run:
    """Open an ONNX model with ONNX Runtime on one thread of the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    opened = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda ids: opened.run(["scores"], {"ids": ids})[0]


def run_score(run: Run, max_history: int) -> Score:
    """Scoring function of an opened model, as `evaluate.model_score` is that of a student."""

    def score(_: np.ndarray, histories: Tensor) -> Tensor:
        recent = [row[row > 0][-max_history:] for row in histories]
        return torch.from_numpy(run(nn.utils.rnn.pad_sequence(recent, batch_first=True).numpy()))

    return score


def agreement(student: SequentialRecommender, run: Run, histories: Ragged) -> tuple[float, float]:
    """Compare an opened model with its student on histories: largest difference of scores, share of equal top-10.

    Tops are equal where the tenth of the student's scores lies within 1e-4 of all that the model put among its ten.
    """
    ours, theirs, worst, same = model_score(student), run_score(run, student.max_history), 0.0, []
    for rows, ids in blocks(histories, 256):
        scores, other = ours(rows, ids), theirs(rows, ids)
        worst = max(worst, float((scores - other).abs().max()))
        least = scores.gather(1, topk(other, 10)).amin(1)  # [B]
        same += (least >= scores.topk(min(10, scores.shape[1]), 1).values[:, -1] - 1e-4).tolist()
    return worst, sum(same) / len(same)


class Served(NamedTuple):
    """A model that answers requests: `items` has the columns item (1..V, in order), item_id and title."""

    run: Run
    max_history: int
    items: pd.DataFrame


def served(run: Run, max_history: int, items: pd.DataFrame) -> Served:
    """Put a model and its catalogue together, in whatever order; an item without title goes by its id.

    Raises:
        UserError: `item` does not hold 1, 2, ... once each.
    """
    if "item" not in items or sorted(items["item"]) != list(range(1, len(items) + 1)):
        raise UserError('served: column "item" must hold 1, 2, ... once each, as the student was trained.')
    items = items.sort_values("item", ignore_index=True)
    ids = items["item_id"].astype(str)
    titles = items["title"].fillna(ids) if "title" in items else ids
    return Served(run, max_history, pd.DataFrame({"item": items["item"], "item_id": ids, "title": titles}))


def top(model: Served, history: Sequence[str], k: int = 10) -> pd.DataFrame:
    """Recommend to one user the k best items that the history does not hold.

    Args:
        model: see `served`.
        history: the data set's own item ids, the latest last.
        k: how many items.

    Returns:
        Columns item_id, title, score, best first; fewer than k rows where the catalogue holds no more.

    Raises:
        UserError: the history is empty, or holds ids that are not in the catalogue (all of them are named), or the
            catalogue is not the one that the student was trained on.
    """
    codes = pd.Series(model.items["item"].to_numpy(), model.items["item_id"])
    wanted = [str(one) for one in history]
    if not wanted:
        raise UserError("top: the history is empty; a sequential recommender needs at least one item.")
    if unknown := sorted(set(wanted) - set(codes.index)):
        raise UserError(f"top: not in the catalogue: {', '.join(unknown)}.")
    seen = codes[wanted].to_numpy()
    scores = torch.from_numpy(model.run(seen[None, -model.max_history :])).clone()  # [1, V]
    if scores.shape[1] != len(codes):
        raise UserError(f"top: the student scores {scores.shape[1]:,} items, the catalogue holds {len(codes):,}.")
    scores[0, seen - 1] = -torch.inf
    columns = topk(scores, min(k, len(codes) - len(set(wanted))))[0]
    return model.items.iloc[columns.numpy()][["item_id", "title"]].assign(score=scores[0, columns].numpy())

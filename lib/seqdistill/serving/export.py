"""The finished student without its training code: exported to ONNX, run by ONNX Runtime, queried by item ids."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.export import Dim

from seqdistill.data.sequences import Ragged, lengths_of
from seqdistill.evaluation.ranking import Score, blocks, finite, model_score, topk
from seqdistill.io import UserError, require, save_with
from seqdistill.models.transformer import SequentialRecommender

Run = Callable[[np.ndarray], np.ndarray]  # item ids [B, T], T at most `max_history` -> scores [B, V]


class Scorer(nn.Module):
    """Scores of the catalogue for the event after each history, [B, T] -> [B, V], as a module that can be traced."""

    def __init__(self, student: SequentialRecommender):
        super().__init__()
        self.student = student

    def forward(self, ids: Tensor) -> Tensor:
        """Score histories of item ids, 0 at padding on the right."""
        return self.student.encode_last(ids) @ self.student.catalogue().T


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporters' warnings and logs, which concern other models."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)


def save_onnx(student: SequentialRecommender, path: Path) -> Path:
    """Write a student as ONNX, input `ids` [B, T] of any B and T up to `max_history`, output `scores` [B, V]."""
    require("onnxscript", "serve")
    scorer, names = Scorer(student).eval(), {"input_names": ["ids"], "output_names": ["scores"], "verbose": False}
    example = (torch.ones(2, min(3, student.max_history), dtype=torch.int64),)
    with quiet():
        if student.config.recurrent:  # torch.export fixes all sizes of a recurrent layer's input
            axes = {"ids": {0: "histories", 1: "length"}, "scores": {0: "histories"}}
            traced = partial(torch.onnx.export, scorer, example, dynamo=False, dynamic_axes=axes, **names)
            save_with(lambda temporary: traced(str(temporary)), path)
            return path
        shape = {"ids": {0: Dim("histories", min=1), 1: Dim("length", min=1, max=student.max_history)}}
        program = torch.export.export(scorer, example, dynamic_shapes=shape)
        onnx = torch.onnx.export(program, dynamo=True, **names)
    save_with(lambda temporary: onnx.save(temporary, external_data=False), path)
    return path


def quantised(path: Path, target: Path) -> Path:
    """Write an ONNX model with int8 weights by dynamic quantisation, so that a score depends slightly on its batch.

    Weights use 7 of the 8 bits (`reduce_range`): with all of them, sums overflow on processors without VNNI.
    """
    tool = require("onnxruntime.quantization", "serve")
    write = partial(tool.quantize_dynamic, path, weight_type=tool.QuantType.QInt8, reduce_range=True)
    with quiet():
        save_with(write, target)
    return target


def session(path: Path) -> Run:
    """Open an ONNX model with ONNX Runtime on one thread of the CPU."""
    onnxruntime = require("onnxruntime", "serve")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    opened = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda ids: opened.run(["scores"], {"ids": ids})[0]


def run_score(run: Run, max_history: int) -> Score:
    """Scoring function of an opened model, as `ranking.model_score` is that of a student."""

    def score(_: np.ndarray, histories: Tensor) -> Tensor:
        recent = [row[:length][-max_history:] for row, length in zip(histories, lengths_of(histories), strict=True)]
        return torch.from_numpy(run(nn.utils.rnn.pad_sequence(recent, batch_first=True).numpy()))

    return score


def agreement(student: SequentialRecommender, run: Run, histories: Ragged) -> tuple[float, float]:
    """Compare an opened model with its student on histories: largest difference of scores, share of equal top 10.

    A top 10 counts as equal if the student scores all its items at least as high as its own tenth, less 1e-4.
    """
    student_score, onnx_score, worst, same = model_score(student), run_score(run, student.max_history), 0.0, []
    for rows, ids in blocks(histories, 256):
        scores, other = student_score(rows, ids), onnx_score(rows, ids)
        worst = max(worst, float((scores - other).abs().max()))
        least = scores.gather(1, topk(other, 10)).amin(1)  # [B]
        same += (least >= scores.topk(min(10, scores.shape[1]), 1).values[:, -1] - 1e-4).tolist()
    return worst, sum(same) / len(same)


def titles_of(items: pd.DataFrame) -> pd.Series:
    """Titles of items; one without title goes by its id."""
    ids = items["item_id"].astype(str)
    return items["title"].fillna(ids) if "title" in items else ids


class Served(NamedTuple):
    """A model that answers requests: `items` has the columns item (1..V, in order), item_id and title; item by id."""

    run: Run
    max_history: int
    items: pd.DataFrame
    codes: dict[str, int]


def served(run: Run, max_history: int, items: pd.DataFrame) -> Served:
    """Put a model and its catalogue together; UserError unless `item` is 1, 2, ... once each and `item_id` unique."""
    if not {"item", "item_id"} <= {*items}:
        raise UserError('served: the catalogue needs the columns "item" and "item_id".')
    items = items.sort_values("item", ignore_index=True)
    items["item_id"] = items["item_id"].convert_dtypes().astype(str)  # 318.0, from a column with gaps, is "318"
    codes = {item_id: item for item, item_id in enumerate(items["item_id"], 1)}
    if items["item"].tolist() != [*range(1, len(codes) + 1)]:
        raise UserError('served: column "item" must hold 1, 2, ... once each, and "item_id" no id twice.')
    return Served(run, max_history, items.assign(title=titles_of(items)), codes)


def top(model: Served, history: Sequence[str], k: int = 10) -> pd.DataFrame:
    """Recommend to one user the k best items outside the history (the data set's own ids, the latest last).

    Columns item_id, title, score, best first; fewer than k rows if the catalogue holds no more. UserError names
    unknown ids, an empty history, scores that are not finite, and a catalogue that the student was not trained on.
    """
    if isinstance(history, str):
        raise UserError(f'top: the history is the text "{history}"; a list of item ids is expected, ["{history}"].')
    codes, history = model.codes, [str(item_id) for item_id in history]
    if not history:
        raise UserError("top: the history is empty; a sequential recommender needs at least one item.")
    if unknown := sorted(set(history) - codes.keys()):
        raise UserError(f"top: not in the catalogue: {', '.join(unknown[:5])} ({len(unknown)} such).")
    seen = np.array([codes[item_id] for item_id in history])
    scores = finite(torch.from_numpy(model.run(seen[None, -model.max_history :])).clone())  # [1, V]
    if scores.shape[1] != len(codes):
        raise UserError(f"top: the student scores {scores.shape[1]:,} items, the catalogue holds {len(codes):,}.")
    scores[0, seen - 1] = -torch.inf
    columns = topk(scores, min(k, len(codes) - len(set(history))))[0]
    return model.items.iloc[columns.numpy()][["item_id", "title"]].assign(score=scores[0, columns].numpy())

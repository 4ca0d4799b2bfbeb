"""From a plain table of interactions to what `train` takes, and back to recommendations by the table's own ids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from seqdistill.data.sequences import Ragged, latest, ragged
from seqdistill.data.splits import Protocol, split
from seqdistill.data.tables import coded
from seqdistill.evaluation import ranking
from seqdistill.io import UserError
from seqdistill.models.transformer import SequentialRecommender
from seqdistill.training.train import TrainingData, training_data


@dataclass(frozen=True)
class PreparedData(TrainingData):
    """Training data that remember the table's ids: users (user, user_id), catalogue (item, item_id, title).

    histories: all events of every user, whatever their split. notes: what was dropped on the way, in words.
    """

    users: pd.DataFrame = None
    catalogue: pd.DataFrame = None
    histories: Ragged = None
    notes: tuple[str, ...] = ()


def prepare(
    interactions: pd.DataFrame,
    items: pd.DataFrame | None = None,
    teacher: pd.DataFrame | Mapping[object, Sequence[float]] | None = None,
    protocol: Protocol | None = Protocol("leave_one_out"),  # noqa: B008, frozen
) -> PreparedData:
    """Code ids, sort, split: an interactions table (user_id, item_id, timestamp) becomes training data.

    items: item_id, title. teacher: vectors [r] by user_id, a mapping or a table with user_id as index or column; users
    without one have no teacher. protocol: None for interactions to recommend from, of which none is kept for tests, so
    that a history may be short. UserError names invalid input (`data.tables.coded`, `data.splits.split`).
    """
    dataset = coded(interactions, items)
    labels = split(dataset.events, protocol, dataset.dated) if protocol else "train"
    events = dataset.events.assign(split=labels)
    vectors = None if teacher is None else teacher_by_id(teacher, dataset.users)
    data = training_data(events, len(dataset.items), vectors)
    known = vars(data) | {"item_ids": dataset.items.sort_values("item")["item_id"].tolist()}
    return PreparedData(
        **known, users=dataset.users, catalogue=dataset.items, histories=ragged(events), notes=dataset.notes
    )


def teacher_by_id(teacher: pd.DataFrame | Mapping[object, Sequence[float]], users: pd.DataFrame) -> torch.Tensor:
    """Teacher vectors [U, r], NaN where a user has none."""
    if isinstance(teacher, Mapping):
        if len(lengths := {len(vector) for vector in teacher.values()}) != 1:
            raise UserError(f"teacher: all vectors must have one length; there are {sorted(lengths)}.")
        teacher = pd.DataFrame(np.stack([*teacher.values()]), [*teacher])
    if not isinstance(teacher, pd.DataFrame):
        raise UserError(f"teacher: a dict or a table by user_id is expected, not {type(teacher).__name__}.")
    table = teacher.set_index("user_id") if "user_id" in teacher else teacher
    table = table.set_axis(table.index.astype(str))
    if unknown := sorted(set(table.index) - set(users["user_id"].astype(str))):
        raise UserError(f'teacher: "{unknown[0]}" is not a user_id of the interactions ({len(unknown)} such vectors).')
    if (holes := table.isna().any(axis=1)).any():
        raise UserError(f'teacher: the vector of "{holes.idxmax()}" holds NaN ({holes.sum()} such); leave it out.')
    return torch.from_numpy(table.reindex(users["user_id"].astype(str)).to_numpy(np.float32, copy=True))


def recommend(
    model: SequentialRecommender, data: PreparedData, user_ids: Sequence | None = None, k: int = 10
) -> pd.DataFrame:
    """Recommend to each user the k best items after their whole history, without the items in it.

    data: the training data, or later interactions after `prepare`. Items are matched by id; those that the student does
    not know are skipped. Returns columns user_id, item_id, rank (from 1; fewer than k if fewer items are unseen), for
    all users if `user_ids` is None.
    """
    users = pd.Index(data.users["user_id"])
    wanted = users if user_ids is None else pd.Index(user_ids)
    if len(unknown := wanted[~wanted.isin(users)]):
        raise UserError(f"recommend: unknown user_id: {', '.join(map(str, unknown[:5]))} ({len(unknown)} such).")
    if not len(wanted):
        return pd.DataFrame(columns=["user_id", "item_id", "rank"])
    ids = pd.Index(getattr(model, "item_ids", None) or data.item_ids)
    if len(ids) != model.items:
        raise UserError(
            f"recommend: the student knows {model.items:,} items, the data {len(ids):,}; `load_model` knows their ids."
        )
    codes, before = ids.get_indexer(data.item_ids) + 1, data.histories  # 0: an item that the student does not know
    events = {"user": np.repeat(before.users, before.lengths), "item": codes[before.items - 1]}
    known = ragged(pd.DataFrame(events).query("item > 0"))
    rows = pd.Index(known.users).get_indexer(users.get_indexer(wanted))  # -1: a user without known items
    if len(empty := wanted[rows < 0]):
        raise UserError(f"recommend: the student knows no item of user {empty[0]} ({len(empty)} such); leave them out.")
    columns = ranking.recommend(latest(known, rows, known.lengths.max()), ranking.model_score(model), k)  # [U, k]
    row, place = columns.nonzero()  # fewer than k where fewer are unseen
    return pd.DataFrame({"user_id": wanted[row], "item_id": ids[columns[row, place] - 1], "rank": place + 1})

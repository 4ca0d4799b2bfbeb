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
    protocol: Protocol = Protocol("leave_one_out"),  # noqa: B008, frozen
) -> PreparedData:
    """Code ids, sort, split: an interactions table (user_id, item_id, timestamp) becomes training data.

    items: item_id, title. teacher: vectors [r] by user_id, a mapping or a table with user_id as index; users without
    one have no teacher. UserError names invalid input (`data.tables.coded`, `data.splits.split`).
    """
    dataset = coded(interactions, items)
    events = dataset.events.assign(split=split(dataset.events, protocol, dataset.dated))
    vectors = None if teacher is None else teacher_by_id(teacher, dataset.users)
    data = training_data(events, len(dataset.items), vectors)
    known = vars(data) | {"item_ids": dataset.items.sort_values("item")["item_id"].tolist()}
    return PreparedData(
        **known, users=dataset.users, catalogue=dataset.items, histories=ragged(events), notes=dataset.notes
    )


def teacher_by_id(teacher: pd.DataFrame | Mapping[object, Sequence[float]], users: pd.DataFrame) -> torch.Tensor:
    """Teacher vectors [U, r], NaN where a user has none."""
    if isinstance(teacher, Mapping):
        lengths = {len(vector) for vector in teacher.values()}
        if len(lengths) != 1:
            raise UserError(f"teacher: all vectors must have one length; there are {sorted(lengths)}.")
        teacher = pd.DataFrame.from_dict(teacher, orient="index")
    if not isinstance(teacher, pd.DataFrame):
        raise UserError(f"teacher: a dict or a table by user_id is expected, not {type(teacher).__name__}.")
    table = teacher.set_index("user_id") if "user_id" in teacher else teacher
    table = table.set_axis(table.index.astype(str))
    if unknown := sorted(set(table.index) - set(users["user_id"].astype(str))):
        raise UserError(f'teacher: "{unknown[0]}" is not a user_id of the interactions ({len(unknown)} such vectors).')
    if (holes := table.isna().any(axis=1)).any():
        raise UserError(
            f'teacher: the vector of "{holes.idxmax()}" holds NaN ({holes.sum()} such); leave such users out.'
        )
    return torch.from_numpy(table.reindex(users["user_id"].astype(str)).to_numpy(np.float32, copy=True))


def known_histories(model: SequentialRecommender, data: PreparedData) -> tuple[Ragged, np.ndarray]:
    """Histories in the student's own codes, without items added after its training; and its items' ids, [V]."""
    ids = pd.Index(getattr(model, "item_ids", None) or data.item_ids)
    if len(ids) != model.items:
        raise UserError(
            f"recommend: the student knows {model.items:,} items, the data {len(ids):,}; prepare the data that it was "
            "trained on, or load it by `seqdistill.load_model`, which knows the items' ids."
        )
    codes = ids.get_indexer(data.item_ids) + 1  # 0: an item that the student does not know
    histories = data.histories
    events = {"user": np.repeat(histories.users, histories.lengths), "item": codes[histories.items - 1]}
    return ragged(pd.DataFrame(events).query("item > 0")), ids.to_numpy()


def recommend(
    model: SequentialRecommender, data: PreparedData, user_ids: Sequence | None = None, k: int = 10
) -> pd.DataFrame:
    """Recommend to each user the k best items after their whole history, without the items in it.

    data: the training data, or later interactions after `prepare`. Items are matched by id; those that the student does
    not know are skipped. Returns columns user_id, item_id, rank (from 1; fewer than k if fewer items are unseen), for
    all users if `user_ids` is None.
    """
    users = pd.Series(np.arange(len(data.users)), data.users["user_id"])
    wanted = users.index if user_ids is None else list(user_ids)
    if unknown := [user for user in wanted if user not in users.index]:
        raise UserError(f"recommend: unknown user_id: {', '.join(map(str, unknown[:5]))} ({len(unknown)} such).")
    if not len(wanted):
        return pd.DataFrame(columns=["user_id", "item_id", "rank"])
    histories, ids = known_histories(model, data)
    places = pd.Series(np.arange(len(histories)), histories.users).reindex(users.loc[wanted])
    if (empty := places.isna()).any():
        first = users.loc[wanted].index[int(np.argmax(empty))]
        raise UserError(f"recommend: the student knows no item of user {first} ({empty.sum()} such); leave them out.")
    chosen = latest(histories, places.to_numpy(np.int64), histories.lengths.max())
    columns = ranking.recommend(chosen, ranking.model_score(model), k)  # [U, k]
    row, place = columns.nonzero()  # fewer than k where fewer are unseen
    named = users.loc[wanted].index[row]
    return pd.DataFrame({"user_id": named, "item_id": ids[columns[row, place] - 1], "rank": place + 1})

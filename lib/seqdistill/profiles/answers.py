"""Questions by content, and their answers on disk: finished ones survive a kill and are never asked twice."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from seqdistill.cache import Cache
from seqdistill.io import digest, load_table, save_table
from seqdistill.profiles.chat import Answer, Messages, Sampling


@dataclass(frozen=True)
class Question:
    """What an LLM is asked about one user; `key` names the answer wherever it is kept."""

    user_id: str
    messages: Messages
    model_sha256: str
    sampling: Sampling

    @cached_property
    def prompt_sha256(self) -> str:
        """Digest of the messages."""
        return digest(self.messages)

    @cached_property
    def key(self) -> str:
        """Digest of model, messages and sampling settings."""
        return digest([self.model_sha256, self.messages, self.sampling])


class Store:
    """Answers on disk by key: finished ones survive a kill, and two processes may write at once."""

    def __init__(self, path: Path):
        self.kept = Cache(path, "answers")

    def get(self, keys: Iterable[str]) -> dict[str, Answer]:
        """Return the stored answers among `keys`."""
        return {key: Answer(**json.loads(answer)) for key, answer in self.kept.get(keys).items()}

    def put(self, key: str, answer: Answer) -> None:
        """Store one answer."""
        self.kept.put({key: json.dumps(asdict(answer))})


KEYS = ["user_id", "model_sha256", "prompt_sha256", "sampling"]
COLUMNS = ["user_id", "text", "model_sha256", "prompt_sha256", "sampling", "prompt_tokens", "output_tokens"]
COLUMNS += ["seconds", "finish"]


def rows_of(questions: Iterable[Question], answers: dict[str, Answer]) -> pd.DataFrame:
    """Tabulate the answered questions with their provenance, one row per question."""
    rows = [
        {
            "user_id": asked.user_id,
            "model_sha256": asked.model_sha256,
            "prompt_sha256": asked.prompt_sha256,
            "sampling": json.dumps(asked.sampling, sort_keys=True),
            **asdict(answers[asked.key]),
        }
        for asked in questions
        if asked.key in answers
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def ship(path: Path, questions: Iterable[Question], answers: dict[str, Answer]) -> pd.DataFrame:
    """Add the answered questions to the shipped table, in place of rows of the same keys, and return it.

    Rows of other prompts, models and settings stay: a run that fails, or is set up otherwise, takes nothing away.
    """
    table = rows_of(questions, answers)
    if path.exists():
        table = pd.concat([load_table(path), table], ignore_index=True)
    table = table.drop_duplicates(KEYS, keep="last", ignore_index=True)
    save_table(table, path)
    return table


def latest(table: pd.DataFrame, questions: Iterable[Question]) -> pd.DataFrame:
    """Take one row of a shipped table per user: the last that answers one of the questions, else the last of all."""
    fits = table["prompt_sha256"].isin({asked.prompt_sha256 for asked in questions})
    return table.loc[fits.sort_values(kind="stable").index].drop_duplicates("user_id", keep="last").sort_index()


def last_steps(table: pd.DataFrame) -> pd.DataFrame:
    """Take the last answer of each user of a strategy that asks several times, with tokens and seconds of all."""
    costs = table.groupby("user_id")[["prompt_tokens", "output_tokens", "seconds"]].transform("sum")
    return table.assign(**costs).drop_duplicates("user_id", keep="last")


Shipped = dict[tuple[str, str, str, str], Answer]


def read_shipped(path: Path) -> Shipped:
    """Read the answers of a shipped table by (user, model, prompt, sampling settings); none if there is no table."""
    if not path.exists():
        return {}
    return {
        (row.user_id, row.model_sha256, row.prompt_sha256, row.sampling): Answer(
            row.text, row.prompt_tokens, row.output_tokens, row.seconds, row.finish
        )
        for row in load_table(path).itertuples()
    }


def shipped(known: Shipped, questions: Iterable[Question]) -> dict[str, Answer]:
    """Take the shipped answers whose user, model, prompt and sampling settings are those that would be asked now."""
    rows = (
        (
            asked.key,
            (asked.user_id, asked.model_sha256, asked.prompt_sha256, json.dumps(asked.sampling, sort_keys=True)),
        )
        for asked in questions
    )
    return {key: known[row] for key, row in rows if row in known}

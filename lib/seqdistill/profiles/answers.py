"""Questions, keyed by content, and their answers on disk: finished ones survive a kill and are not requested again."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from seqdistill.cache import Cache
from seqdistill.io import digest, load_table, save_table
from seqdistill.profiles.chat import Answer, Messages, Sampling

KEYS = ["user_id", "model_sha256", "prompt_sha256", "sampling"]  # of a shipped answer
COLUMNS = ["user_id", "text", *KEYS[1:], "prompt_tokens", "output_tokens", "seconds", "finish"]
Shipped = dict[tuple[str, str, str, str], Answer]  # by `KEYS`


@dataclass(frozen=True)
class Question:
    """What an LLM is asked about one user."""

    user_id: str
    messages: Messages
    model_sha256: str
    sampling: Sampling

    @cached_property
    def key(self) -> str:
        """Digest of model, messages and sampling settings; names the answer in the store."""
        return digest([self.model_sha256, self.messages, self.sampling])

    @cached_property
    def shipped_key(self) -> tuple[str, str, str, str]:
        """Values of `KEYS`, which name the answer in a shipped table."""
        return self.user_id, self.model_sha256, digest(self.messages), json.dumps(self.sampling, sort_keys=True)


class Store:
    """Answers on disk by key; two processes may write at once."""

    def __init__(self, path: Path):
        self.cache = Cache(path, "answers")

    def get(self, keys: Iterable[str]) -> dict[str, Answer]:
        """Return the stored answers of `keys`."""
        return {key: Answer(**json.loads(value)) for key, value in self.cache.get(keys).items()}

    def put(self, key: str, answer: Answer) -> None:
        """Store one answer."""
        self.cache.put({key: json.dumps(asdict(answer))})


def ship(path: Path, questions: Iterable[Question], answers: dict[str, Answer]) -> pd.DataFrame:
    """Add the answered questions to the shipped table and return it: rows of equal `KEYS` are replaced, others stay."""
    rows = [(*asked.shipped_key, *vars(answers[asked.key]).values()) for asked in questions if asked.key in answers]
    table = pd.DataFrame(rows, columns=[*KEYS, *Answer.__dataclass_fields__])[COLUMNS]
    if path.exists():
        table = pd.concat([load_shipped(path), table], ignore_index=True)
    table = table.drop_duplicates(KEYS, keep="last", ignore_index=True)
    save_table(table, path)
    return table


def load_shipped(path: Path) -> pd.DataFrame:
    """Read a shipped table."""
    return load_table(path)[COLUMNS]


def read_shipped(path: Path) -> Shipped:
    """Read the answers of a shipped table; none if there is no table."""
    rows = load_shipped(path).to_dict("records") if path.exists() else []
    return {tuple(row.pop(name) for name in KEYS): Answer(**row) for row in rows}


def shipped(known: Shipped, questions: Iterable[Question]) -> dict[str, Answer]:
    """Shipped answers by `Question.key`: those whose user, model, prompt and sampling equal a question's."""
    return {question.key: known[question.shipped_key] for question in questions if question.shipped_key in known}


def latest(table: pd.DataFrame, strategy: str) -> pd.DataFrame:
    """Take the last answer of each user from a shipped table, with tokens and seconds of all steps of the strategy."""
    if strategy != "plain":
        costs = table.groupby("user_id")[["prompt_tokens", "output_tokens", "seconds"]].transform("sum")
        table = table.assign(**costs)
    return table.drop_duplicates("user_id", keep="last")

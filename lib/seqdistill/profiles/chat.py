"""Chat messages in, texts out: what every back end of an LLM takes and gives."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Protocol

Messages = list[dict[str, str]]
Sampling = dict[str, float]


@dataclass(frozen=True)
class Answer:
    """What a model wrote: text, tokens read and written, seconds from asking to answer, reason it stopped."""

    text: str
    prompt_tokens: int
    output_tokens: int
    seconds: float
    finish: str


@dataclass(frozen=True)
class Failure:
    """Why a chat has no answer, in few words, fit to be counted; `final`: asking again would change nothing."""

    reason: str
    tries: int = 1
    final: bool = False


Answers = Iterator[tuple[int, Answer | Failure]]  # each with the index of its chat, as they finish
Save = Callable[[int, Answer | Failure], None]


def forget(index: int, answer: Answer | Failure) -> None:
    """Save nothing."""


class LLM(Protocol):
    """A back end that answers chats; `sha256` names its weights, or the model of an endpoint."""

    name: str
    sha256: str

    def answers(self, chats: Sequence[Messages], sampling: Sampling, save: Save = forget) -> Answers:
        """Answer chats; each answer is handed to `save` the moment it is there, whether it is then yielded or not."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each text, without those of the chat template."""


def fold_system(messages: Messages) -> Messages:
    """Put the system message before the user's: some chat templates (Gemma's) know no system role."""
    if messages[0]["role"] != "system":
        return messages
    system, user, *rest = messages
    return [{**user, "content": f"{system['content']}\n\n{user['content']}"}, *rest]


def in_flight(ask: Callable, inputs: Sequence, parallel: int, save: Save = forget) -> Iterator[tuple[int, object]]:
    """Call `ask` on each input in `parallel` threads; save, then yield (index, result) as they finish.

    Calls under way when the waiting ends, by an error or by Ctrl-C, are finished and saved; the others are cancelled.
    """

    def call(index: int) -> object:
        result = ask(inputs[index])
        save(index, result)
        return result

    with ThreadPoolExecutor(parallel) as pool:
        futures = {pool.submit(call, index): index for index in range(len(inputs))}
        try:
            for future in as_completed(futures):
                yield futures.pop(future), future.result()
        finally:
            pool.shutdown(cancel_futures=True)

"""Chat messages in, texts out: the one protocol that every back end of an LLM follows."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
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
    """Why a chat has no answer: a reason of few words, fit to be counted, and how often it was tried.

    `final`: the cause lies in the chat and not in the model's state, so that asking again would change nothing.
    """

    reason: str
    tries: int = 1
    final: bool = False


class LLM(Protocol):
    """Anything that answers chats; `sha256` names what it is: its weights, or an endpoint's model name."""

    name: str
    sha256: str

    def answers(self, chats: Sequence[Messages], sampling: Sampling) -> Iterator[tuple[int, Answer | Failure]]:
        """Yield (index of the chat, answer or failure) in the order in which they are finished."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each text as this model reads it, without those of the chat template."""


def folded(messages: Messages) -> Messages:
    """Put the system message before the user's: some chat templates (Gemma's) know no system role."""
    first, second, *rest = messages
    return [{**second, "content": f"{first['content']}\n\n{second['content']}"}, *rest]


def in_flight(
    ask: Callable[[Messages], Answer | Failure], chats: Sequence[Messages], parallel: int
) -> Iterator[tuple[int, Answer | Failure]]:
    """Ask `parallel` chats at a time, each in a thread; yield (index, answer) as they finish.

    No more than twice `parallel` chats are queued, so that a million of them need no million futures. When one of them
    raises, or Ctrl-C stops the waiting, the answers that the others give are yielded before the error goes on: they
    are paid for.
    """
    with ThreadPoolExecutor(parallel) as pool:
        waiting, asked = enumerate(chats), {}
        try:
            while True:
                for index, chat in islice(waiting, 2 * parallel - len(asked)):
                    asked[pool.submit(ask, chat)] = index
                if not asked:
                    return
                for future in wait(asked, return_when=FIRST_COMPLETED).done:
                    yield asked.pop(future), future.result()
        except GeneratorExit:
            pool.shutdown(cancel_futures=True)
            raise
        except BaseException:
            pool.shutdown(cancel_futures=True)
            for future, index in asked.items():
                if not future.cancelled() and future.exception() is None:
                    yield index, future.result()
            raise

"""Chat messages in, texts out: the interface of every LLM back end."""

import re
import unicodedata
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Protocol

Messages = list[dict[str, str]]
Sampling = dict[str, float]
LARGER = 4  # factor on the token limit when a cut answer is requested again
HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}  # control, direction and format characters, line separators
NAMES = r"(?:\w+:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|analysis|reflection|scratchpad)"
CHANNEL = r"<\|channel\|?>"  # of harmony (gpt-oss); some servers drop its marks and keep only the names
OPENING = rf"<{NAMES}>|\[THINK\]|<\|START_THINKING\|>|{CHANNEL}(?!\s*final)|\Aanalysis(?=[A-Z\"'])"
CLOSING = rf"</{NAMES}>|\[/THINK\]|<\|END_THINKING\|>|{CHANNEL}\s*final[^<]*<\|message\|>|<channel\|>|assistantfinal"
REASONING = re.compile(f"(?:{OPENING}).*?(?:{CLOSING})", re.S | re.I)
BEFORE = re.compile(rf"\A.*(?:{CLOSING})", re.S | re.I)  # reasoning that the template opened and the answer closes
OPENED = re.compile(OPENING, re.I)
MARK = re.compile(r"<\|[\w ]*\|>|\x1b\[[\d;]*[A-Za-z]")  # of a chat template, of a terminal
COMPUTED = "computed"  # `finish` of a text that no model wrote
USED_UP = "reasoning used up max_tokens"


@dataclass(frozen=True)
class Answer:
    """What a model wrote: text, tokens read and written, seconds from request to answer, reason why it stopped."""

    text: str
    prompt_tokens: int
    output_tokens: int
    seconds: float
    finish: str


@dataclass(frozen=True)
class Failure:
    """Why a chat has no answer, in a few words that can be counted; `final`: a retry would not help."""

    reason: str
    tries: int = 1
    final: bool = False
    message: str = field(default="", compare=False)  # of the server, without secrets


Answers = Generator[tuple[int, Answer | Failure], None, None]  # each with the index of its chat, as they finish


class LLM(Protocol):
    """A back end that answers chats."""

    name: str

    def answers(self, chats: Sequence[Messages], sampling: Sampling) -> Answers:
        """Answer chats; each answer is yielded as soon as it arrives."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of each text, without those of the chat template."""


def without_reasoning(text: str) -> str:
    """Remove the reasoning before an answer; "" if nothing else is left, or if the reasoning never ends."""
    text = BEFORE.sub("", REASONING.sub("", text))
    return "" if OPENED.search(text) else MARK.sub("", text).strip()


def read_answer(text: str, prompt_tokens: int, output_tokens: int, seconds: float, finish: str) -> Answer | Failure:
    """Make an answer of a text without chat marks, control characters and reasoning."""
    answer = without_reasoning(text)
    answer = "".join(char for char in answer if char in "\n\t" or unicodedata.category(char) not in HIDDEN).strip()
    if not answer:
        return Failure(USED_UP if text.strip() or finish == "length" else "empty answer")
    return Answer(answer, prompt_tokens, output_tokens, seconds, finish)


def was_cut(answer: Answer | Failure) -> bool:
    """Whether an answer was cut at the token limit."""
    return answer.reason == USED_UP if isinstance(answer, Failure) else answer.finish == "length"


def larger(sampling: Sampling) -> Sampling:
    """Settings for requesting a cut answer once more."""
    return sampling | {"max_tokens": LARGER * sampling["max_tokens"]}


def better(cut: Answer | Failure, again: Answer | Failure) -> Answer | Failure:
    """Choose between a cut answer and the result of the second request: a cut text is better than none."""
    return cut if isinstance(again, Failure) and isinstance(cut, Answer) else again


def fold_system(messages: Messages) -> Messages:
    """Put the system message before the user's: some chat templates (Gemma's) have no system role."""
    if messages[0]["role"] != "system":
        return messages
    system, user, *rest = messages
    return [{**user, "content": f"{system['content']}\n\n{user['content']}"}, *rest]


def in_flight(ask: Callable, inputs: Sequence, parallel: int) -> Generator[tuple[int, object], None, None]:
    """Call `ask` on each input in `parallel` threads; yield (index, result) as they finish.

    After an error or Ctrl-C, no further call begins; the results of those in progress are yielded first.
    """
    with ThreadPoolExecutor(parallel) as pool:
        futures = {pool.submit(ask, text): index for index, text in enumerate(inputs)}
        try:
            for future in as_completed([*futures]):
                result = future.result()
                yield futures.pop(future), result
        except (Exception, KeyboardInterrupt):
            pool.shutdown(cancel_futures=True)
            for future, index in futures.items():
                if not future.cancelled() and not future.exception():
                    yield index, future.result()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

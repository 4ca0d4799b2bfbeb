"""An LLM behind an OpenAI-compatible address: OpenAI, vLLM, Ollama, llama.cpp's server.

OPENAI_BASE_URL says where (the client's default otherwise), OPENAI_API_KEY opens it; neither is stored or printed.
"""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import openai
import tenacity
from pydantic_core import from_json

from seqdistill.config import did_you_mean
from seqdistill.io import UserError
from seqdistill.profiles.chat import Answer, Answers, Failure, Messages, Sampling, Save, fold_system, forget, in_flight

TRIES = 3
TIMEOUT = 120.0  # seconds without a byte
BYTES_PER_TOKEN = 3  # a cautious estimate where no tokenizer can be asked: English text has about four
MAX_CHARACTERS = 40  # per token that was asked for
SUFFIX = re.compile(r"(:[\w.-]+)?(-\d{4}(-\d\d-\d\d|\d{4})?)?")  # :latest, -0613, -20240806, -2024-08-06
MALFORMED = (AttributeError, KeyError, OverflowError, TypeError, ValueError)  # what reading an unchecked field raises


class Unusable(Exception):
    """A response without the answer that was asked for; another try may do better."""


def connect(base_url: str | None = None) -> openai.OpenAI:
    """Open the client, which repeats a request after a 429 or 5xx, a time-out or a cut connection.

    `base_url` is a server of this process: it is reached past any proxy, without a key and without a time-out.
    """
    key, timeout = (os.environ.get("OPENAI_API_KEY") or "none", TIMEOUT) if base_url is None else ("none", None)
    client = openai.DefaultHttpxClient(trust_env=base_url is None)
    return openai.OpenAI(base_url=base_url, api_key=key, timeout=timeout, max_retries=TRIES - 1, http_client=client)


def same_model(asked: str, answered: str) -> bool:
    """Say whether a server's name of its model is the one asked for, folders before, a :tag or date after it aside."""
    asked, answered = asked.rsplit("/", 1)[-1].lower(), answered.rsplit("/", 1)[-1].lower()
    return not answered or (answered.startswith(asked) and bool(SUFFIX.fullmatch(answered[len(asked) :])))


def failure_of(error: openai.APIError) -> Failure:
    """Name a failed request in two words, none of them the server's: it may repeat the key."""
    status = getattr(error, "status_code", None)
    if status is None:
        return Failure("time-out" if isinstance(error, openai.APITimeoutError) else "cut connection", TRIES)
    final = status < 500 and status not in (408, 409, 429)  # the others the client has tried again
    return Failure(f"{status} {'refusal' if status < 500 else 'error'}", 1 if final else TRIES, final)


def parse(body: bytes, model: str, max_tokens: float, seconds: float) -> Answer:
    """Take the answer out of a response, whose fields nobody has checked."""
    try:
        data = from_json(body)
        choice, usage = (data.get("choices") or [{"message": {}}])[0], data.get("usage") or {}
        text = (choice["message"].get("content") or "").strip()
        tokens = [int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")]
        finish = (choice.get("finish_reason") or "stop").strip()
        other = not same_model(model, data.get("model") or "")
    except MALFORMED:
        raise Unusable("invalid-JSON answer") from None
    if other or not text or len(text) > MAX_CHARACTERS * max_tokens:
        raise Unusable("other-model answer" if other else "oversized answer" if text else "empty answer")
    return Answer(text, *tokens, seconds, finish)


@dataclass
class Endpoint:
    """A model behind an OpenAI-compatible address, asked `parallel` chats at a time."""

    name: str
    sha256: str
    model: str
    parallel: int
    client: openai.OpenAI
    server: object = None  # of this process: it listens as long as it is held
    has_tokenizer: bool | None = None  # unknown until a text is counted
    has_system_role: bool = True  # until the server refuses a chat with one and takes the same chat without

    def error(self, why: str) -> UserError:
        """Make the error of what no other chat or try can mend."""
        return UserError(f"{self.name}: the endpoint {why}.")

    def check(self) -> None:
        """Ask for the models, so that a wrong address, key or name stops before the first user."""
        try:
            names = [getattr(model, "id", None) for model in self.client.models.list().data or []]
        except openai.APIConnectionError as error:
            raise self.error(f"in OPENAI_BASE_URL cannot be reached ({failure_of(error).reason})") from None
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise self.error(f"refuses the key ({error.status_code})") from None
        except (openai.APIError, *MALFORMED):
            names = []  # a server that lists no models may still answer chats
        names = [name for name in names if isinstance(name, str)]
        if names and not any(same_model(self.model, name) for name in names):
            raise self.error(f'has no "{self.model}"{did_you_mean(self.model, names)}; it has {", ".join(names[:5])}')

    @tenacity.retry(
        retry=tenacity.retry_if_exception_type(Unusable),
        stop=tenacity.stop_after_attempt(TRIES),
        wait=tenacity.wait_random_exponential(max=8),
        retry_error_callback=lambda state: Failure(str(state.outcome.exception()), TRIES),
    )
    def answer(self, messages: Messages, sampling: Sampling) -> Answer | Failure:
        """Answer one chat."""
        if not self.has_system_role:
            messages = fold_system(messages)
        create = self.client.chat.completions.with_raw_response.create
        try:
            response = create(model=self.model, messages=messages, **sampling)
        except openai.APIError as error:
            status = getattr(error, "status_code", None)
            if status == 404:
                raise self.error(f'has no model "{self.model}" (404)') from None
            if status in (401, 403):
                raise self.error(f"refuses the key ({status})") from None
            if status == 400 and messages[0]["role"] == "system":
                answer = self.answer(fold_system(messages), sampling)
                self.has_system_role &= isinstance(answer, Failure)
                return answer
            return failure_of(error)
        return parse(response.content, self.model, sampling["max_tokens"], round(response.elapsed.total_seconds(), 3))

    def answers(self, chats: Sequence[Messages], sampling: Sampling, save: Save = forget) -> Answers:
        """Answer chats, `parallel` at a time; see `LLM`."""
        self.check()
        return in_flight(lambda chat: self.answer(chat, sampling), chats, self.parallel, save)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count tokens by the server's /tokenize (vLLM, llama.cpp); estimate where it has none.

        Which of the two is decided by the first text and holds for all: a count that changes would change prompts.
        """
        if self.has_tokenizer is None and texts:
            self.has_tokenizer = self.tokens_of(texts[0]) is not None
            if not self.has_tokenizer:
                print(f"{self.name}: no /tokenize; one token is assumed for every {BYTES_PER_TOKEN} bytes.")
        if not self.has_tokenizer:
            return [math.ceil(len(text.encode()) / BYTES_PER_TOKEN) for text in texts]
        return [count for _, count in sorted(in_flight(self.tokens_of, texts, self.parallel))]

    def tokens_of(self, text: str) -> int | None:
        """Ask /tokenize; None if the server turns out to have none."""
        url = str(self.client.base_url).rstrip("/").removesuffix("/v1") + "/tokenize"
        body = {"model": self.model, "content": text, "prompt": text, "add_special_tokens": False}
        try:
            return len([int(token) for token in self.client.post(url, cast_to=object, body=body)["tokens"]])
        except openai.APIError as error:
            if getattr(error, "status_code", None) in (404, 405) and not self.has_tokenizer:
                return None
            reason = failure_of(error).reason
        except MALFORMED:
            reason = "invalid-JSON answer"
        raise self.error(f"has a /tokenize that failed ({reason})")

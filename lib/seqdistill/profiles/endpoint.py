"""An LLM behind an OpenAI-compatible address: OpenAI, vLLM, Ollama, llama.cpp's server.

OPENAI_BASE_URL is the address (default: the client's), OPENAI_API_KEY the key; neither is stored or printed.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import openai
import tenacity
from pydantic_core import from_json

from seqdistill.config import did_you_mean
from seqdistill.io import UserError
from seqdistill.profiles import chat
from seqdistill.profiles.chat import Answer, Answers, Failure, Messages, Sampling

TRIES = 3
TIMEOUT = 120.0  # seconds without a byte of the response
NO_KEY = "no-key"  # the client wants one
BYTES_PER_TOKEN = 3  # a cautious estimate if no tokenizer is available: English text has about four
UNUSABLE = (Failure("invalid-JSON answer"), Failure("empty answer"))  # another try may succeed
MALFORMED = (AttributeError, LookupError, TypeError, ValueError)  # raised by reading fields of unchecked JSON


def parse(body: bytes, seconds: float) -> Answer | Failure:
    """Read the answer from a response whose fields are unchecked."""
    try:
        data = from_json(body)
        choice, usage = (data.get("choices") or [{"message": {}}])[0], data.get("usage") or {}
        text, finish = choice["message"].get("content") or "", choice.get("finish_reason") or "stop"
        tokens = [int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")]
        return chat.read_answer(text, *tokens, seconds, finish)
    except MALFORMED:
        return Failure("invalid-JSON answer")


def connect(base_url: str | None = None) -> openai.OpenAI:
    """Open the client, which repeats a request after a 429 or 5xx, a time-out or a cut connection.

    `base_url` is the address of a server in this process: it is called without a proxy, a key or a time-out.
    """
    key, timeout = (os.environ.get("OPENAI_API_KEY") or NO_KEY, TIMEOUT) if base_url is None else (NO_KEY, None)
    client = openai.DefaultHttpxClient(trust_env=base_url is None)
    return openai.OpenAI(base_url=base_url, api_key=key, timeout=timeout, max_retries=TRIES - 1, http_client=client)


def short_name(model: str) -> str:
    """A model's name without its folder and `:latest`: servers list "gemma2:latest" for gemma2, or a file's path."""
    return model.rsplit("/", 1)[-1].removesuffix(":latest").lower()


@dataclass
class Endpoint:
    """A model behind an OpenAI-compatible address, asked `parallel` chats at a time."""

    name: str
    model: str
    parallel: int
    client: openai.OpenAI
    server: object = None  # in this process: it listens as long as this reference exists
    has_system_role: bool = True  # until the server refuses a chat with a system message and accepts it without
    limit: str = "max_tokens"  # the server's name of the token limit

    def error(self, why: str) -> UserError:
        """Make an error for a failure that no other chat or retry can fix."""
        return UserError(f"{self.name}: the endpoint {why}.")

    def failure(self, error: openai.APIError) -> Failure:
        """Name a failed request in a few fixed words; the server's own message, without the key, is in `message`."""
        if not isinstance(error, openai.APIStatusError):
            return Failure("time-out" if isinstance(error, openai.APITimeoutError) else "cut connection", TRIES)
        status, message = error.status_code, str(error).replace(self.client.api_key, "***")[:300]
        final = status < 500 and status not in (408, 409, 429)  # the client has already retried the others
        return Failure(f"{status} {'refusal' if status < 500 else 'error'}", 1 if final else TRIES, final, message)

    def check(self) -> None:
        """List the server's models, so that a wrong address, key or name fails before the first user."""
        try:
            names = [model.id for model in self.client.models.list().data]
        except openai.APIConnectionError as error:
            raise self.error(f"in OPENAI_BASE_URL cannot be reached ({self.failure(error).reason})") from None
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise self.error(f"refuses the key ({error.status_code})") from None
        except (openai.APIError, *MALFORMED):
            names = []  # a server that lists no models may still answer chats
        if names and short_name(self.model) not in map(short_name, names):
            raise self.error(f'has no "{self.model}"{did_you_mean(self.model, names)}; it has {", ".join(names[:5])}')

    @tenacity.retry(
        retry=tenacity.retry_if_result(lambda answer: answer in UNUSABLE),
        stop=tenacity.stop_after_attempt(TRIES),
        wait=tenacity.wait_random_exponential(max=8),
        retry_error_callback=lambda state: replace(state.outcome.result(), tries=TRIES),
    )
    def answer(self, messages: Messages, sampling: Sampling) -> Answer | Failure:
        """Answer one chat."""
        if not self.has_system_role:
            messages = chat.fold_system(messages)
        settings = {self.limit if name == "max_tokens" else name: value for name, value in sampling.items()}
        create = self.client.chat.completions.with_raw_response.create
        try:
            response = create(model=self.model, messages=messages, **settings)
        except openai.NotFoundError:
            raise self.error(f'has no model "{self.model}" (404)') from None
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise self.error(f"refuses the key ({error.status_code})") from None
        except openai.BadRequestError as error:
            if self.limit == "max_tokens" and "max_completion_tokens" in str(error):
                self.limit = "max_completion_tokens"
                return self.answer(messages, sampling)
            if messages[0]["role"] == "system":
                answer = self.answer(chat.fold_system(messages), sampling)
                self.has_system_role &= isinstance(answer, Failure)
                return answer
            return self.failure(error)
        except openai.APIError as error:
            return self.failure(error)
        return parse(response.content, round(response.elapsed.total_seconds(), 3))

    def answers(self, chats: Sequence[Messages], sampling: Sampling) -> Answers:
        """Answer chats, `parallel` at a time; an answer cut at the token limit is requested once more; see `LLM`."""

        def ask(messages: Messages) -> Answer | Failure:
            answer = self.answer(messages, sampling)
            return chat.better(answer, self.answer(messages, chat.larger(sampling))) if chat.was_cut(answer) else answer

        self.check()
        return chat.in_flight(ask, chats, self.parallel)

    def tokens_of(self, text: str) -> int:
        """Count the tokens of a text with the server's /tokenize."""
        url = str(self.client.base_url).rstrip("/").removesuffix("/v1") + "/tokenize"
        body = {"model": self.model, "content": text, "prompt": text, "add_special_tokens": False}
        return len(self.client.post(url, cast_to=object, body=body)["tokens"])

    @cached_property
    def has_tokenizer(self) -> bool:
        """Whether the server has a working /tokenize; decided once, since a count that changes would change prompts."""
        try:
            self.tokens_of("word")
            return True
        except (openai.APIError, *MALFORMED):
            print(f"{self.name}: no /tokenize that works; one token is assumed for every {BYTES_PER_TOKEN} bytes.")
            return False

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count tokens with the server's /tokenize (vLLM, llama.cpp); estimate them if it has none."""
        if self.has_tokenizer:
            try:
                return [count for _, count in sorted(chat.in_flight(self.tokens_of, texts, self.parallel))]
            except (openai.APIError, *MALFORMED) as error:
                raise self.error(f"has a /tokenize that failed ({type(error).__name__})") from None
        return [math.ceil(len(text.encode()) / BYTES_PER_TOKEN) for text in texts]

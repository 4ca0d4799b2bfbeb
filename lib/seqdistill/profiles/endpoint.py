"""An LLM behind an OpenAI-compatible address: OpenAI, vLLM, Ollama, llama.cpp's server.

OPENAI_BASE_URL is the address (default: the client's), OPENAI_API_KEY the key; neither is stored or printed.
"""

import math
import os
import re
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import httpx2
import openai
import tenacity
from pydantic_core import from_json

from seqdistill.config import did_you_mean
from seqdistill.io import UserError
from seqdistill.profiles import chat
from seqdistill.profiles.chat import Answer, Answers, Failure, Messages, Sampling, Save, forget

TRIES = 3
TIMEOUT = 120.0  # seconds from sending a request to the last byte of the response
MOST = 8 << 20  # bytes of a response, unpacked: 60 times the longest answer that is requested
BYTES_PER_TOKEN = 3  # a cautious estimate if no tokenizer is available: English text has about four
MAX_CHARACTERS = 40  # of an answer, per requested token
SUFFIX = re.compile(r"(:[\w.-]+)?(-\d{4}(-\d\d-\d\d|\d{4})?)?")  # :latest, -0613, -20240806, -2024-08-06
VARIANT = re.compile(
    r"\b(\d+(\.\d+)?b|base|chat|coder|flash|instruct|it|large|lite|max|micro|mini|nano|pro|small|tiny|turbo)\b"
)
# Exceptions that reading unchecked fields and deeply nested JSON raises.
MALFORMED = (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError)


class Unusable(Exception):
    """A response without the requested answer; another try may succeed."""


class Client(openai.DefaultHttpxClient):
    """HTTP client for any server: whole responses, within time-out and `MOST` bytes, no redirect to another host."""

    def send(self, request: httpx2.Request, **settings: object) -> httpx2.Response:
        """Send a request and read the response; httpx2.TransportError if that takes too long or too much memory."""
        request.headers["Accept-Encoding"] = "identity"
        limit = request.extensions["timeout"]["read"] or math.inf
        begun, parts, size = time.monotonic(), [], 0
        response = super().send(request, **settings | {"stream": True, "follow_redirects": False})
        if (onward := response.next_request) and onward.url.host == request.url.host:
            response.close()
            response = super().send(onward, **settings | {"stream": True, "follow_redirects": False})
        with closing(response):
            for part in response.iter_bytes():
                parts.append(part)
                size += len(part)
                if size > MOST:
                    raise httpx2.RemoteProtocolError("oversized answer")
                if time.monotonic() - begun > limit:
                    raise httpx2.ReadTimeout("time-out")
        headers = [(name, value) for name, value in response.headers.items() if name != "content-encoding"]
        whole = httpx2.Response(response.status_code, headers=headers, content=b"".join(parts), request=request)
        whole.elapsed = response.elapsed
        return whole


def masked(text: str, key: str) -> str:
    """Replace the key, which a server may echo, and whatever looks like one."""
    text = text.replace(key, "***") if len(key) > 4 else text
    return re.sub(r"\b(sk-|hf_|Bearer\s+)[\w.-]{8,}", r"\1***", text)


def connect(base_url: str | None = None) -> openai.OpenAI:
    """Open the client, which repeats a request after a 429 or 5xx, a time-out or a cut connection.

    `base_url` is the address of a server in this process: it is called without a proxy, a key or a time-out.
    """
    key, timeout = (os.environ.get("OPENAI_API_KEY") or "none", TIMEOUT) if base_url is None else ("none", None)
    client = Client(trust_env=base_url is None)
    return openai.OpenAI(base_url=base_url, api_key=key, timeout=timeout, max_retries=TRIES - 1, http_client=client)


def same_model(asked: str, answered: str) -> bool:
    """Whether the server's name of its model matches the requested one, apart from leading folders and a suffix.

    Either name may be longer (a deployment's alias); a suffix that names a variant (`-mini`) means another model.
    """
    short, long = sorted((name.rsplit("/", 1)[-1].lower() for name in (asked, answered)), key=len)
    rest = long[len(short) :]
    alias = long.startswith(short) and rest[:1] in ("", "-", "_", ":", "@") and not VARIANT.search(rest)
    return not answered or alias or (long.startswith(short) and bool(SUFFIX.fullmatch(rest)))


def failure_of(error: openai.APIError, key: str) -> Failure:
    """Name a failed request in a few fixed words; the server's own message, without the key, is in `message`."""
    status, message = getattr(error, "status_code", None), masked(str(error), key)[:300]
    if status is None:
        late = isinstance(error, openai.APITimeoutError)
        large = str(error.__cause__) == "oversized answer"
        return Failure("time-out" if late else "oversized answer" if large else "cut connection", TRIES)
    if status < 400:
        return Failure("redirect to another host", final=True, message=message)
    final = status < 500 and status not in (408, 409, 429)  # the client has already retried the others
    return Failure(f"{status} {'refusal' if status < 500 else 'error'}", 1 if final else TRIES, final, message)


def parse(body: bytes, model: str, max_tokens: float, seconds: float, key: str) -> tuple[Answer | Failure, str]:
    """Read the answer, and the name of the model that gave it, from a response whose fields are unchecked."""
    try:
        data = from_json(body)
        choice, usage = (data.get("choices") or [{"message": {}}])[0], data.get("usage") or {}
        message = choice["message"]
        text = (message.get("content") or "").strip()
        tokens = [int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")]
        finish = (choice.get("finish_reason") or "stop").strip()
        reasoned = bool(message.get("reasoning_content") or message.get("reasoning"))
        answered = masked(data.get("model") or "", key)
        other = not same_model(model, answered)
    except MALFORMED:
        raise Unusable("invalid-JSON answer") from None
    if other or len(text) > MAX_CHARACTERS * max_tokens:
        raise Unusable(f'answer of "{answered[:60]}", not "{model}"' if other else "oversized answer")
    answer = chat.read_answer(masked(text, key), *tokens, seconds, finish, reasoned)
    if isinstance(answer, Failure) and not chat.was_cut(answer):
        raise Unusable(answer.reason)
    return answer, answered


@dataclass
class Endpoint:
    """A model behind an OpenAI-compatible address, asked `parallel` chats at a time."""

    name: str
    model: str
    parallel: int
    client: openai.OpenAI
    server: object = None  # in this process: it listens as long as this reference exists
    has_tokenizer: bool | None = None  # unknown until a text is counted
    has_system_role: bool = True  # until the server refuses a chat with a system message and accepts it without
    limit: str = "max_tokens"  # the server's name of the token limit
    alias: str = ""  # another name that the server has for the model

    def error(self, why: str) -> UserError:
        """Make an error for a failure that no other chat or retry can fix."""
        return UserError(f"{self.name}: the endpoint {why}.")

    def check(self) -> None:
        """List the server's models, so that a wrong address, key or name fails before the first user."""
        try:
            names = [getattr(model, "id", None) for model in self.client.models.list().data or []]
        except openai.APIConnectionError as error:
            why = failure_of(error, self.client.api_key).reason
            raise self.error(f"in OPENAI_BASE_URL cannot be reached ({why})") from None
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
            messages = chat.fold_system(messages)
        create, key = self.client.chat.completions.with_raw_response.create, self.client.api_key
        max_tokens = sampling["max_tokens"]
        settings = {name: value for name, value in sampling.items() if name != "max_tokens"} | {self.limit: max_tokens}
        try:
            response = create(model=self.model, messages=messages, **settings)
        except openai.APIError as error:
            status = getattr(error, "status_code", None)
            if status == 404:
                raise self.error(f'has no model "{self.model}" (404)') from None
            if status in (401, 403):
                raise self.error(f"refuses the key ({status})") from None
            if status == 400 and self.limit == "max_tokens" and "max_completion_tokens" in str(error):
                self.limit = "max_completion_tokens"
                return self.answer(messages, sampling)
            if status == 400 and messages[0]["role"] == "system":
                answer = self.answer(chat.fold_system(messages), sampling)
                self.has_system_role &= isinstance(answer, Failure)
                return answer
            return failure_of(error, key)
        seconds = round(response.elapsed.total_seconds(), 3)
        answer, answered = parse(response.content, self.model, max_tokens, seconds, key)
        if not self.alias and answered.rsplit("/", 1)[-1].lower() not in ("", self.model.rsplit("/", 1)[-1].lower()):
            self.alias = answered
            print(f'{self.name}: the server calls the model "{answered[:60]}".')
        return answer

    def answers(self, chats: Sequence[Messages], sampling: Sampling, save: Save = forget) -> Answers:
        """Answer chats, `parallel` at a time; an answer cut at the token limit is requested once more; see `LLM`."""

        def ask(messages: Messages) -> Answer | Failure:
            answer = self.answer(messages, sampling)
            if not chat.was_cut(answer):
                return answer
            return chat.better(answer, self.answer(messages, chat.larger(sampling)))

        self.check()
        return chat.in_flight(ask, chats, self.parallel, save)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count tokens with the server's /tokenize (vLLM, llama.cpp); estimate them if it has none.

        The first text decides between the two for all texts, since a count that changes would change prompts.
        """
        if self.has_tokenizer is None and texts:
            self.has_tokenizer = self.tokens_of(texts[0]) is not None
            if not self.has_tokenizer:
                print(f"{self.name}: no /tokenize that works; one token is assumed for every {BYTES_PER_TOKEN} bytes.")
        if not self.has_tokenizer:
            return [math.ceil(len(text.encode()) / BYTES_PER_TOKEN) for text in texts]
        return [count for _, count in sorted(chat.in_flight(self.tokens_of, texts, self.parallel))]

    def tokens_of(self, text: str) -> int | None:
        """Call /tokenize; None if the first text shows that the server has no working one."""
        url = str(self.client.base_url).rstrip("/").removesuffix("/v1") + "/tokenize"
        body = {"model": self.model, "content": text, "prompt": text, "add_special_tokens": False}
        try:
            return len([int(token) for token in self.client.post(url, cast_to=object, body=body)["tokens"]])
        except openai.APIError as error:
            reason = failure_of(error, self.client.api_key).reason
        except MALFORMED:
            reason = "invalid-JSON answer"
        if not self.has_tokenizer:
            return None
        raise self.error(f"has a /tokenize that failed ({reason})")

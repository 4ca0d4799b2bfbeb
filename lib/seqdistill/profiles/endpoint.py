"""An LLM behind an OpenAI-compatible address: OpenAI, vLLM, Ollama, llama.cpp's server.

OPENAI_BASE_URL says where (the client's default otherwise), OPENAI_API_KEY opens it. Neither is stored, printed or
part of a key.
"""

import json
import math
import os
import re
import time
from collections.abc import Iterator, Sequence
from functools import partial

import httpx2
import openai
import tenacity

from seqdistill.config import did_you_mean
from seqdistill.io import UserError, digest
from seqdistill.profiles.chat import Answer, Failure, Messages, Sampling, folded, in_flight

BYTES_PER_TOKEN = 3  # a cautious estimate where no tokenizer can be asked: English text has about four
SUFFIX = re.compile(r"(:[\w.-]+)?(-\d{4}(-\d\d-\d\d|\d{4})?)?")  # :latest, -0613, -20240806, -2024-08-06
MOST_CHARACTERS = 40  # per token that was asked for; an answer beyond it is no text


class Trouble(Exception):
    """One try failed in a way that another may not; `after` is the pause that the server asked for, seconds."""

    def __init__(self, reason: str, after: float = 0.0):
        super().__init__(reason)
        self.after = after


def endpoint_sha256(model: str) -> str:
    """Name of an endpoint's model in keys: the same wherever it is served."""
    return digest(["openai", model])


def same_model(asked: str, answered: str) -> bool:
    """Say whether a server's name of its model is the one asked for, folders before, a :tag or date after it aside."""
    asked, answered = asked.rsplit("/", 1)[-1].lower(), answered.rsplit("/", 1)[-1].lower()
    return not answered or (answered.startswith(asked) and bool(SUFFIX.fullmatch(answered[len(asked) :])))


def parts_of(result: openai.types.chat.ChatCompletion) -> tuple[str, tuple[int, int], str]:
    """Take text, tokens read and written, and reason of the end out of a response, whose fields nobody has checked.

    Raises:
        AttributeError, TypeError, ValueError: a field is not of its type, or the text cannot be stored.
    """
    if not isinstance(result.choices or [], list):
        raise TypeError
    choice, used = result.choices[0] if result.choices else None, result.usage
    text = ((choice.message.content if choice else "") or "").strip()
    text.encode()  # a lone surrogate is valid JSON, and no text
    tokens = (used.prompt_tokens or 0, used.completion_tokens or 0) if used is not None else (0, 0)
    finish = (choice.finish_reason if choice else "") or "stop"
    if not (isinstance(finish, str) and all(type(count) is int for count in tokens)):
        raise TypeError
    return text, tokens, finish


def asked_pause(response: httpx2.Response) -> float:
    """Seconds that a server asks to wait (header Retry-After), at most a minute."""
    try:
        return min(float(response.headers.get("retry-after", 0)), 60.0)
    except ValueError:
        return 0.0


class Endpoint:
    """A model behind an OpenAI-compatible address.

    Args:
        model: its name there.
        parallel: requests in flight.
        timeout: seconds without a byte after which a request counts as lost.
        tries: how often a request is made before its chat counts as failed.
        pause: seconds before the second try, doubled before each further one, up to a minute.
    """

    def __init__(self, model: str, parallel: int = 32, timeout: float = 120, tries: int = 3, pause: float = 1.0):
        self.name, self.sha256, self.parallel = f"openai:{model}", endpoint_sha256(model), parallel
        self.model, self.timeout, self.tries = model, timeout, tries
        self.has_tokenizer: bool | None = None  # unknown until a text is counted
        self.has_system_role = True  # until the server refuses a chat with one and takes the same chat without
        key = os.environ.get("OPENAI_API_KEY") or "none"
        self.client = openai.OpenAI(api_key=key, timeout=timeout, max_retries=0)
        backoff = tenacity.wait_random_exponential(multiplier=pause, max=60)
        self.retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(tries),
            retry=tenacity.retry_if_exception_type(Trouble),
            wait=lambda state: max(backoff(state), state.outcome.exception().after),
            reraise=True,
        )

    def check(self) -> None:
        """Ask the endpoint for its models, so that a wrong address, key or name stops before the first user.

        Raises:
            UserError: it cannot be reached, refuses the key or does not have the model.
        """
        try:
            listed = self.client.models.list().data or []
            offered = [name for model in listed if isinstance(name := getattr(model, "id", None), str)]
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise UserError(f"{self.name}: the endpoint refuses the key ({error.status_code}).") from None
        except openai.APIStatusError:
            return  # a server that lists no models may still answer chats
        except openai.APITimeoutError:
            raise UserError(f"{self.name}: the endpoint did not answer within {self.timeout:g} s.") from None
        except openai.APIConnectionError:
            raise UserError(f"{self.name}: the endpoint in OPENAI_BASE_URL cannot be reached.") from None
        except (openai.APIError, ValueError, AttributeError, TypeError):
            return
        if offered and not any(same_model(self.model, name) for name in offered):
            names = ", ".join(offered[:5])
            raise UserError(
                f'{self.name}: the endpoint has no "{self.model}"{did_you_mean(self.model, offered)}; it has {names}.'
            )

    def once(self, messages: Messages, sampling: Sampling) -> Answer | Failure:
        """Ask once.

        Raises:
            Trouble: another try may do better.
            UserError: no chat will be answered.
        """
        start = time.perf_counter()
        if not self.has_system_role and messages[0]["role"] == "system":
            messages = folded(messages)
        try:
            result = self.client.chat.completions.create(model=self.model, messages=messages, **sampling)
        except openai.APITimeoutError:
            raise Trouble("time-out") from None
        except openai.RateLimitError as error:
            raise Trouble("rate-limit refusal", asked_pause(error.response)) from None
        except openai.InternalServerError as error:
            raise Trouble(f"{error.status_code} error", asked_pause(error.response)) from None
        except openai.NotFoundError:
            raise UserError(f'{self.name}: the endpoint has no model "{self.model}" (404).') from None
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise UserError(f"{self.name}: the endpoint refuses the key ({error.status_code}).") from None
        except openai.BadRequestError:
            if messages[0]["role"] != "system":
                return Failure("400 refusal", final=True)
            answer = self.once(folded(messages), sampling)
            self.has_system_role = isinstance(answer, Failure)
            return answer
        except openai.APIStatusError as error:
            return Failure(f"{error.status_code} refusal", final=True)
        except openai.APIConnectionError:
            raise Trouble("cut connection") from None
        except (openai.APIResponseValidationError, json.JSONDecodeError):
            raise Trouble("invalid-JSON answer") from None
        except httpx2.HTTPError:
            raise Trouble("cut connection") from None
        return self.checked(result, sampling, round(time.perf_counter() - start, 3))

    def checked(self, result: object, sampling: Sampling, seconds: float) -> Answer:
        """Take the answer out of a response.

        Raises:
            Trouble: it is not what was asked for.
        """
        if not isinstance(result, openai.types.chat.ChatCompletion):
            raise Trouble("invalid-JSON answer")
        if not same_model(self.model, str(result.model or "")):
            raise Trouble("other-model answer")
        try:
            text, tokens, finish = parts_of(result)
        except (AttributeError, TypeError, ValueError):
            raise Trouble("invalid-JSON answer") from None
        if not text:
            raise Trouble("empty answer")
        if len(text) > MOST_CHARACTERS * sampling["max_tokens"]:
            raise Trouble("oversized answer")
        return Answer(text, *tokens, seconds, finish)

    def answer(self, messages: Messages, sampling: Sampling) -> Answer | Failure:
        """Answer one chat, with further tries where they may help."""
        try:
            return self.retrying(self.once, messages, sampling)
        except Trouble as trouble:
            return Failure(str(trouble), self.tries)

    def answers(self, chats: Sequence[Messages], sampling: Sampling) -> Iterator[tuple[int, Answer | Failure]]:
        """Yield (index of the chat, answer or failure) in the order in which they are finished.

        Raises:
            UserError: the endpoint cannot be reached, refuses the key or does not have the model.
        """
        self.check()
        return in_flight(lambda chat: self.answer(chat, sampling), chats, self.parallel)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count tokens by the server's /tokenize (vLLM, llama.cpp); estimate where it has none: one for every 3 bytes.

        Which of the two is decided by the first text and holds for all: a count that changes would change prompts.

        Raises:
            UserError: the server has a /tokenize, and it failed in spite of further tries.
        """
        headers = {"Authorization": f"Bearer {self.client.api_key}"}
        try:
            with httpx2.Client(headers=headers, timeout=self.timeout) as client:
                if self.has_tokenizer is None and texts:
                    self.has_tokenizer = self.retrying(self.tokens_of, client, texts[0]) is not None
                    if not self.has_tokenizer:
                        print(f"{self.name}: no /tokenize; one token is assumed for every {BYTES_PER_TOKEN} bytes.")
                if not self.has_tokenizer:
                    return [math.ceil(len(text.encode()) / BYTES_PER_TOKEN) for text in texts]
                count = partial(self.retrying, self.tokens_of, client)
                counts = dict(in_flight(count, texts, self.parallel))
        except Trouble as trouble:
            raise UserError(f"{self.name}: /tokenize failed after {self.tries} tries ({trouble}).") from None
        return [counts[index] for index in range(len(texts))]

    def tokens_of(self, client: httpx2.Client, text: str) -> int | None:
        """Ask /tokenize once; None if the server turns out to have none.

        Raises:
            Trouble: another try may do better.
        """
        url = str(self.client.base_url).rstrip("/").removesuffix("/v1") + "/tokenize"
        body = {"model": self.model, "content": text, "prompt": text, "add_special_tokens": False}
        try:
            reply = client.post(url, json=body)
        except httpx2.TimeoutException:
            raise Trouble("time-out") from None
        except httpx2.HTTPError:
            raise Trouble("cut connection") from None
        if reply.status_code in (404, 405) and not self.has_tokenizer:
            return None
        if reply.is_error:
            raise Trouble(f"{reply.status_code} error", asked_pause(reply))
        try:
            return len([int(token) for token in reply.json()["tokens"]])
        except (ValueError, KeyError, TypeError):
            raise Trouble("invalid-JSON answer") from None

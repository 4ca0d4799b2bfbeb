"""What a killed run resumes from: one file that holds everything that an epoch changes, replaced as a whole."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from seqdistill.io import UserError, display_path, save_with
from seqdistill.training.loop import AdamW

FILE = "checkpoint.safetensors"


def changing(trained: nn.Module, optimizer: AdamW) -> dict[str, Tensor]:
    """Tensors that training changes (weights and optimizer), by name; not copies."""
    slots = {f"{index}.{name}": value for index, slot in enumerate(optimizer.state) for name, value in slot.items()}
    parts = {"weights": trained.state_dict(), "optimizer": slots}
    return {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}


def save(folder: Path, progress: dict, trained: nn.Module, optimizer: AdamW, best: dict[str, Tensor]) -> None:
    """Write a checkpoint: `progress` as JSON, the current weights and optimizer, the weights of the best epoch."""
    tensors = changing(trained, optimizer) | {f"best.{name}": value for name, value in best.items()}
    tensors = {name: value.clone() for name, value in tensors.items()}
    tensors["progress"] = torch.frombuffer(bytearray(json.dumps(progress).encode()), dtype=torch.uint8)
    save_with(lambda path: save_file(tensors, path), folder / FILE)


def load(folder: Path, trained: nn.Module, optimizer: AdamW) -> tuple[dict, dict[str, Tensor]]:
    """Restore weights and optimizer; return progress and best weights, both empty if there is no checkpoint."""
    if not (path := folder / FILE).exists():
        return {}, {}
    try:
        saved = load_file(path)
    except SafetensorError as error:
        raise UserError(f"{display_path(path)}: damaged ({error}); remove it to train this run anew.") from None
    for name, value in changing(trained, optimizer).items():
        value.copy_(saved[name])
    progress = json.loads(saved["progress"].numpy().tobytes())
    return progress, {name[5:]: value for name, value in saved.items() if name.startswith("best.")}

"""What a killed run resumes from: one file that holds everything that an epoch changes, replaced as a whole."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from seqdistill.io import announce, save_with
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
    """Restore weights and optimizer; return progress and best weights, both empty if the file is missing or damaged."""
    if not (folder / FILE).exists():
        return {}, {}
    now = changing(trained, optimizer)
    try:
        saved = load_file(folder / FILE)
        progress = json.loads(saved.pop("progress").numpy().tobytes())
        progress["history"]  # a checkpoint without it is of another kind
        best = {name[5:]: saved.pop(name) for name in [*saved] if name.startswith("best.")}
        if {name: one.shape for name, one in saved.items()} != {name: one.shape for name, one in now.items()}:
            raise ValueError("shapes")
    except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
        announce(f"run {folder.parent.name}: its checkpoint is damaged ({type(error).__name__}); it starts afresh")
        return {}, {}
    for name, value in now.items():
        value.copy_(saved[name])
    return progress, best

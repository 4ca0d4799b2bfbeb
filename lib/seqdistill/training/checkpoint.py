"""What a killed run resumes from: one file that holds everything that an epoch changes, replaced as a whole."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from seqdistill.io import announce, save_with
from seqdistill.training.loop import AdamW

FILE = "checkpoint.safetensors"


def save(folder: Path, progress: dict, trained: nn.Module, optimizer: AdamW, best: dict[str, Tensor]) -> None:
    """Write a checkpoint: logs and what else JSON holds; weights and optimizer now; the weights of the best epoch."""
    slots = {f"{index}.{name}": value for index, slot in enumerate(optimizer.state) for name, value in slot.items()}
    parts = {"weights": trained.state_dict(), "optimizer": slots, "best": best}
    tensors = {f"{part}.{name}": value.clone() for part, values in parts.items() for name, value in values.items()}
    tensors["progress"] = torch.frombuffer(bytearray(json.dumps(progress).encode()), dtype=torch.uint8)
    save_with(lambda path: save_file(tensors, path), folder / FILE)


def load(folder: Path, trained: nn.Module, optimizer: AdamW) -> tuple[dict, dict[str, Tensor]]:
    """Put weights and optimizer back to where `save` left them; return progress and the weights of the best epoch.

    Where there is no checkpoint, or a damaged one, which is reported, both are empty and nothing is put back.
    """
    if not (folder / FILE).exists():
        return {}, {}
    parts: dict[str, dict[str, Tensor]] = {"weights": {}, "optimizer": {}, "best": {}}
    try:
        with safe_open(folder / FILE, "pt") as file:
            progress = json.loads(file.get_tensor("progress").numpy().tobytes())
            for key in sorted({*file.keys()} - {"progress"}):
                part, name = key.split(".", 1)
                parts[part][name] = file.get_tensor(key)
        progress["history"]  # a checkpoint without it is of another kind
        slots = {f"{index}.{name}": value for index, slot in enumerate(optimizer.state) for name, value in slot.items()}
        for part, now in (("weights", trained.state_dict()), ("optimizer", slots)):
            shapes, expected = ({name: one.shape for name, one in values.items()} for values in (parts[part], now))
            if shapes != expected:
                raise ValueError(part)
    except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
        announce(f"run {folder.parent.name}: its checkpoint is damaged ({type(error).__name__}); it starts afresh")
        return {}, {}
    trained.load_state_dict(parts["weights"])
    for name, value in parts["optimizer"].items():
        index, slot = name.split(".")
        optimizer.state[int(index)][slot].copy_(value)
    return progress, parts["best"]

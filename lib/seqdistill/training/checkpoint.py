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
    tensors = {
        f"{part}.{name}": value.clone(memory_format=torch.contiguous_format)  # neither tied nor transposed
        for part, values in parts.items()
        for name, value in values.items()
    }
    save_with(lambda path: save_file(tensors, path, {"progress": json.dumps(progress)}), folder / FILE)


def load(folder: Path) -> tuple[dict, dict[str, Tensor]]:
    """Read progress and tensors; nothing where no checkpoint is, or a damaged one, which is reported."""
    if (folder / FILE).exists():
        try:
            with safe_open(folder / FILE, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no mapping
                return json.loads(file.metadata()["progress"]), tensors
        except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
            announce(f"run {folder.parent.name}: its checkpoint is damaged ({type(error).__name__}); it starts afresh")
    return {}, {}


def restore(tensors: dict[str, Tensor], trained: nn.Module, optimizer: AdamW) -> None:
    """Put back the weights and the optimizer's state."""
    trained.load_state_dict(select(tensors, "weights"))
    for name, value in select(tensors, "optimizer").items():
        index, slot = name.split(".")
        optimizer.state[int(index)][slot].copy_(value)


def select(tensors: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    """Tensors of one part, "weights", "optimizer" or "best", by their own names."""
    return {name.removeprefix(f"{part}."): value for name, value in tensors.items() if name.startswith(f"{part}.")}

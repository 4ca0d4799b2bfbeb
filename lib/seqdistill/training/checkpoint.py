"""What a killed run resumes from: one file that holds everything that an epoch changes, replaced as a whole."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from seqdistill.io import announce, save_with
from seqdistill.training.loop import AdamW

Tensors = dict[str, Tensor]


def state_of(model: nn.Module, teacher: nn.Module | None, optimizer: AdamW) -> Tensors:
    """Flatten everything that an epoch changes into named tensors."""
    slots = {f"{index}.{name}": value for index, slot in enumerate(optimizer.state) for name, value in slot.items()}
    parts = {"model": model.state_dict(), "teacher": teacher.state_dict() if teacher else {}, "optimizer": slots}
    return {f"{part}.{name}": value.clone() for part, values in parts.items() for name, value in values.items()}


def restore(state: Tensors, model: nn.Module, teacher: nn.Module | None, optimizer: AdamW) -> None:
    """Put back what `state_of` took."""
    model.load_state_dict(select(state, "model"))
    if teacher:
        teacher.load_state_dict(select(state, "teacher"))
    for name, value in select(state, "optimizer").items():
        index, slot = name.split(".")
        optimizer.state[int(index)][slot].copy_(value)


def select(tensors: Tensors, part: str) -> Tensors:
    """Tensors whose names begin with "part.", without it."""
    return {name.removeprefix(f"{part}."): value for name, value in tensors.items() if name.startswith(f"{part}.")}


def save(folder: Path, history: list[dict], seconds: object, state: Tensors, best: Tensors) -> None:
    """Write a checkpoint: logs of all epochs so far, time spent, `state_of` now, and weights of the best epoch."""
    tensors = {
        f"{part}.{name}": value for part, values in (("state", state), ("best", best)) for name, value in values.items()
    }
    progress = {"progress": json.dumps({"history": history, "seconds": seconds})}
    save_with(lambda path: save_file(tensors, path, progress), folder / "checkpoint.safetensors")


def load(folder: Path) -> tuple[list[dict], object, Tensors, Tensors]:
    """Read what `save` wrote: history, seconds, state, best weights; a damaged one is reported and counts as none."""
    path = folder / "checkpoint.safetensors"
    if path.exists():
        try:
            with safe_open(path, "pt") as file:
                progress = json.loads(file.metadata()["progress"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no mapping
            return progress["history"], progress["seconds"], select(tensors, "state"), select(tensors, "best")
        except (SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
            announce(f"run {folder.parent.name}: its checkpoint is damaged ({type(error).__name__}); it starts afresh")
    return [], 0.0, {}, {}

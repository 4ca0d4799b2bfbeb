"""What a killed run goes on from: everything that an epoch changes, written so that a whole copy always exists."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from seqdistill.io import UserError, announce, load_json, save_json, save_with
from seqdistill.training.epochs import AdamW


def state_of(model: nn.Module, teacher: nn.Module | None, optimizer: AdamW) -> dict[str, Tensor]:
    """Flatten everything that an epoch changes into named tensors."""
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    if teacher:
        state |= {f"teacher.{name}": value for name, value in teacher.state_dict().items()}
    for index, slots in enumerate(optimizer.state):
        state |= {f"optimizer.{index}.{name}": value for name, value in slots.items()}
    return {name: value.clone() for name, value in state.items()}


def restore(state: dict[str, Tensor], model: nn.Module, teacher: nn.Module | None, optimizer: AdamW) -> None:
    """Put back what `state_of` took."""
    parts: dict[str, dict] = {"model": {}, "teacher": {}, "optimizer": {}}
    for name, value in state.items():
        owner, rest = name.split(".", 1)
        parts[owner][rest] = value
    model.load_state_dict(parts["model"])
    if teacher:
        teacher.load_state_dict(parts["teacher"])
    for name, value in parts["optimizer"].items():
        index, slot = name.split(".")
        optimizer.state[int(index)][slot].copy_(value)


def keep(
    checkpoint: Path, history: list[dict], spent: float, state: dict[str, Tensor], best: dict[str, Tensor]
) -> None:
    """Write a checkpoint so that a kill at any moment leaves a whole one: progress.json names its files.

    Args:
        checkpoint: its folder.
        history: what every epoch so far has logged.
        spent: CPU seconds so far.
        state: see `state_of`.
        best: weights of the best epoch.
    """
    names = {"state": f"state-{len(history)}.safetensors", "best": f"best-{len(history)}.safetensors"}
    for name, tensors in (("state", state), ("best", best)):
        save_with(lambda path, tensors=tensors: save_file(tensors, path), checkpoint / names[name])
    save_json({"history": history, "cpu_seconds": spent, **names}, checkpoint / "progress.json")
    for old in checkpoint.glob("*.safetensors"):
        if old.name not in names.values():
            old.unlink(missing_ok=True)


def kept(checkpoint: Path) -> tuple[list[dict], float, dict[str, Tensor], dict[str, Tensor]]:
    """Read what `keep` wrote: history, CPU seconds, state, best weights.

    A damaged checkpoint is reported and counts as none.
    """
    if not (checkpoint / "progress.json").exists():
        return [], 0.0, {}, {}
    try:
        progress = load_json(checkpoint / "progress.json")
        state, best = (load_file(checkpoint / progress[name]) for name in ("state", "best"))
    except (UserError, KeyError, OSError, SafetensorError) as error:
        announce(f"run {checkpoint.parent.name}: its checkpoint is damaged ({type(error).__name__}); it starts afresh")
        return [], 0.0, {}, {}
    return progress["history"], progress["cpu_seconds"], state, best

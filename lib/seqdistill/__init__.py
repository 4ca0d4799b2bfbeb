"""Teach sequential recommenders what an LLM knows about their users, then serve them without it."""

from importlib import import_module

ENTRY_POINTS = {
    "TrainConfig": "config", "ModelConfig": "config", "Distillation": "config", "Protocol": "data.splits",
    "prepare": "training.prepare", "train": "training.train", "load_model": "training.train",
    "recommend": "training.prepare",
}  # fmt: skip


def __getattr__(name: str) -> object:
    """Import a public entry point when it is first used (PEP 562), so that `import seqdistill` stays fast."""
    if name not in ENTRY_POINTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{ENTRY_POINTS[name]}"), name)


def __dir__() -> list[str]:
    return [*ENTRY_POINTS]

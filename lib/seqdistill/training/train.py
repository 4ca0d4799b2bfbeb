"""One run: two phases, the best weights by validation NDCG@10, the test split scored once at the end."""

import hashlib
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from seqdistill.config import TrainConfig, parse, to_dict
from seqdistill.data.sequences import Cases, Ragged, cases, latest, padded, ragged
from seqdistill.evaluation.ranking import RANK_COLUMN, block_size, metrics, model_score, rank, recommend
from seqdistill.io import (
    UserError,
    announce,
    content_digest,
    digest,
    display_path,
    load_json,
    load_table,
    save_json,
    save_table,
    save_with,
    table_key,
    unusable,
)
from seqdistill.models.distillation import Teacher, hidden_state, probe_r2, user_vector
from seqdistill.models.item_text import with_text
from seqdistill.models.transformer import SequentialRecommender
from seqdistill.training.checkpoint import keep, kept, restore, state_of
from seqdistill.training.epochs import AdamW, epoch, training_rows

ENGINE_VERSION = 1  # part of every run's key: raised by hand when the same config and data give other numbers
QUIET = 20.0  # seconds between lines of progress


@dataclass(frozen=True)
class TrainingData:
    """What every run of a data set shares.

    teacher: [U, r], or [U, P, r] for several profiles a user, NaN where there is none; or None.
    start: item vectors [V, d] that students start from; None draws them.
    texts: vectors of the items' texts [V, e], which a student may read (`TrainConfig.item_text`); or None.
    key: digest of the events that it was made from.
    """

    items: int
    train: Ragged
    valid: Cases
    test: Cases
    key: str
    teacher: Tensor | None = None
    start: Tensor | None = None
    texts: Tensor | None = None

    @cached_property
    def digests(self) -> dict[str, str]:
        """SHA-256 of the shape and values of each tensor that is there."""
        tensors = {"teacher": self.teacher, "start": self.start, "texts": self.texts}
        return {
            name: digest([list(tensor.shape), hashlib.sha256(tensor.contiguous().numpy()).hexdigest()])
            for name, tensor in tensors.items()
            if tensor is not None
        }


def training_data(events: pd.DataFrame, items: int, teacher: Tensor | None = None) -> TrainingData:
    """Prepare training sequences and cases from the event table.

    Args:
        events: columns user, item, time, split; sorted by user and time.
        items: catalogue size V.
        teacher: standardised teacher vectors, see `TrainingData`.
    """
    train = ragged(events[events["split"] == "train"])
    key = digest([items, content_digest(events[["user", "item", "time", "split"]])])
    return TrainingData(items, train, cases(events, "valid"), cases(events, "test"), key, teacher)


def load_teacher(path: Path, key: str) -> Tensor:
    """Read teacher vectors that 03 left, if they were made from the events that `key` stands for.

    Raises:
        UserError: they are missing or damaged, or were made from other events.
    """
    if not path.exists():
        raise UserError(f"{display_path(path)}: no such file; run the notebook that writes it first.")
    try:
        with safe_open(path, "pt") as tensors:
            made, teacher = tensors.metadata(), tensors.get_tensor("teacher")
    except SafetensorError as error:
        raise unusable(path, f"damaged ({str(error)[:80]})") from None
    if made["events"] != key:
        raise UserError(
            f"{display_path(path)}: stale, made from other events; run 02-profiles and 03-embeddings again."
        )
    return teacher


def load_training_data(artifacts: Path) -> TrainingData:
    """Read the problem that notebooks 01 and 03 left: events.parquet, items.parquet, teacher.safetensors.

    Raises:
        UserError: one is missing, or the teacher was made from other events.
    """
    key = table_key(artifacts / "events.parquet")
    events, items = (load_table(artifacts / f"{name}.parquet", key) for name in ("events", "items"))
    return training_data(events, len(items), load_teacher(artifacts / "teacher.safetensors", key))


def run_key(config: TrainConfig, given: TrainingData) -> str:
    """Name of a run: digest of its config, of the data that it sees, and of `ENGINE_VERSION`."""
    reads = {"start"} | ({"teacher"} if config.distillation else set()) | ({"texts"} if config.item_text else set())
    seen = {name: value for name, value in given.digests.items() if name in reads}
    return digest([ENGINE_VERSION, to_dict(config), given.key, seen])[:16]


def train(config: TrainConfig, given: TrainingData, folder: Path, progress: Callable[[str], None] = announce) -> dict:
    """Train, resume or simply read one run; a second process that wants the same run waits for the first.

    Args:
        config: what to train.
        given: data and teacher.
        folder: parent of the run's folder, which `run_key` names.
        progress: takes a line now and then: loss, validation metric, speed, time left.

    Returns:
        The run's metrics.json: per-epoch history, chosen epoch, validation and test metrics.
    """
    home = folder / run_key(config, given)
    home.mkdir(parents=True, exist_ok=True)
    machine = PartialState(cpu=not torch.cuda.is_available())
    with FileLock(home / "lock") if machine.is_main_process else nullcontext():
        machine.wait_for_everyone()
        if not (home / "metrics.json").exists():
            fit(config, given, home, progress)
        machine.wait_for_everyone()
    return load_json(home / "metrics.json")


def stale(history: list[dict]) -> int:
    """Count the epochs since the best validation NDCG@10."""
    return len(history) - 1 - int(np.argmax([log["valid_ndcg@10"] for log in history])) if history else 0


def taught(history: list[dict], config: TrainConfig) -> bool:
    """Say whether the next epoch belongs to phase 1: its share of the epochs or its patience is not used up."""
    setting = config.distillation
    if not setting or any("loss_distil" not in log for log in history):
        return False
    return len(history) < round(config.epochs * setting.phase1_fraction) and not 0 < setting.patience <= stale(history)


def finished(history: list[dict], config: TrainConfig) -> bool:
    """Say whether a run is over: all its epochs, or `patience` of phase 2 without a better validation NDCG@10."""
    alone = sum("loss_distil" not in log for log in history)
    return len(history) == config.epochs or 0 < config.patience <= min(stale(history), alone)


def fresh(
    config: TrainConfig, given: TrainingData
) -> tuple[SequentialRecommender, Teacher | None, AdamW, PartialState]:
    """Set up what a run trains, on the device that there is: student, teacher, optimizer, and the machine.

    Raises:
        UserError: the config asks for a teacher or texts, and the problem has none.
    """
    if (config.distillation and given.teacher is None) or (config.item_text and given.texts is None):
        raise UserError("train: the run wants a teacher or item texts, and its problem has none.")
    torch.manual_seed(config.seed)
    machine = PartialState(cpu=not torch.cuda.is_available())
    model, setting = SequentialRecommender(given.items, config.model), config.distillation
    if given.start is not None:
        model.item.weight.data[1 : given.items + 1] = given.start
    if config.item_text:
        model = with_text(model, config.item_text, given.texts, np.unique(given.train.items))
    model = model.to(machine.device)
    teacher = Teacher(given.teacher, config.model.dim, setting, config.seed).to(machine.device) if setting else None
    trained = [*model.parameters(), *(teacher.parameters() if teacher else ())]
    optimizer = AdamW([weight for weight in trained if weight.requires_grad], config.lr, config.weight_decay)
    if config.compile:
        model.compile(dynamic=True)
    return model, teacher, optimizer, machine


def fit(config: TrainConfig, given: TrainingData, home: Path, progress: Callable[[str], None]) -> None:
    """Train one run in its folder, from its last whole checkpoint if there is one."""
    model, teacher, optimizer, machine = fresh(config, given)
    history, before, state, best = kept(home / "checkpoint")
    if history:
        restore(state, model, teacher, optimizer)
    rows, size = training_rows(given.train, config), block_size(given.items)
    cpu, began, said, first = time.process_time() - before, time.monotonic(), time.monotonic(), len(history)
    while not finished(history, config):
        log = epoch(rows, model, teacher if taught(history, config) else None, optimizer, config, len(history), machine)
        model.eval()
        if config.distillation and config.distillation.probe:
            log["probe_r2"] = probe(model, given, config.distillation.block)
        log["valid_ndcg@10"] = metrics(rank(given.valid, model_score(model), size)[RANK_COLUMN[config.validate_on]])[
            "ndcg@10"
        ]
        history.append(log)
        if stale(history) == 0:
            best = model.export_state_dict()
        if machine.is_main_process:
            keep(home / "checkpoint", history, time.process_time() - cpu, state_of(model, teacher, optimizer), best)
        if time.monotonic() - said > QUIET:
            said = time.monotonic()
            progress(f"run {home.name}: " + line(history, config, len(rows), (said - began) / (len(history) - first)))
    model = SequentialRecommender(given.items, config.model).to(machine.device).eval()
    model.load_state_dict(best)
    ranks = rank(given.test, model_score(model), size)
    if not machine.is_main_process:
        return
    curve = [log["valid_ndcg@10"] for log in history]
    result = {
        "config": to_dict(config),
        "history": history,
        "best_epoch": int(np.argmax(curve)) + 1,
        "valid_ndcg@10": max(curve),
        "test": {seen: metrics(ranks[column]) for seen, column in RANK_COLUMN.items()},
        "coverage@10": len(np.unique(recommend(given.test.histories, model_score(model), size=size))) / given.items,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    save_json(to_dict(config), home / "config.json")
    save_table(ranks, home / "ranks.parquet")
    save_with(lambda path: save_file(best, path), home / "model.safetensors")
    save_json({"cpu_seconds": time.process_time() - cpu}, home / "cost.json")
    save_json(result, home / "metrics.json")
    progress(f"run {home.name}: validation NDCG@10 {max(curve):.4f}, {time.process_time() - cpu:.0f} CPU s")
    shutil.rmtree(home / "checkpoint", ignore_errors=True)


def line(history: list[dict], config: TrainConfig, rows: int, seconds: float) -> str:
    """Say where a run stands, `seconds` being what an epoch took."""
    log, left = history[-1], (config.epochs - len(history)) * seconds / 60
    return (
        f"epoch {len(history)} of {config.epochs}, loss {log['loss_model']:.3f}, validation NDCG@10 "
        f"{log['valid_ndcg@10']:.4f}, {rows / seconds:.0f} sequences/s, at most {left:.0f} min left"
    )


def load_model(home: Path, items: int) -> SequentialRecommender:
    """Load the finished student of a run's folder, ready to score.

    Raises:
        UserError: the run has not finished.
    """
    model = SequentialRecommender(
        items, parse(TrainConfig, load_json(home / "metrics.json")["config"], display_path(home)).model
    )
    model.load_state_dict(load_file(home / "model.safetensors"))
    return model.eval()


@torch.inference_mode()
def probe(model: SequentialRecommender, given: TrainingData, block: int | str = "last") -> float:
    """Linear-probe R² of the teacher from H_k, the mean over each user's last `length` training events."""
    vectors = given.teacher if given.teacher.dim() == 2 else given.teacher.nanmean(1)  # [U, r]
    owners, found = np.flatnonzero(~vectors.isnan().any(1).numpy()[given.train.users]), []
    for chosen in np.array_split(owners, max(1, len(owners) // 64)):
        ids = padded(latest(given.train, chosen, model.config.length), np.arange(len(chosen)))
        found.append(user_vector(hidden_state(model(ids.to(model.position.weight.device))[1], block).cpu(), ids > 0))
    return probe_r2(torch.cat(found), vectors[given.train.users[owners]])

"""One run: two phases, the best weights by validation NDCG@10, the test split scored once at the end."""

import hashlib
import math
import shutil
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from filelock import FileLock
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from seqdistill import io
from seqdistill.config import TrainConfig, parse, settings, title_of, to_dict
from seqdistill.data.sequences import Cases, Ragged, cases, latest, padded, ragged
from seqdistill.embeddings.reducers import checked_teacher, made_from
from seqdistill.evaluation.ranking import RANK_COLUMN, block_size, metrics, model_score, rank, recommend, save_ranks
from seqdistill.io import UserError, announce, digest, display_path
from seqdistill.models.distillation import Teacher, hidden_state, probe_r2, user_vector
from seqdistill.models.item_text import with_text
from seqdistill.models.transformer import SequentialRecommender, student
from seqdistill.training import checkpoint
from seqdistill.training.loop import AdamW, epoch, epochs_since_best, finished, in_phase_1, training_rows

ENGINE_VERSION = 2  # part of every run's key: raised by hand when the same config and data give other numbers
QUIET = 20.0  # seconds between lines of progress


@dataclass(frozen=True)
class TrainingData:
    """What every run of a data set shares.

    items: catalogue size V. key: digest of the events. teacher: [U, r], NaN where a user has none. start: item vectors
    [V, d] that students start from. texts: vectors of the items' texts, [V, e]. item_ids: the data set's own, [V].
    teacher_key: replaces the teacher's digest, for vectors whose last bits differ between processors.
    """

    items: int
    train: Ragged
    valid: Cases
    test: Cases
    key: str
    teacher: Tensor | None = None
    start: Tensor | None = None
    texts: Tensor | None = None
    item_ids: list | None = None
    teacher_key: str = ""

    def __post_init__(self) -> None:
        """Take the teacher from torch, numpy or pandas; UserError if its shape, values or scale are invalid."""
        if self.teacher is not None:
            users = int(self.train.users.max(initial=-1)) + 1
            object.__setattr__(self, "teacher", checked_teacher(self.teacher, users))

    @cached_property
    def digests(self) -> dict[str, str]:
        """SHA-256 of the shape and values of each tensor present."""
        tensors = {"teacher": self.teacher, "start": self.start, "texts": self.texts}
        return {
            name: digest([list(tensor.shape), hashlib.sha256(tensor.contiguous().numpy()).hexdigest()])
            for name, tensor in tensors.items()
            if tensor is not None
        } | ({"teacher": self.teacher_key} if self.teacher_key else {})


def training_data(events: pd.DataFrame, items: int, teacher: Tensor | None = None) -> TrainingData:
    """Make training sequences and cases from events (user, item, time, split; sorted by user and time) of V items."""
    if (most := events["item"].max()) > items:
        raise UserError(f"training_data: item {most} is beyond the catalogue of {items} items.")
    train = ragged(events[events["split"] == "train"])
    key = digest([items, io.content_digest(events[["user", "item", "time", "split"]])])
    return TrainingData(items, train, cases(events, "valid"), cases(events, "test"), key, teacher)


def load_teacher(path: Path, key: str) -> Tensor:
    """Read teacher vectors that 03 wrote; UserError if they were made from other events than `key` stands for."""
    if made_from(path)["events"] != key:
        raise UserError(f"{display_path(path)}: stale, made from other events; run chapters 02 and 03 again.")
    return load_file(path)["teacher"]


def with_teacher(data: TrainingData, teacher: Tensor, name: str = "") -> TrainingData:
    """Replace the teacher; run keys are made from its `name`, else from a digest of the vectors."""
    return replace(data, teacher=teacher, teacher_key=name)


def taught_by(data: TrainingData, path: Path, key: str) -> TrainingData:
    """Replace the teacher by one that 03 wrote, with its name if it has one; see `load_teacher`."""
    return with_teacher(data, load_teacher(path, key), made_from(path).get("name", ""))


def load_training_data(artifacts: Path) -> TrainingData:
    """Read what 01 and 03 wrote: events.parquet, items.parquet, teacher.safetensors."""
    key = io.table_key(artifacts / "events.parquet")
    events, items = (io.load_table(artifacts / f"{name}.parquet", key) for name in ("events", "items"))
    return taught_by(training_data(events, len(items)), artifacts / "teacher.safetensors", key)


def run_key(config: TrainConfig, data: TrainingData) -> str:
    """Name of a run: digest of its settings, of the data that it reads, and of `ENGINE_VERSION`."""
    reads = {"start": True, "teacher": config.distillation, "texts": config.item_text}
    tensors = {name: value for name, value in data.digests.items() if reads[name]}
    named = [digest(data.item_ids)] if data.item_ids else []  # the data's key covers item numbers only
    return digest([ENGINE_VERSION, settings(config), data.key, tensors, *named])[:16]


def train(config: TrainConfig, data: TrainingData, runs: Path | str) -> dict:
    """Train, resume or simply read one run; a second process that wants the same run waits for the first.

    The run's folder in `runs` is named by `run_key`. Returns its metrics.json (per-epoch history, chosen epoch,
    validation and test metrics) and its `folder`.
    """
    folder = Path(runs) / run_key(config, data)
    machine = PartialState(cpu=not torch.cuda.is_available())
    with FileLock(folder / "lock") if machine.is_main_process else nullcontext():
        machine.wait_for_everyone()
        if not (folder / "metrics.json").exists():
            fit(config, data, folder)
        machine.wait_for_everyone()
    return io.load_json(folder / "metrics.json") | {"folder": folder}


def fresh(config: TrainConfig, data: TrainingData) -> tuple[SequentialRecommender, Teacher | None, AdamW, PartialState]:
    """Initialise what a run trains, on the device available: student, teacher, optimizer; and the machine's state."""
    if (config.distillation and data.teacher is None) or (config.item_text and data.texts is None):
        raise UserError("train: the config asks for a teacher or item texts, and the data have none.")
    torch.manual_seed(config.seed)
    machine = PartialState(cpu=not torch.cuda.is_available())
    model, setting = student(data.items, config.model), config.distillation
    if data.start is not None:
        model.item.weight.data[1 : data.items + 1] = data.start
    if config.item_text:
        model = with_text(model, config.item_text, data.texts, np.unique(data.train.items))
    model = model.to(machine.device)
    teacher = Teacher(data.teacher, config.model.dim, setting, config.seed).to(machine.device) if setting else None
    trained = [*model.parameters(), *(teacher.parameters() if teacher else ())]
    optimizer = AdamW([weight for weight in trained if weight.requires_grad], config.lr)
    if config.compile:
        model.compile(dynamic=True)
    return model, teacher, optimizer, machine


def fit(config: TrainConfig, data: TrainingData, folder: Path) -> None:
    """Train one run in its folder, from its last checkpoint if there is one."""
    model, teacher, optimizer, machine = fresh(config, data)
    title = f"{title_of(config)} ({folder.name})"
    trained = nn.ModuleList([model, teacher] if teacher else [model])
    saved, best = checkpoint.load(folder / "checkpoint", trained, optimizer)
    history = saved.get("history", [])
    rows, size = training_rows(data.train, config), block_size(data.items)
    cpu, reported = time.process_time() - saved.get("seconds", 0), time.monotonic()
    while not finished(history, config):
        began = time.monotonic()
        active = teacher if in_phase_1(history, config) else None
        log = epoch(rows, model, active, optimizer, config, len(history), machine)
        if not math.isfinite(log["loss_model"]) or not all(weight.isfinite().all() for weight in trained.parameters()):
            raise UserError(
                f"{title}: diverged in epoch {len(history) + 1} of {config.epochs}, the loss is "
                f"{log['loss_model']:.3g}; set a lower lr than {config.lr:g}."
            )
        model.eval()
        if config.distillation and config.distillation.probe:
            log["probe_r2"] = probe(model, data, config.distillation.block)
        ranks = rank(data.valid, model_score(model), size)[RANK_COLUMN[config.validate_on]]
        history.append(log | {"valid_ndcg@10": metrics(ranks)["ndcg@10"]})
        if epochs_since_best(history) == 0:
            best = model.export_state_dict()
        if machine.is_main_process:
            saved = {"history": history, "seconds": time.process_time() - cpu}
            checkpoint.save(folder / "checkpoint", saved, trained, optimizer, best)
        if (now := time.monotonic()) - reported > QUIET:
            seconds, reported = now - began, now
            announce(
                f"{title}: epoch {len(history)} of {config.epochs}, loss {log['loss_model']:.3f}, validation "
                f"NDCG@10 {history[-1]['valid_ndcg@10']:.4f}, {len(rows) / seconds:.0f} sequences/s, at most "
                f"{(config.epochs - len(history)) * seconds / 60:.0f} min left"
            )
    if not machine.is_main_process:
        return
    model = plain_model(config, best).to(machine.device)
    curve = [log["valid_ndcg@10"] for log in history]
    result = {"history": history, "best_epoch": int(np.argmax(curve)) + 1, "valid_ndcg@10": max(curve)}
    recommended = recommend(data.test.histories, model_score(model), size=size)  # [cases, 10]; 0: no item is left
    result["coverage@10"] = np.count_nonzero(np.unique(recommended)) / data.items
    if data.item_ids:
        io.save_json(data.item_ids, folder / "items.json")
    result["parameters"] = sum(weight.numel() for weight in model.parameters())
    finish(folder, config, rank(data.test, model_score(model), size), best, time.process_time() - cpu, result)
    seconds = time.process_time() - cpu
    announce(f"{title}: validation NDCG@10 {max(curve):.4f}, {seconds:.0f} CPU s")


def finish(
    folder: Path, config: object, ranks: pd.DataFrame, weights: dict[str, Tensor], seconds: float, result: dict
) -> None:
    """Write a finished run, metrics.json last, and remove its checkpoint."""
    test = {seen: metrics(ranks[column]) for seen, column in RANK_COLUMN.items()}
    save_ranks(ranks, folder / "ranks.parquet")
    io.save_with(lambda path: save_file(weights, path), folder / "model.safetensors")
    io.save_json(settings(config), folder / "config.json")  # without defaults: options may be removed later
    io.save_json({"cpu_seconds": seconds}, folder / "cost.json")
    io.save_json(result | {"config": to_dict(config), "test": test}, folder / "metrics.json")
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)


def plain_model(config: TrainConfig, weights: dict[str, Tensor]) -> SequentialRecommender:
    """Build the plain student from saved weights, ready to score; the number of items follows from them."""
    model = student(len(weights["item.weight"]) - 1 - (not config.model.causal), config.model).eval()
    model.load_state_dict(weights)
    return model


def load_model(folder: Path | str) -> SequentialRecommender:
    """Load the student of a finished run's folder, with `item_ids` where its data had them."""
    folder = Path(folder)
    if not (folder / "metrics.json").exists():
        raise UserError(f"load_model: {folder} holds no finished run; `train` returns its folder.")
    if not (path := folder / "model.safetensors").exists():
        raise UserError(f"{display_path(folder)}: recorded without its weights; remove the folder to train it anew.")
    config = parse(TrainConfig, io.load_json(folder / "config.json"), display_path(folder))
    model = plain_model(config, load_file(path))
    model.item_ids = io.load_json(folder / "items.json") if (folder / "items.json").exists() else None
    return model


@torch.inference_mode()
def probe(model: SequentialRecommender, data: TrainingData, block: int | str = "last") -> float:
    """Linear-probe R² of the teacher from H_k, the mean over each user's last `length` training events."""
    vectors = data.teacher  # [U, r]
    owners, parts = np.flatnonzero(~vectors.isnan().any(1).numpy()[data.train.users]), []
    for chosen in np.array_split(owners, max(1, len(owners) // 64)):
        ids = padded(latest(data.train, chosen, model.config.length), np.arange(len(chosen)))  # [B, T]
        h = hidden_state(model(ids.to(model.position.weight.device))[1], block)
        parts.append(user_vector(h.cpu(), ids > 0))
    return probe_r2(torch.cat(parts), vectors[data.train.users[owners]])


def probe_run(folder: Path, data: TrainingData) -> float:
    """`probe` of a finished run's student; NaN where the run was recorded without its weights."""
    return probe(load_model(folder), data) if (folder / "model.safetensors").exists() else math.nan

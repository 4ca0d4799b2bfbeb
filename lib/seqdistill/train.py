"""One run: two phases, the best weights by validation NDCG@10, the test split scored once at the end."""

import hashlib
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from seqdistill.artifacts import (
    BookError,
    code_digest,
    content_digest,
    digest,
    load_json,
    load_table,
    save_json,
    save_table,
    save_with,
    say,
    shown,
    table_key,
)
from seqdistill.config import Run, parse, plain
from seqdistill.distill import Teacher, combine, probe_r2, user_vector
from seqdistill.evaluate import metrics, model_score, rank
from seqdistill.losses import full_softmax
from seqdistill.models import SASRec
from seqdistill.sequences import Cases, Ragged, batches, cases, latest, padded, ragged, windows

ENGINE = ("sequences", "models", "losses", "distill", "evaluate", "train")


@dataclass(frozen=True)
class Problem:
    """What every run of a data set shares.

    `teacher` is [U, r] with rows of NaN for users without a profile, or None; the keys are digests of the content.
    """

    items: int
    train: Ragged
    valid: Cases
    test: Cases
    teacher: Tensor | None
    events_key: str
    teacher_key: str


def problem(events: pd.DataFrame, items: int, teacher: Tensor | None = None) -> Problem:
    """Prepare training sequences and cases from the event table.

    Args:
        events: columns user, item, time, split; sorted by user and time.
        items: catalogue size V.
        teacher: standardised teacher vectors, [U, r].
    """
    train = ragged(events[events["split"] == "train"])
    events_key = digest([items, content_digest(events[["user", "item", "time", "split"]])])
    teacher_key = "" if teacher is None else hashlib.sha256(teacher.numpy().tobytes()).hexdigest()
    return Problem(items, train, cases(events, "valid"), cases(events, "test"), teacher, events_key, teacher_key)


def load_problem(artifacts: Path) -> Problem:
    """Read the problem that notebooks 01 and 03 left: events.parquet, items.parquet, teacher.safetensors.

    Raises:
        BookError: one is missing, or the teacher was made from other events.
    """
    key, path = table_key(artifacts / "events.parquet"), artifacts / "teacher.safetensors"
    events, items = (load_table(artifacts / f"{name}.parquet", key) for name in ("events", "items"))
    if not path.exists():
        raise BookError(f"{shown(path)}: no such file; run the notebook that writes it first.")
    with safe_open(path, "pt") as tensors:
        made, teacher = tensors.metadata(), tensors.get_tensor("teacher")
    if made["events"] != key:
        raise BookError(f"{shown(path)}: stale, made from other events; run 02-profiles and 03-embeddings again.")
    return problem(events, len(items), teacher)


def run_key(config: Run, given: Problem) -> str:
    """Name of a run: digest of its config, its inputs and the code that it passes through."""
    teacher = given.teacher_key if config.distillation else ""
    return digest([plain(config), given.events_key, teacher, code_digest(*ENGINE)])[:16]


def state_of(model: SASRec, teacher: Teacher | None, optimizer: torch.optim.AdamW) -> dict[str, Tensor]:
    """Flatten everything that an epoch changes into named tensors."""
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    if teacher:
        state |= {f"teacher.{name}": value for name, value in teacher.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{index}.{name}": value for name, value in slots.items()}
    return {name: value.clone() for name, value in state.items()}


def restore(state: dict[str, Tensor], model: SASRec, teacher: Teacher | None, optimizer: torch.optim.AdamW) -> None:
    """Put back what `state_of` took."""
    parts: dict[str, dict] = {"model": {}, "teacher": {}, "optimizer": {}}
    for name, value in state.items():
        owner, rest = name.split(".", 1)
        parts[owner][rest] = value
    model.load_state_dict(parts["model"])
    if teacher:
        teacher.load_state_dict(parts["teacher"])
    slots: dict[int, dict] = {}
    for name, value in parts["optimizer"].items():
        index, slot = name.split(".")
        slots.setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})


def epoch(
    rows: Ragged, model: SASRec, teacher: Teacher | None, optimizer: torch.optim.AdamW, config: Run, number: int
) -> dict[str, float]:
    """Train for one epoch; all that is random follows from (seed, epoch), so a resumed run equals an unbroken one.

    Returns:
        Means over batches: loss_model and, in phase 1, loss_distil and target_variance.
    """
    torch.manual_seed(config.seed * 100_003 + number)
    model.train()
    sums: dict[str, list[float]] = {"loss_model": [], "loss_distil": [], "target_variance": []}
    for users, inputs, targets in batches(rows, config.batch, np.random.default_rng([config.seed, number])):
        h, states = model(inputs)
        loss = full_softmax(h, model.catalogue(), targets)
        sums["loss_model"].append(loss.item())
        if teacher:
            distil, variance = teacher(states, inputs > 0, users)
            sums["loss_distil"].append(distil.item())
            sums["target_variance"].append(variance.item())
            loss = combine(loss, distil, config.distillation.alpha, config.distillation.beta)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], config.clip)
        optimizer.step()
    return {name: float(np.mean(values)) for name, values in sums.items() if values}


def train(config: Run, given: Problem, folder: Path) -> dict:
    """Train, resume or simply read one run; a second process that wants the same run waits for the first.

    Args:
        config: what to train.
        given: data and teacher.
        folder: parent of the run's folder, which `run_key` names.

    Returns:
        The run's metrics.json: per-epoch history, chosen epoch, validation and test metrics.
    """
    home = folder / run_key(config, given)
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / "lock"):
        if not (home / "metrics.json").exists():
            fit(config, given, home)
    return load_json(home / "metrics.json")


def fit(config: Run, given: Problem, home: Path) -> None:
    """Train one run in its folder, from its last whole checkpoint if there is one."""
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    model = SASRec(given.items, config.student)
    setting = config.distillation
    teacher = Teacher(given.teacher, config.student.dim, setting, config.seed) if setting else None
    trained = [*model.parameters(), *(teacher.parameters() if teacher else ())]
    optimizer = torch.optim.AdamW(
        [p for p in trained if p.requires_grad], lr=config.lr, weight_decay=config.weight_decay, fused=True
    )
    checkpoint = home / "checkpoint"
    history, state, best = kept(checkpoint)
    if history:
        restore(state, model, teacher, optimizer)
    save_json(plain(config), home / "config.json")
    rows = windows(given.train, config.student.length)
    switch = round(config.epochs * setting.share) if setting else 0
    spent = time.process_time()
    for number in range(len(history), config.epochs):
        log = epoch(rows, model, teacher if number < switch else None, optimizer, config, number)
        model.eval()
        log["valid_ndcg@10"] = metrics(rank(given.valid, model_score(model))["kept"])["ndcg@10"]
        if not history or log["valid_ndcg@10"] > max(past["valid_ndcg@10"] for past in history):
            best = {name: value.clone() for name, value in model.state_dict().items()}
        history.append(log)
        keep(checkpoint, history, state_of(model, teacher, optimizer), best)
    model.load_state_dict(best)
    model.eval()
    ranks = rank(given.test, model_score(model))
    curve = [log["valid_ndcg@10"] for log in history]
    result = {
        "config": plain(config),
        "history": history,
        "best_epoch": int(np.argmax(curve)) + 1,
        "valid_ndcg@10": max(curve),
        "test": {column: metrics(ranks[column]) for column in ("kept", "filtered")},
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    save_table(ranks, home / "ranks.parquet")
    save_with(lambda path: save_file(best, path), home / "model.safetensors")
    save_json({"cpu_seconds": time.process_time() - spent}, home / "cost.json")
    save_json(result, home / "metrics.json")
    say(f"run {home.name}: validation NDCG@10 {max(curve):.4f}, {time.process_time() - spent:.0f} CPU s")
    shutil.rmtree(checkpoint, ignore_errors=True)


def keep(checkpoint: Path, history: list[dict], state: dict[str, Tensor], best: dict[str, Tensor]) -> None:
    """Write a checkpoint so that a kill at any moment leaves a whole one: progress.json names its files."""
    names = {"state": f"state-{len(history)}.safetensors", "best": f"best-{len(history)}.safetensors"}
    for name, tensors in (("state", state), ("best", best)):
        save_with(lambda path, tensors=tensors: save_file(tensors, path), checkpoint / names[name])
    save_json({"history": history, **names}, checkpoint / "progress.json")
    for old in checkpoint.glob("*.safetensors"):
        if old.name not in names.values():
            old.unlink(missing_ok=True)


def kept(checkpoint: Path) -> tuple[list[dict], dict[str, Tensor], dict[str, Tensor]]:
    """Read what `keep` wrote: history, state, best weights; a damaged checkpoint is reported and counts as none."""
    if not (checkpoint / "progress.json").exists():
        return [], {}, {}
    try:
        progress = load_json(checkpoint / "progress.json")
        state, best = (load_file(checkpoint / progress[name]) for name in ("state", "best"))
    except (BookError, KeyError, OSError, SafetensorError) as error:
        say(f"run {checkpoint.parent.name}: its checkpoint is damaged ({type(error).__name__}); it starts afresh")
        return [], {}, {}
    return progress["history"], state, best


def student(home: Path, items: int) -> SASRec:
    """Load the finished student of a run's folder, ready to score.

    Raises:
        BookError: the run has not finished.
    """
    model = SASRec(items, parse(Run, load_json(home / "metrics.json")["config"], shown(home)).student)
    model.load_state_dict(load_file(home / "model.safetensors"))
    return model.eval()


@torch.inference_mode()
def probe(model: SASRec, given: Problem, block: int = 0) -> float:
    """Linear-probe R² of the teacher from H_k, the mean over each user's last `length` training events."""
    owners = np.flatnonzero(~given.teacher.isnan().any(1).numpy()[given.train.users])
    found = []
    for chosen in np.array_split(owners, max(1, len(owners) // 64)):
        ids = padded(latest(given.train, chosen, model.config.length), np.arange(len(chosen)))
        found.append(user_vector(model(ids)[1][block - 1], ids > 0))
    return probe_r2(torch.cat(found), given.teacher[given.train.users[owners]])

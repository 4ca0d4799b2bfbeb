"""One step, one epoch, and when phase 1 and the run end.

Under `accelerate launch` every process takes a share of each batch; gradients are summed, so N train as one would.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor, nn
from torch.optim.adamw import adamw

from seqdistill.config import TrainConfig
from seqdistill.data.sequences import Batch, Ragged, batches, cloze, latest, windows
from seqdistill.models.distillation import Teacher, combine, pairing
from seqdistill.models.losses import student_loss
from seqdistill.models.transformer import SequentialRecommender


class AdamW:
    """Fused AdamW (Loshchilov & Hutter, 2019), torch's functional one, whose `lr` may be set before each step.

    The class in torch.optim imports the whole compiler: a second and 75 MB that no run needs.
    """

    def __init__(self, trained: list[nn.Parameter], lr: float, weight_decay: float = 0.01):
        self.trained, self.lr, self.weight_decay = trained, lr, weight_decay
        self.state = [
            {name: torch.zeros_like(weight, requires_grad=False) for name in ("exp_avg", "exp_avg_sq")}
            | {"step": torch.zeros((), device=weight.device)}
            for weight in trained
        ]

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient; drop the gradients, so that others can use their memory."""
        pairs = zip(self.trained, self.state, strict=True)
        used = [
            (weight, weight.grad, slot["exp_avg"], slot["exp_avg_sq"], slot["step"])
            for weight, slot in pairs
            if weight.grad is not None
        ]
        weights, gradients, means, squares, steps = map(list, zip(*used, strict=True))
        adamw(
            weights, gradients, means, squares, [], steps, fused=True, amsgrad=False, beta1=0.9, beta2=0.999,
            lr=self.lr, weight_decay=self.weight_decay, eps=1e-8, maximize=False,
        )  # fmt: skip
        for weight in weights:
            weight.grad = None


def training_rows(train: Ragged, config: TrainConfig) -> Ragged:
    """Cut training histories to what one row of the student holds; SASRec's last item is a target only."""
    length = config.model.length - (not config.model.causal)
    if config.windows == "last":
        train = latest(train, np.arange(len(train)), length + 1)
    return windows(train, length)


def examples(rows: Ragged, config: TrainConfig, number: int, mask_id: int) -> Iterator[Batch]:
    """Yield an epoch's batches, (users, inputs, targets), which depend on seed and epoch number only."""
    rng = np.random.default_rng([config.seed, number])
    if config.model.causal:
        return batches(rows, config.batch, rng)
    return cloze(rows, config.batch, rng, mask_id, config.mask_prob, config.mask_last_prob)


def rate(config: TrainConfig, done: float) -> float:
    """Learning rate after `done` epochs: linear warm-up, then constant or a cosine down to 0."""
    rising = min(1.0, done / config.warmup) if config.warmup else 1.0
    falling = (1 + math.cos(math.pi * done / config.epochs)) / 2 if config.schedule == "cosine" else 1.0
    return config.lr * rising * falling


def annealed(config: TrainConfig, number: int) -> TrainConfig:
    """The config of an epoch of phase 1, counted from 0: alpha is less in each, if it is annealed."""
    if not (setting := config.distillation) or not setting.anneal:
        return config
    left = 1 - number / round(config.epochs * setting.phase1_fraction)
    return replace(config, distillation=replace(setting, alpha=setting.alpha * left))


def step(
    batch: Batch, model: SequentialRecommender, teacher: Teacher | None, optimizer: AdamW, config: TrainConfig,
    machine: PartialState,
) -> dict[str, Tensor]:  # fmt: skip
    """Make one update from a batch, of which this process takes its share; return the losses of the whole batch.

    Nothing here reads a number back from the device: what depends on the data is computed on the host first.
    """
    users, inputs, targets = (part[machine.process_index :: machine.num_processes] for part in batch)
    places = np.flatnonzero(targets)  # of the N positions with a target
    weight = len(places) / np.count_nonzero(batch[2])
    ids, at, y = (
        torch.from_numpy(part).to(machine.device, non_blocking=True) for part in (inputs, places, targets.flat[places])
    )  # [B, T], [N], [N]
    with torch.autocast(machine.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        h, states = model(ids)  # [B, T, d]
        x = h.flatten(0, 1).index_select(0, at)  # [N, d]
        parts = [student_loss(x, model.catalogue(), y, config) * weight]
        if teacher:
            taught = int(teacher.has[batch[0]].sum())
            distil, variance = teacher(states, ids > 0, pairing(users, batch[0], teacher.has, machine.device))
            parts.append(distil * (int(teacher.has[users].sum()) / max(1, taught)))
    if machine.num_processes > 1:  # values of the whole batch, gradients of this process's share
        parts = [part + reduce(part.detach().clone(), "sum") - part.detach() for part in parts]
    log, loss = {"loss_model": parts[0].detach()}, parts[0]
    if teacher:
        parts[1] = teacher.finish(parts[1])
        log |= {"loss_distil": parts[1].detach(), "target_variance": variance} if taught else {}
        loss = combine(*parts, config.distillation.alpha, config.distillation.beta)
    loss.backward()
    if machine.num_processes > 1:
        for weight in optimizer.trained:
            if weight.grad is not None:
                weight.grad.copy_(reduce(weight.grad, "sum"))
    torch.nn.utils.clip_grad_norm_(optimizer.trained, config.clip)
    optimizer.step()
    return log


def epoch(
    rows: Ragged, model: SequentialRecommender, teacher: Teacher | None, optimizer: AdamW, config: TrainConfig,
    number: int, machine: PartialState,
) -> dict[str, float]:  # fmt: skip
    """Train for one epoch; (seed, epoch) sets all random numbers, so a resumed run equals an uninterrupted one.

    Returns means over batches: loss_model; in phase 1, over batches with a teacher, loss_distil and target_variance.
    """
    torch.manual_seed(config.seed * 100_003 + number)
    model.train()
    config = annealed(config, number) if teacher else config
    logs: dict[str, list[Tensor]] = {"loss_model": []} | ({"loss_distil": [], "target_variance": []} if teacher else {})
    steps = math.ceil(len(rows) / config.batch)
    for done, batch in enumerate(examples(rows, config, number, model.mask_id)):
        optimizer.lr = rate(config, number + done / steps)
        for name, value in step(batch, model, teacher, optimizer, config, machine).items():
            logs[name].append(value)
    return {name: float(torch.stack(values).double().mean()) if values else math.nan for name, values in logs.items()}


def epochs_since_best(history: list[dict]) -> int:
    """Count the epochs since the best validation NDCG@10."""
    return len(history) - 1 - int(np.argmax([log["valid_ndcg@10"] for log in history])) if history else 0


def in_phase_1(history: list[dict], config: TrainConfig) -> bool:
    """Whether the next epoch distils: neither phase 1's fraction of the epochs nor its patience is used up."""
    setting = config.distillation
    if not setting or any("loss_distil" not in log for log in history):
        return False
    hasty = 0 < setting.patience <= epochs_since_best(history)
    return len(history) < round(config.epochs * setting.phase1_fraction) and not hasty


def finished(history: list[dict], config: TrainConfig) -> bool:
    """Whether a run is over: all its epochs, or `patience` of phase 2 without a better validation NDCG@10."""
    phase_2 = sum("loss_distil" not in log for log in history)
    return len(history) == config.epochs or 0 < config.patience <= min(epochs_since_best(history), phase_2)

"""The teacher's share in phase 1: aggregate the student, compare it with the user's profile vector (section 3)."""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqdistill.config import Distillation
from seqdistill.io import UserError


def user_vector(h: Tensor, real: Tensor, logits: Tensor | None = None) -> Tensor:
    """Aggregate hidden states into one vector per user, H_k in Severin et al. (2026), section 3.3.

    Args:
        h: hidden states after block k, [B, T, d].
        real: True where a position holds an event, [B, T].
        logits: of the weights, [B, T]: a softmax over the real positions makes them sum to 1. None is the mean.

    Returns:
        User vectors, [B, d]. A row without a real position gives NaN; batches hold none (`sequences.stacked`).
    """
    logits = torch.zeros_like(real, dtype=h.dtype) if logits is None else logits
    weights = logits.masked_fill(~real, -torch.inf).softmax(1)
    return torch.einsum("bt,btd->bd", weights.to(h.dtype), h.masked_fill(~real[..., None], 0))


def exponential(real: Tensor, gamma: float) -> Tensor:
    """Logits that weigh recent events up: w_t ∝ exp(gamma t), t = 1..m over real positions, [B, T]."""
    return gamma * real.cumsum(1)


def last(real: Tensor) -> Tensor:
    """Logits that leave the last real position alone, [B, T]."""
    at = real.cumsum(1)
    return torch.zeros_like(at, dtype=torch.float).masked_fill(at < at[:, -1:], -torch.inf)


def hidden_state(states: list[Tensor], block: int | str) -> Tensor:
    """States after block k of `SequentialRecommender.forward`, k from 1, or "last", or "final_norm"; [B, T, d]."""
    return states[{"final_norm": -1, "last": -2}.get(block, block) if isinstance(block, str) else block - 1]


def difference(student: Tensor, targets: Tensor, own: Tensor, config: Distillation) -> Tensor:
    """Compare what the student holds with what it should hold: mean over rows, scalar.

    `rmse` is still its square here (see `Teacher.finished`). InfoNCE (van den Oord et al., 2018) asks for the own
    target among those of all users of the batch.

    Args:
        student: one row each, [n, ·].
        targets: one user each, [m, ·].
        own: which of the targets is a row's own, [n].
    """
    if config.loss == "infonce":
        logits = F.normalize(student, dim=1) @ F.normalize(targets, dim=1).T / config.temperature  # [n, m]
        return F.cross_entropy(logits, own)
    if config.loss == "cosine":
        return (1 - F.cosine_similarity(student, targets[own])).mean()
    return F.mse_loss(student, targets[own])


def combine(model: Tensor, distil: Tensor, alpha: float, beta: bool) -> Tensor:
    """Weigh the two losses: alpha · beta · L_distil + (1 - alpha) · L_model (Severin et al., equation of section 3.3).

    beta = sg(L_model / L_distil) gives both losses the same size and carries no gradient; off, it is 1. An L_distil
    below 1e-6, a target that has collapsed, is not blown up any further.
    """
    scale = (model / distil.clamp_min(1e-6)).detach() if beta else 1.0
    return alpha * scale * distil + (1 - alpha) * model


class Pairing(NamedTuple):
    """Which rows of a batch are compared with which teacher vectors; made on the host, so that a step never waits.

    rows: those whose user has a profile, [n]. users: the distinct users with a profile in the whole batch, InfoNCE's
    candidates, [m]. own: place of each row's user among them, [n].
    """

    rows: Tensor
    users: Tensor
    own: Tensor


def pairing(users: np.ndarray, everyone: np.ndarray, has: np.ndarray, device: torch.device) -> Pairing:
    """Pair the rows of a process's share of a batch with the teachers of the whole batch.

    Args:
        users: whose rows they are, [B].
        everyone: users of the whole batch, those of other processes too.
        has: True for a user with a profile, [U].
        device: where the result lies.
    """
    rows, taught = np.flatnonzero(has[users]), np.unique(everyone[has[everyone]])
    parts = (rows, taught, np.searchsorted(taught, users[rows]))
    return Pairing(*(torch.from_numpy(part).to(device, non_blocking=True) for part in parts))


class Teacher(nn.Module):
    """Profile vectors of the users, and the projection T that makes them and the student comparable.

    The student never owns this module, so the saved student is the plain one.

    Args:
        vectors: standardised teacher vectors, [U, r], or [U, P, r] for up to P profiles a user; a profile that is
            not there is NaN.
        dim: student width d.
        config: which side is projected, how states are aggregated, which control.
        seed: draws the frozen projection, the start of what is trained, and the shuffle.

    Raises:
        UserError: no user has a profile, or a single one is to be shuffled.
    """

    def __init__(self, vectors: Tensor, dim: int, config: Distillation, seed: int):
        super().__init__()
        self.config = config
        generator = torch.Generator().manual_seed(seed)
        vectors = vectors[:, None] if vectors.dim() == 2 else vectors  # [U, P, r]
        if config.several == "mean":
            vectors = vectors.nanmean(1, keepdim=True)
        there = ~vectors.isnan().any(2)  # [U, P]
        if there.any(1).sum() < 1 + config.shuffled:
            least = "two users" if config.shuffled else "one user"
            raise UserError(f"teacher: at least {least} must have a profile; {int(there.any(1).sum())} has one.")
        if config.shuffled:
            owners = there.any(1).nonzero().squeeze(1)
            others = owners[derangement(len(owners), generator)]
            vectors, there = vectors.clone(), there.clone()
            vectors[owners], there[owners] = vectors[others], there[others]
        self.has = there.any(1).numpy()
        self.register_buffer("there", there)
        self.register_buffer("vectors", vectors.nan_to_num())
        r = vectors.shape[2]
        self.project = nn.Linear(dim, r) if config.projection == "student" else nn.Linear(r, dim)
        self.attend = nn.Linear(dim, 1) if config.aggregation == "attention" else None
        self.choose = nn.Linear(r, 1) if config.several == "attention" else None
        with torch.no_grad():
            for layer in filter(None, (self.project, self.attend, self.choose)):
                layer.bias.zero_()
                layer.weight.normal_(std=1 / math.sqrt(layer.in_features), generator=generator)
            if config.projection == "teacher_frozen":
                nn.init.orthogonal_(self.project.weight, generator=generator)
        self.project.requires_grad_(config.projection != "teacher_frozen")

    def aggregated(self, states: list[Tensor], real: Tensor) -> Tensor:
        """Aggregate the states after block k into H_k, [B, d]."""
        h, how, logits = hidden_state(states, self.config.block), self.config.aggregation, None
        if how == "attention":
            logits = self.attend(h).squeeze(2)
        elif how == "exponential":
            logits = exponential(real, self.config.gamma)
        elif how == "last":
            logits = last(real)
        return user_vector(h, real, logits)

    def target(self, users: Tensor) -> Tensor:
        """Teacher vector of each of n users who have one, [n, r]; attention weighs several profiles."""
        vectors = self.vectors[users]  # [n, P, r]
        if self.choose is None:
            return vectors.squeeze(1)
        return user_vector(vectors, self.there[users], self.choose(vectors).squeeze(2))

    def forward(self, states: list[Tensor], real: Tensor, pairs: Pairing) -> tuple[Tensor, Tensor]:
        """Reconstruction loss of rows of a batch, and the variance of its targets (a T that collapses shows here).

        Args:
            states: hidden states of `SequentialRecommender.forward`, K + 1 times [B, T, d].
            real: True where a position holds an event, [B, T].
            pairs: which rows have a teacher, and whose.

        Returns:
            `difference` over the rows whose user has a profile (0 if none has), and the mean over dimensions of the
            variance of the targets of all users of the batch; both scalars.
        """
        if not len(pairs.rows):  # all that is trained gets a gradient of 0: other processes wait for it
            return sum(part.sum() * 0 for part in (states[-1], *self.parameters())), states[-1].new_zeros(())
        h, targets = self.aggregated(states, real).index_select(0, pairs.rows), self.target(pairs.users)
        student, targets = (
            (self.project(h), targets) if self.config.projection == "student" else (h, self.project(targets))
        )
        variance = targets.detach().var(0, correction=0).mean()
        return difference(student, targets, pairs.own, self.config), variance

    def finished(self, loss: Tensor) -> Tensor:
        """Take the root that RMSE wants, from the mean over the batches of all processes."""
        return (loss + 1e-12).sqrt() if self.config.loss == "rmse" else loss


def derangement(n: int, generator: torch.Generator) -> Tensor:
    """Draw a permutation of n that leaves nothing in place: a random cycle."""
    order = torch.randperm(n, generator=generator)
    moved = torch.empty_like(order)
    moved[order] = order.roll(1)
    return moved


def probe_r2(h: Tensor, vectors: Tensor, ridge: float = 1.0) -> float:
    """How much of the teacher a linear probe reads off the student: R² on every fifth user, fitted on the others.

    Args:
        h: user vectors H_k, [n, d].
        vectors: teacher vectors of the same users, [n, r].
        ridge: penalty on the standardised features.
    """
    held = torch.arange(len(h)) % 5 == 0
    mean, std = h[~held].mean(0), h[~held].std(0).clamp_min(1e-6)
    x = F.pad((h - mean) / std, (0, 1), value=1.0).double()
    gram = x[~held].T @ x[~held] + ridge * torch.eye(x.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(gram, x[~held].T @ vectors[~held].double())
    truth = vectors[held].double()
    residual = ((truth - x[held] @ weights) ** 2).sum()
    return float(1 - residual / ((truth - vectors[~held].double().mean(0)) ** 2).sum())

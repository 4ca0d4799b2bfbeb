"""The teacher's share in phase 1: aggregate the student, compare it with the user's profile vector (section 3)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqdistill.config import Distillation


def user_vector(h: Tensor, real: Tensor, gamma: float = 0.0) -> Tensor:
    """Aggregate hidden states into one vector per user, H_k in Severin et al. (2026).

    gamma = 0 is the mean; gamma > 0 weighs recent events up, w_t ∝ exp(gamma · t), t = 1..m over real positions.

    Args:
        h: hidden states after block k, [B, T, d].
        real: True where a position holds an event, [B, T].
        gamma: decay rate per event.

    Returns:
        User vectors, [B, d].

    Raises:
        ValueError: a row has no real position.
    """
    if not real.any(1).all():
        raise ValueError(f"user_vector: row {(~real.any(1)).nonzero()[0].item()} has no real position")
    logits = (gamma * real.cumsum(1)).masked_fill(~real, -torch.inf)  # [B, T]
    return torch.einsum("bt,btd->bd", logits.softmax(1), h.masked_fill(~real[..., None], 0))


def combine(model: Tensor, distil: Tensor, alpha: float, beta: bool) -> Tensor:
    """Weigh the two losses: alpha · beta · L_distil + (1 - alpha) · L_model (Severin et al., equation of section 3.3).

    beta = sg(L_model / L_distil) gives both losses the same size and carries no gradient; off, it is 1.
    """
    scale = (model / distil.clamp_min(1e-12)).detach() if beta else 1.0
    return alpha * scale * distil + (1 - alpha) * model


class Teacher(nn.Module):
    """Profile vectors of the users, and the projection T that makes them and the student comparable.

    The student never owns this module, so the saved student is the plain one.

    Args:
        vectors: standardised teacher vectors, [U, r]; rows of NaN are users without a profile.
        dim: student width d.
        config: which side is projected, block, decay, control.
        seed: draws the frozen projection, the trainable one's start, and the shuffle.
    """

    def __init__(self, vectors: Tensor, dim: int, config: Distillation, seed: int):
        super().__init__()
        self.config = config
        generator = torch.Generator().manual_seed(seed)
        has = ~vectors.isnan().any(1)
        if config.shuffled:
            owners = has.nonzero().squeeze(1)
            vectors = vectors.clone()
            vectors[owners] = vectors[owners[derangement(len(owners), generator)]]
        self.register_buffer("has", has)
        self.register_buffer("vectors", vectors.nan_to_num())
        r = vectors.shape[1]
        self.project = nn.Linear(dim, r) if config.side == "student" else nn.Linear(r, dim)
        with torch.no_grad():
            self.project.bias.zero_()
            if config.side == "frozen":
                nn.init.orthogonal_(self.project.weight, generator=generator)
            else:
                self.project.weight.normal_(std=1 / math.sqrt(self.project.in_features), generator=generator)
        self.project.requires_grad_(config.side != "frozen")

    def pair(self, states: list[Tensor], real: Tensor, users: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is compared, student side and teacher side, [n, ·] each, for the n rows with a profile."""
        has = self.has[users]
        h = user_vector(states[self.config.block - 1], real, self.config.gamma)[has]
        vectors = self.vectors[users[has]]
        return (self.project(h), vectors) if self.config.side == "student" else (h, self.project(vectors))

    def forward(self, states: list[Tensor], real: Tensor, users: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction loss of a batch, and the variance of its target (a T that collapses shows here).

        Args:
            states: hidden states after each block, K times [B, T, d].
            real: True where a position holds an event, [B, T].
            users: whose rows they are, [B].

        Returns:
            Mean squared error over the rows whose user has a profile (0 if none has), and the mean over dimensions
            of the target's variance over those rows; both scalars.
        """
        student, target = self.pair(states, real, users)
        if len(student) == 0:
            return states[-1].sum() * 0, target.new_zeros(())
        return F.mse_loss(student, target), target.detach().var(0, correction=0).mean()


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

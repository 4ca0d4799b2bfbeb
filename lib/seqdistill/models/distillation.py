"""Phase 1: aggregate the student's hidden states and compare them with the user's teacher vector (section 3)."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqdistill.config import Distillation
from seqdistill.embeddings.teachers import derangement
from seqdistill.io import UserError

# Rows of a batch whose user has a profile, [n]; the distinct users with a profile in the whole batch (InfoNCE's
# candidates), [m]; the index of each row's user among these, [n]
Pairing = tuple[Tensor, Tensor, Tensor]


def user_vector(h: Tensor, real: Tensor, logits: Tensor | None = None) -> Tensor:
    """Aggregate hidden states [B, T, d] into one vector per user [B, d], H_k in Severin et al. (2026), section 3.3.

    The weights are a softmax of `logits` [B, T], or equal, over the positions that hold an event (real [B, T]).
    A row without an event gives NaN; batches have no such rows (`sequences.padded`).
    """
    logits = torch.zeros_like(real, dtype=h.dtype) if logits is None else logits
    weights = logits.masked_fill(~real, -torch.inf).softmax(1)  # [B, T]
    return torch.einsum("bt,btd->bd", weights.to(h.dtype), h.masked_fill(~real[..., None], 0))


def hidden_state(states: list[Tensor], block: int | str) -> Tensor:
    """States after block k of `SequentialRecommender.forward`, k from 1, or "last", or "final_norm"; [B, T, d]."""
    return states[{"final_norm": -1, "last": -2}.get(block, block) if isinstance(block, str) else block - 1]


def distillation_loss(student: Tensor, targets: Tensor, own: Tensor, config: Distillation) -> Tensor:
    """Mean loss between the student [n, ·] and the targets of distinct users [m, ·]; own: each row's target, [n].

    For `rmse` it is the mean square here (see `Teacher.finish`). InfoNCE (van den Oord et al., 2018) classifies a row's
    own target among those of all users of the batch. `multi_infonce` has several positives: every target counts by its
    similarity to the row's own, a softmax at the same temperature (after Fang et al., 2021, who have two temperatures).
    """
    if config.loss in ("infonce", "multi_infonce"):
        targets = F.normalize(targets, dim=1)
        logits = F.normalize(student, dim=1) @ targets.T / config.temperature  # [n, m]
        if config.loss == "infonce":
            return F.cross_entropy(logits, own)
        positives = (targets[own] @ targets.T / config.temperature).softmax(1).detach()
        return F.cross_entropy(logits, positives)
    if config.loss == "cosine":
        return (1 - F.cosine_similarity(student, targets[own])).mean()
    return F.mse_loss(student, targets[own])


def combine(model: Tensor, distil: Tensor, alpha: float, beta: bool) -> Tensor:
    """Weigh the two losses: alpha · beta · L_distil + (1 - alpha) · L_model (Severin et al., equation of section 3.3).

    beta = stopgrad(L_model / L_distil) scales L_distil to the size of L_model; without `beta` it is 1. An L_distil
    below 1e-6 (a collapsed target) is not scaled up any further.
    """
    scale = (model / distil.clamp_min(1e-6)).detach() if beta else 1.0
    return alpha * scale * distil + (1 - alpha) * model


def pairing(users: np.ndarray, everyone: np.ndarray, has: np.ndarray, device: torch.device) -> Pairing:
    """Match a process's rows, of `users` [B], to the whole batch's teachers, on the host; has: who has one, [U]."""
    rows, candidates = np.flatnonzero(has[users]), np.unique(everyone[has[everyone]])
    parts = (rows, candidates, np.searchsorted(candidates, users[rows]))
    return tuple(torch.from_numpy(part).to(device, non_blocking=True) for part in parts)


class Teacher(nn.Module):
    """Teacher vectors [U, r], NaN where a user has none, and the projection T that makes them comparable with H_k.

    The student never owns this module, so the saved student is the plain one. The seed draws weights and shuffle.
    """

    def __init__(self, vectors: Tensor, dim: int, config: Distillation, seed: int):
        super().__init__()
        self.config = config
        generator = torch.Generator().manual_seed(seed)
        present = ~vectors.isnan().any(1)  # [U]
        owners = present.nonzero().squeeze(1)
        if len(owners) < 1 + config.shuffled:
            raise UserError(f"teacher: {len(owners)} users have a profile; {1 + config.shuffled} or more must.")
        if config.shuffled:
            others = owners[derangement(torch.randperm(len(owners), generator=generator))]
            vectors = vectors.index_copy(0, owners, vectors[others])
        self.has = present.numpy()
        self.register_buffer("vectors", vectors.nan_to_num().contiguous())
        r = vectors.shape[1]
        self.project = nn.Linear(dim, r) if config.projection == "student" else nn.Linear(r, dim)
        self.attend = nn.Linear(dim, 1) if config.aggregation == "attention" else None
        with torch.no_grad():
            for layer in filter(None, (self.project, self.attend)):
                layer.bias.zero_()
                layer.weight.normal_(std=1 / math.sqrt(layer.in_features), generator=generator)
            if config.projection == "teacher_frozen":
                nn.init.orthogonal_(self.project.weight, generator=generator)
        self.project.requires_grad_(config.projection != "teacher_frozen")

    def aggregate(self, states: list[Tensor], real: Tensor) -> Tensor:
        """Aggregate the states after block k into H_k, [B, d]; exponential: w_t ∝ exp(gamma · t) over real t = 1..m."""
        h, how, logits = hidden_state(states, self.config.block), self.config.aggregation, None
        t = real.cumsum(1)  # [B, T]
        if how == "attention":
            logits = self.attend(h).squeeze(2)
        elif how == "exponential":
            logits = self.config.gamma * t
        elif how == "last":
            logits = torch.zeros_like(t, dtype=torch.float).masked_fill(t < t[:, -1:], -torch.inf)
        return user_vector(h, real, logits)

    def forward(self, states: list[Tensor], real: Tensor, pairs: Pairing) -> tuple[Tensor, Tensor]:
        """Distillation loss over the rows with a profile (0 without any), and the variance of their targets, scalars.

        states: those of `SequentialRecommender.forward`, K + 1 times [B, T, d]; real: True where an event is, [B, T].
        """
        rows, users, own = pairs
        targets = self.vectors[users]  # [m, r]
        if self.config.projection != "student":
            targets = self.project(targets)  # [m, d]
        variance = targets.detach().var(0, correction=0).mean() if len(users) else states[-1].new_zeros(())
        if not len(rows):  # all that is trained gets a gradient of 0: other processes wait for it
            return sum(part.sum() * 0 for part in (states[-1], *self.parameters())), variance
        h = self.aggregate(states, real).index_select(0, rows)  # [n, d]
        if self.config.projection == "student":
            h = self.project(h)  # [n, r]
        return distillation_loss(h, targets, own, self.config), variance

    def finish(self, loss: Tensor) -> Tensor:
        """Take RMSE's root, once the loss is the mean over all processes."""
        return (loss + 1e-12).sqrt() if self.config.loss == "rmse" else loss


def probe_r2(h: Tensor, vectors: Tensor) -> float:
    """R² of a ridge regression of the teacher [n, r] on H_k [n, d], on every fifth user, fitted on the others."""
    from sklearn.linear_model import Ridge  # a second of import that runs without a probe save

    held = torch.arange(len(h)) % 5 == 0
    mean, std = h[~held].mean(0), h[~held].std(0).clamp_min(1e-6)
    x = F.pad((h - mean) / std, (0, 1), value=1.0).double().numpy()  # the intercept is penalised as well
    y, held = vectors.double().numpy(), held.numpy()
    fitted = Ridge(1.0, fit_intercept=False).fit(x[~held], y[~held])
    residual = ((y[held] - fitted.predict(x[held])) ** 2).sum()
    return float(1 - residual / ((y[held] - y[~held].mean(0)) ** 2).sum())

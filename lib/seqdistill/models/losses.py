"""Recommendation losses: the softmax over the catalogue, or over negatives shared by the whole batch."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from seqdistill.config import TrainConfig

CHUNK = 128  # positions whose logits stay in a CPU's cache together; [N, V] is never held
ON_GPU = 2**27  # logits held at a time on a GPU, where no such cache limits them, 512 MB


class FullSoftmax(torch.autograd.Function):
    """Mean cross-entropy of x [N, d] against the catalogue [V, d] at columns y [N]; the gradients come with the loss.

    `F.linear_cross_entropy` would import the compiler (a second, 75 MB). The softmax overwrites a chunk's logits. The
    largest p is 1 / sum(exp(logits - top)), so the loss is exact even if the target's p underflows.
    """

    @staticmethod
    def forward(ctx, x: Tensor, catalogue: Tensor, y: Tensor) -> Tensor:
        """Compute the loss and both gradients chunk by chunk."""
        x_grad, catalogue_grad, loss = torch.empty_like(x), torch.zeros_like(catalogue), x.new_zeros(())
        rows = max(CHUNK, ON_GPU // len(catalogue)) if x.is_cuda else CHUNK
        held = x.new_empty(min(rows, len(x)), len(catalogue))
        for part, place, grad in zip(x.split(rows), y.split(rows), x_grad.split(rows), strict=True):
            logits = torch.mm(part, catalogue.T, out=held[: len(part)])
            own, top = logits.gather(1, place[:, None]), logits.amax(1, keepdim=True)
            p = torch.softmax(logits, 1, out=logits)
            loss += (top - own - p.amax(1, keepdim=True).log()).sum()
            torch.mm(p, catalogue, out=grad)
            catalogue_grad.addmm_(p.T, part)
        x_grad -= catalogue[y]
        catalogue_grad.index_add_(0, y, x, alpha=-1)
        ctx.save_for_backward(x_grad.div_(len(x)), catalogue_grad.div_(len(x)))
        return loss / len(x)

    @staticmethod
    def backward(ctx, above: Tensor) -> tuple[Tensor, Tensor, None]:
        """Scale both gradients."""
        x_grad, catalogue_grad = ctx.saved_tensors
        return x_grad * above, catalogue_grad * above, None


def full_softmax(x: Tensor, catalogue: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy over the whole catalogue [V, d] of target ids y [N] at outputs x [N, d], mean; 0 if N is 0."""
    return FullSoftmax.apply(x.float(), catalogue, y - 1) if len(y) else x.sum() * 0


def sampled_softmax(x: Tensor, catalogue: Tensor, y: Tensor, negatives: Tensor) -> Tensor:
    """Cross-entropy of the target against negatives drawn uniformly without replacement, mean over positions.

    A negative's logit is corrected by -log Q, where Q = n / V is its probability of being drawn (Bengio & Senécal,
    2008): the sum over negatives estimates that over the catalogue without bias. negatives: item ids, [n]; one that
    equals the target does not count.
    """
    own = (x * F.embedding(y - 1, catalogue)).sum(1, keepdim=True)  # [N, 1]
    others = (x @ catalogue[negatives - 1].T).masked_fill(negatives == y[:, None], -torch.inf)  # [N, n]
    log_q = math.log(len(negatives) / len(catalogue))
    return (torch.cat([own, others - log_q], 1).logsumexp(1) - own.squeeze(1)).sum() / max(1, len(own))


def student_loss(x: Tensor, catalogue: Tensor, y: Tensor, config: TrainConfig) -> Tensor:
    """The loss that a run's config names; negatives are drawn from torch's generator."""
    if config.loss == "full":
        return full_softmax(x, catalogue, y)
    negatives = 1 + torch.randperm(len(catalogue), device=x.device)[: config.negatives]
    return sampled_softmax(x, catalogue, y, negatives)

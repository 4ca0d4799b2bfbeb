"""What the student minimises on its own."""

import torch.nn.functional as F
from torch import Tensor


def full_softmax(h: Tensor, catalogue: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of the next item over the whole catalogue, mean over real positions.

    Args:
        h: outputs, [B, T, d].
        catalogue: item vectors, [V, d].
        targets: item ids 1..V, 0 where there is nothing to predict, [B, T].

    Returns:
        Loss in nats, scalar.
    """
    real = targets > 0
    return F.cross_entropy(h[real] @ catalogue.T, targets[real] - 1)

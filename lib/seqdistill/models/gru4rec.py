"""GRU4Rec (Hidasi et al., 2016), trained as the students are: full softmax over the catalogue, tied item vectors."""

import torch
from torch import Tensor, nn

from seqdistill.config import ModelConfig
from seqdistill.models.transformer import SequentialRecommender


class GRU4Rec(SequentialRecommender):
    """A recurrent network where SASRec has attention blocks; everything else is the students'."""

    def __init__(self, items: int, config: ModelConfig):
        super().__init__(items, config)
        self.blocks = nn.GRU(config.dim, config.dim, config.blocks, batch_first=True)
        self.position.weight.data.zero_()
        self.position.requires_grad_(False)  # the order is in the recurrence

    def forward(self, ids: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Encode item ids [B, T] into the output [B, T, d] and the states before and after the final norm."""
        h, _ = self.blocks(self.embed(ids))
        states = [h, self.norm(h)]
        return self.scaled(states[-1]), states

    def encode_last(self, ids: Tensor) -> Tensor:
        """Encode the place after each history, [B, T] -> [B, d]."""
        last = (ids > 0).sum(1) - 1
        return self.forward(ids)[0][torch.arange(len(ids), device=ids.device), last]


def student(items: int, config: ModelConfig) -> SequentialRecommender:
    """Make the student that a config names."""
    return (GRU4Rec if config.recurrent else SequentialRecommender)(items, config)

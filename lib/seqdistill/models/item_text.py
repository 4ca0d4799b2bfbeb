"""A student whose item vectors also depend on the items' texts, so that an item has a vector before its first event.

Not part of the paper's method. The saved model is the plain student: its item vectors are computed after training.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqdistill.config import ItemText
from seqdistill.models.transformer import SequentialRecommender


class ItemTable(nn.Module):
    """Item vectors: an item's own, if it has a training event, plus a linear adapter of its frozen text vector.

    own: the student's embedding, [V + 1 or more, d]; row 0 is padding. texts: [V, e]. known: ids with a training event.
    """

    def __init__(self, own: nn.Embedding, config: ItemText, texts: Tensor, known: Tensor):
        super().__init__()
        self.own, self.id_dropout = own, config.id_dropout
        self.adapter = nn.Linear(texts.shape[1], own.embedding_dim, bias=False)
        nn.init.normal_(self.adapter.weight, std=0.02)
        rest = len(own.weight) - 1 - len(texts)  # the mask's row, where there is one
        self.register_buffer("texts", F.pad(texts, (0, 0, 1, rest)))
        learns = torch.ones(len(own.weight), 1)
        learns[1 : len(texts) + 1] = torch.isin(torch.arange(len(texts)) + 1, known)[:, None].float()
        self.register_buffer("learns", learns)

    @property
    def weight(self) -> Tensor:
        """Vectors of all ids, [V + 1 or more, d]; in training, some rows lose their own vector (`id_dropout`)."""
        learns = self.learns
        if self.training and self.id_dropout:
            learns = learns * (torch.rand_like(learns) >= self.id_dropout)
        return self.own.weight * learns + self.adapter(self.texts)

    def forward(self, ids: Tensor) -> Tensor:
        """Look ids up: [B, T] -> [B, T, d]."""
        return F.embedding(ids, self.weight)


def with_text(model: SequentialRecommender, config: ItemText, texts: Tensor, known: object) -> SequentialRecommender:
    """Give a copy of a fresh student an `ItemTable`; `known` is an array of the ids of items with a training event."""
    reader = type(model)(model.items, model.config)
    reader.load_state_dict(model.state_dict())
    reader.item = ItemTable(reader.item, config, texts, torch.as_tensor(known))
    return reader

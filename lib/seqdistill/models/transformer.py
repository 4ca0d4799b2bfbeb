"""The student: one pre-norm transformer over item ids; and GRU4Rec, its recurrent rival.

SASRec (Kang & McAuley, 2018) is its causal use, BERT4Rec (Sun et al., 2019) its bidirectional use.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqdistill.config import ModelConfig
from seqdistill.data.sequences import lengths_of

TOGETHER = 2048  # positions scored together on a CPU: their widest activation, 4 d numbers each, stays in cache


class Block(nn.Module):
    """Pre-norm self-attention and a feed-forward layer, each with a residual.

    Dropout acts on both residual branches, not on attention weights, so the fused kernel needs no [T, T] matrix.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        dim = config.dim
        self.heads, self.dropout, self.causal = config.heads, config.dropout, config.causal
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.feed = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, h: Tensor, mask: Tensor | None) -> Tensor:
        """Map [B, T, d] to [B, T, d]; `mask` [B, 1, 1, T] is True where a position may be attended to, None: all."""
        q, k, v = self.split(self.qkv(self.norm1(h)), 3)
        mixed = F.scaled_dot_product_attention(q, k, v, mask, is_causal=self.causal)  # [B, heads, T, d/heads]
        return self.add_residuals(h, mixed)

    def last(self, h: Tensor, position: Tensor) -> Tensor:
        """Compute one position [B] of each row, which attends to all up to itself: [B, T, d] -> [B, 1, d]."""
        b, t, d = h.shape
        x, row = self.norm1(h), torch.arange(b, device=h.device)
        weight, bias = self.qkv.weight, self.qkv.bias
        (q,) = self.split(F.linear(x[row, position, None], weight[:d], bias[:d]), 1)
        k, v = self.split(F.linear(x, weight[d:], bias[d:]), 2)
        mask = (torch.arange(t, device=h.device) <= position[:, None])[:, None, None]  # [B, 1, 1, T]
        return self.add_residuals(h[row, position, None], F.scaled_dot_product_attention(q, k, v, mask))

    def split(self, x: Tensor, parts: int) -> Tensor:
        """Cut [B, T, parts d] into heads: [parts, B, heads, T, d/heads]."""
        b, t, width = x.shape
        return x.view(b, t, parts, self.heads, width // parts // self.heads).permute(2, 0, 3, 1, 4)

    def add_residuals(self, h: Tensor, mixed: Tensor) -> Tensor:
        """Add the attention output [B, heads, T, d/heads], then the feed-forward layer's, to h [B, T, d]."""
        h = h + F.dropout(self.out(mixed.transpose(1, 2).flatten(2)), self.dropout, self.training)
        return h + F.dropout(self.feed(self.norm2(h)), self.dropout, self.training)


class SequentialRecommender(nn.Module):
    """Self-attentive sequential recommender with a tied output head.

    Item ids are 1..V; 0 is padding on the right. The causal mask hides padding from every real position; BERT4Rec
    masks it explicitly. BERT4Rec has one more id, `mask_id` = V + 1, for an item to be predicted.
    """

    def __init__(self, items: int, config: ModelConfig):
        super().__init__()
        self.config, self.items, self.mask_id = config, items, items + 1
        self.item = nn.Embedding(items + 1 + (not config.causal), config.dim, padding_idx=0)
        self.position = nn.Embedding(config.length, config.dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.dim)
        if config.output_layer:
            self.output = nn.Sequential(nn.Linear(config.dim, config.dim), nn.GELU(), nn.LayerNorm(config.dim))
            self.bias = nn.Parameter(torch.zeros(items))
        self.apply(self.initialise)

    @staticmethod
    def initialise(module: nn.Module) -> None:
        """Draw every weight from N(0, 0.02): PyTorch's default needs 5 times the steps to beat popularity."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx : module.padding_idx + 1])

    @property
    def max_history(self) -> int:
        """The most events of a history that scoring can use: BERT4Rec needs one position for the mask."""
        return self.config.length - (not self.config.causal)

    def forward(self, ids: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Encode item ids [B, T], T at most `config.length`.

        Returns the output [B, T, d] (d + 1 with an output layer), whose inner products with the catalogue are scores,
        and the hidden states after each of the K blocks and after the final norm, K + 1 times [B, T, d].
        """
        mask = None if self.config.causal else (ids > 0)[:, None, None]
        h, states = self.embed(ids), []
        for block in self.blocks:
            h = block(h, mask)
            states.append(h)
        states.append(self.norm(h))
        return self.scaled(states[-1]), states

    def embed(self, ids: Tensor) -> Tensor:
        """Add item and position vectors: [B, T] -> [B, T, d]."""
        h = self.item(ids) * self.config.dim**0.5
        if self.training and self.config.item_dropout:
            h = h * (torch.rand(ids.shape, device=ids.device) >= self.config.item_dropout)[..., None]
        return F.dropout(h + self.position.weight[: ids.shape[1]], self.config.dropout, self.training)

    def scaled(self, h: Tensor) -> Tensor:
        """Apply the output layer, if any; with a temperature, make scores cosines over it; append a 1 for the bias."""
        h = self.output(h) if self.config.output_layer else h
        h = F.normalize(h, dim=-1) / self.config.temperature if self.config.temperature else h
        return F.pad(h, (0, 1), value=1.0) if self.config.output_layer else h

    def catalogue(self) -> Tensor:
        """Item vectors whose inner products with the output are scores, [V, d], row 0 is item 1; biases come last."""
        vectors = self.item.weight[1 : self.items + 1]
        vectors = F.normalize(vectors, dim=-1) if self.config.temperature else vectors
        return torch.cat([vectors, self.bias[:, None]], 1) if self.config.output_layer else vectors

    def export_state_dict(self) -> dict[str, Tensor]:
        """Copy the weights as those of a plain student, to be saved and served: one item table, however it was made."""
        weights = {name: value.clone() for name, value in self.state_dict().items() if not name.startswith("item.")}
        return {"item.weight": self.item.weight.detach().clone(), **weights}

    @torch.inference_mode()
    def score(self, ids: Tensor) -> Tensor:
        """Score the catalogue for the event after each history: [B, T] -> [B, V], T at most `max_history`."""
        rows = len(ids) if ids.is_cuda else max(1, TOGETHER // ids.shape[1])
        parts = zip(ids.split(rows), lengths_of(ids).split(rows), strict=True)
        parts = [part[:, : lengths.max()] for part, lengths in parts]  # trimmed to their longest row
        return torch.cat([self.encode_last(part) for part in parts]) @ self.catalogue().T

    def encode_last(self, ids: Tensor) -> Tensor:
        """Encode the place after each history, [B, T] -> [B, d]; no shape depends on values, so it can be exported."""
        position, mask = (ids > 0).sum(1) - 1, None  # [B]
        if not self.config.causal:
            position, ids = position + 1, F.pad(ids, (0, 1))
            ids = torch.where(torch.arange(ids.shape[1], device=ids.device) == position[:, None], self.mask_id, ids)
            mask = (ids > 0)[:, None, None]  # [B, 1, 1, T + 1]
        h = self.embed(ids)  # [B, T, d]
        for block in self.blocks[:-1]:
            h = block(h, mask)
        return self.scaled(self.norm(self.blocks[-1].last(h, position))).squeeze(1)


class GRU4Rec(SequentialRecommender):
    """GRU4Rec (Hidasi et al., 2016), trained as SASRec is: full softmax, tied item vectors; recurrent, no attention."""

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
        return self.forward(ids)[0][torch.arange(ids.shape[0], device=ids.device), last]


def student(items: int, config: ModelConfig) -> SequentialRecommender:
    """Make the student that a config names."""
    return (GRU4Rec if config.recurrent else SequentialRecommender)(items, config)

"""The student: one pre-norm transformer over item ids.

SASRec (Kang & McAuley, 2018) is its causal use, BERT4Rec (Sun et al., 2019) its bidirectional use.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqdistill.config import Student


class Block(nn.Module):
    """Pre-norm self-attention and a feed-forward layer, each with a residual."""

    def __init__(self, config: Student):
        super().__init__()
        dim = config.dim
        self.heads, self.dropout, self.causal = config.heads, config.dropout, config.causal
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.feed = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, h: Tensor, mask: Tensor | None) -> Tensor:
        """Map [B, T, d] to [B, T, d]; `mask` [B, 1, 1, T] is True at the positions that may be seen, None for all."""
        b, t, d = h.shape
        q, k, v = self.qkv(self.norm1(h)).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        drop = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, mask, drop, is_causal=self.causal)  # [B, heads, T, d/heads]
        h = h + F.dropout(self.out(mixed.transpose(1, 2).reshape(b, t, d)), self.dropout, self.training)
        return h + F.dropout(self.feed(self.norm2(h)), self.dropout, self.training)


class Encoder(nn.Module):
    """Self-attentive sequential recommender with a tied output head.

    Rows are padded on the right: the causal mask alone keeps padding from every real position, the bidirectional
    use hides it. The bidirectional use knows one id more, `mask_id` = V + 1, the place of an item to be guessed.

    Args:
        items: catalogue size V; ids are 1..V, 0 is padding.
        config: shape of the student.
    """

    def __init__(self, items: int, config: Student):
        super().__init__()
        self.config = config
        self.items, self.mask_id = items, items + 1
        self.item = nn.Embedding(items + 1 + (not config.causal), config.dim, padding_idx=0)
        self.position = nn.Embedding(config.length, config.dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.dim)
        self.apply(self.initialise)

    @staticmethod
    def initialise(module: nn.Module) -> None:
        """Draw every weight from N(0, 0.02): with PyTorch's default the student lingers at the popularity floor."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx : module.padding_idx + 1])

    @property
    def reads(self) -> int:
        """The most events of a history that a score can use: BERT4Rec needs one position for the mask."""
        return self.config.length - (not self.config.causal)

    def forward(self, ids: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Encode item ids.

        Args:
            ids: [B, T], T at most `config.length`, padded with 0 on the right.

        Returns:
            Normed output [B, T, d], and the hidden states after each block, K times [B, T, d].
        """
        mask = None if self.config.causal else (ids > 0)[:, None, None]
        h = self.item(ids) * self.config.dim**0.5 + self.position.weight[: ids.shape[1]]
        h = F.dropout(h, self.config.dropout, self.training)
        states = []
        for block in self.blocks:
            h = block(h, mask)
            states.append(h)
        h = self.norm(h)
        return (F.normalize(h, dim=-1) / self.config.temperature if self.config.temperature else h), states

    def catalogue(self) -> Tensor:
        """Item vectors that scores are taken against, [V, d]; row i is item i + 1."""
        vectors = self.item.weight[1 : self.items + 1]
        return F.normalize(vectors, dim=-1) if self.config.temperature else vectors

    @torch.inference_mode()
    def score(self, ids: Tensor) -> Tensor:
        """Score the catalogue for the event after each history: [B, T] -> [B, V], T at most `reads`."""
        last = (ids > 0).sum(1) - 1
        if not self.config.causal:
            last = last + 1
            ids = F.pad(ids, (0, 1)).scatter(1, last[:, None], self.mask_id)
        h, _ = self(ids)
        return h[torch.arange(len(ids), device=ids.device), last] @ self.catalogue().T

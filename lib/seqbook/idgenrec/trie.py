"""A trie over the catalogue's textual ids, and a beam search that can only write one of them."""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import T5ForConditionalGeneration

Tokens = tuple[int, ...]


def trie(ids: Sequence[Sequence[int]], end: int) -> tuple[dict[Tokens, list[int]], dict[Tokens, int]]:
    """Tokens, with `end`, that may follow each prefix of the ids of items 1, 2, ...; and the leaves: id -> item."""
    following: dict[Tokens, set[int]] = {(): set()}
    leaves = {tuple(tokens): item for item, tokens in enumerate(ids, 1)}
    if len(leaves) < len(ids) or () in leaves:
        raise ValueError("trie: an id is empty, or two items share one; every item needs an id of its own.")
    for tokens in leaves:
        for place, token in enumerate((*tokens, end)):
            following.setdefault(tokens[:place], set()).add(token)
    return {prefix: sorted(tokens) for prefix, tokens in following.items()}, leaves


@torch.inference_mode()
def constrained_beam_search(
    model: T5ForConditionalGeneration, prompts: Tensor, real: Tensor, ids: Sequence[Sequence[int]], beams: int
) -> tuple[Tensor, Tensor]:
    """Find the items with the most probable ids by beam search within the trie, after prompts [B, T].

    Returns items, best first, 0 where the catalogue is exhausted, and the log-probabilities of their ids; [B, K] each.
    """
    end = model.config.eos_token_id
    following, leaves = trie(ids, end)
    output = model.generate(
        input_ids=prompts, attention_mask=real.long(), max_new_tokens=1 + max(map(len, ids)), do_sample=False,
        num_beams=beams, num_return_sequences=beams, length_penalty=0.0,
        prefix_allowed_tokens_fn=lambda _, tokens: following.get(tuple(tokens[1:].tolist()), [end]),
        decoder_start_token_id=model.config.decoder_start_token_id, return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    rows = [tuple(row[1 : row.index(end)]) if end in row else () for row in output.sequences.tolist()]
    scores = output.sequences_scores
    items = torch.tensor([leaves.get(row, 0) for row in rows]) * scores.isfinite().cpu()
    return items.view(-1, beams), scores.view(-1, beams)

"""Textual item ids: a tokenizer, keywords as first ids, and a generator that writes ids by diverse beam search."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import resources
from itertools import chain, count

import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordLevel
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast, T5ForConditionalGeneration

WORD = re.compile(r"\w+")
MAX_TEXT = 256  # tokens of a text that the generator reads


def word_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Make a lower-case tokenizer of the texts' words and punctuation marks, the digits, and T5's special tokens."""
    normal, split = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]), pre_tokenizers.Whitespace()
    vocabulary = {word for text in texts for word, _ in split.pre_tokenize_str(normal.normalize_str(text))}
    tokens = ["<pad>", "</s>", "<unk>", *sorted(vocabulary | set(map(str, range(10))))]
    tokenizer = Tokenizer(WordLevel({token: number for number, token in enumerate(tokens)}, unk_token="<unk>"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normal, split
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def tokens_of(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Tokenize texts, without special tokens."""
    return tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]


def stacked(rows: Sequence[Sequence[int]], padding: int = 0) -> Tensor:
    """Stack token rows into [B, T], padded on the right."""
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=padding)


def cut(rows: Sequence[Sequence[int]], end: int) -> Tensor:
    """Truncate token rows to what the generator reads, and append `end`: [B, T], 0 at padding."""
    return stacked([[*row[: MAX_TEXT - 1], end] for row in rows])


def templates() -> list[str]:
    """Ten prompts to train with and, last, one to test with."""
    return resources.files("seqbook.idgenrec").joinpath("templates", "idgenrec.txt").read_text("utf-8").splitlines()


@cache
def pieces(tokenizer: PreTrainedTokenizerBase) -> list[list[str | list[int]]]:
    """Templates as tokens, with "{user}" and "{history}" between them."""
    cuts = [[part.strip() for part in re.split(r"(\{\w+\})", line)] for line in templates()]
    return [[part if part[0] == "{" else tokens_of(tokenizer, [part])[0] for part in parts if part] for parts in cuts]


def words(text: str) -> list[str]:
    """Lower-case words of a text, each once."""
    return list(dict.fromkeys(WORD.findall(text.lower())))


def keywords(texts: Sequence[str], most: int) -> list[list[str]]:
    """Candidates for each text's id: its rarest 2 words in the order of the text, then its rarest 3, ... `most`."""
    split = [words(text) for text in texts]
    frequency = Counter(chain.from_iterable(split))
    rarest = [sorted(row, key=lambda word: frequency[word]) for row in split]
    return [
        [" ".join(word for word in row if word in rare[:size]) for size in range(2, most + 1)]
        for row, rare in zip(split, rarest, strict=True)
    ]


def first_unused(candidates: Iterable[str], tokenizer: PreTrainedTokenizerBase, taken: set) -> str | None:
    """Take the first candidate whose tokens are no item's id yet, and add them to `taken`; None if there is none."""
    for candidate in candidates:
        if (tokens := tuple(tokens_of(tokenizer, [candidate])[0])) and tokens not in taken:
            taken.add(tokens)
            return candidate
    return None


def numbered(text: str) -> Iterator[str]:
    """Yield a text followed by 2, 3, ..., with blanks between digits."""
    return (f"{text} {' '.join(str(number))}".strip() for number in count(2))


def unique(candidates: Sequence[Sequence[str]], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Give every item the first of its candidates that no earlier item has; the last resort is a number as suffix."""
    taken = set()
    return [first_unused(chain(row, numbered(row[-1])), tokenizer, taken) for row in candidates]


@torch.inference_mode()
def diverse(
    model: T5ForConditionalGeneration, texts: Tensor, penalty: float, least: int, most: int, groups: int, own: bool
) -> Tensor:
    """Diverse beam search (Vijayakumar et al., 2018) with as many groups as beams; with one group it is greedy.

    Reads texts [B, T], 0 at padding; writes `least` to `most` tokens, [B, G, most], 0 after the end; `own`: only the
    text's tokens, once each. A token's score falls by `penalty` for each earlier group that chose it in this step.
    """
    rows, end, real = len(texts), model.config.eos_token_id, (texts > 0).long()
    states = model.get_encoder()(texts, real).last_hidden_state.repeat_interleave(groups, 0)
    real = real.repeat_interleave(groups, 0)
    token = torch.full((rows * groups, 1), model.config.decoder_start_token_id)
    closed = forbidden(texts, model.config.vocab_size, own)[:, None].repeat(1, groups, 1)
    going, written, cache = torch.ones(rows, groups, dtype=torch.bool), [], None
    for step in range(most):
        out = model(encoder_outputs=(states,), attention_mask=real, decoder_input_ids=token, past_key_values=cache)
        cache, scores = out.past_key_values, out.logits[:, -1].log_softmax(-1).view(rows, groups, -1)
        scores = scores.masked_fill(closed, -1e9)
        scores[..., end] -= 1e6 * (step < least)
        used, chosen = torch.zeros_like(scores[:, 0]), torch.zeros(rows, groups, dtype=torch.long)
        for group in range(groups):
            chosen[:, group] = (scores[:, group] - penalty * used).argmax(-1)
            used.scatter_add_(1, chosen[:, group, None], torch.ones(rows, 1))
        going &= chosen != end
        written.append(chosen * going)
        token = written[-1].view(-1, 1)
        if own:
            closed.scatter_(2, chosen[..., None], (chosen != end)[..., None])
    return torch.stack(written, -1)


def forbidden(texts: Tensor, size: int, own: bool) -> Tensor:
    """Tokens that may not be written, [B, size]: padding, the unknown and, with `own`, those not in the text [B, T]."""
    mask = torch.full((len(texts), size), own).scatter_(1, texts, False)
    mask[:, [0, 2]] = True
    return mask

"""IDGenRec (Tan et al., 2024), compact: textual ids from a generator, a T5 that recommends by writing one.

What differs from the released version: no prompt depends on its target or on what follows it. The user id is written
from a beginning of the history, anew whenever the history has doubled, so that there are few of them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass as plain_dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase, T5Config, T5ForConditionalGeneration

from seqdistill.config import STRICT
from seqdistill.data.sequences import Cases, Ragged
from seqdistill.idgenrec.ids import (
    allowed,
    cut,
    diverse,
    pieces,
    stacked,
    templates,
    tokens_of,
    word_tokenizer,
    words,
    write_ids,
)
from seqdistill.io import UserError
from seqdistill.profiles.hf import model_folder

MAX_USER_TEXT = 64  # tokens of the concatenated item ids that a user id is written from
Source = tuple[int, int]  # a user, and from how many events of that user a user id is written
Sample = tuple[int, int]  # a user, and the number of events before the target


@dataclass(frozen=True, config=STRICT)
class IDGenRec:
    """Settings of IDGenRec.

    recommender, generator: names on the hub or folders of a T5, the generator one that writes tags, both with one
    vocabulary; "" trains them from scratch, with words as tokens and keywords as the first ids.
    layers, width, heads: of both, from scratch. tag_epochs: how often a generator from scratch reads the items to
    learn their keywords.
    rounds: recommender, then generator, then new ids; the last round ends with its recommender.
    samples, generator_samples: prefixes drawn for an epoch of either; 0: every one. A generator's batch is an eighth.
    beams: K, of the list. history: items in the prompt. id_tokens: most tokens of a written id.
    user_ids: "prefix", "none", or "leaking": written from all of a user's events, the target among them.
    """

    recommender: str = ""
    generator: str = ""
    layers: int = Field(2, gt=0)
    width: int = Field(64, gt=0)
    heads: int = Field(2, gt=0)
    tag_epochs: int = Field(10, ge=0)
    rounds: int = Field(3, gt=0)
    recommender_epochs: int = Field(10, gt=0)
    generator_epochs: int = Field(1, ge=0)
    samples: int = Field(0, ge=0)
    generator_samples: int = Field(0, ge=0)
    batch: int = Field(64, ge=8)
    recommender_lr: float = Field(1e-3, gt=0)
    generator_lr: float = Field(1e-8, gt=0)
    beams: int = Field(10, gt=0)
    history: int = Field(20, gt=0)
    id_tokens: int = Field(10, gt=0)
    user_ids: Literal["prefix", "none", "leaking"] = "prefix"
    seed: int = Field(0, ge=0)

    def __post_init__(self) -> None:
        """Refuse half a pair, and heads that do not divide the width."""
        if bool(self.recommender) != bool(self.generator):
            raise UserError("IDGenRec: name both recommender and generator, or neither (trained from scratch).")
        if self.width % self.heads:
            raise UserError(f'IDGenRec: "heads" = {self.heads} does not divide "width" = {self.width}.')


@plain_dataclass
class System:
    """Both models and what they have written.

    texts, ids: tokens of the items' texts and ids, item i in row i - 1. user_ids: tokens of the user ids so far.
    events: all items of each user; trained: how many of them are training events.
    """

    config: IDGenRec
    recommender: T5ForConditionalGeneration
    generator: T5ForConditionalGeneration
    tokenizer: PreTrainedTokenizerBase
    texts: list[list[int]]
    ids: list[list[int]]
    user_ids: dict[Source, list[int]]
    events: dict[int, np.ndarray]
    trained: dict[int, int]


class Batch(NamedTuple):
    """Prompts, [B, T], 0 at padding; labels, [B, L], -100 at padding; where ids stand in the prompts.

    slots: 0, or for a token of an id its place + 1 among all tokens of `ids`, [N, M], [B, T]; texts: what the generator
    reads to write those ids, [N, S].
    """

    prompts: Tensor
    labels: Tensor
    slots: Tensor
    ids: Tensor
    texts: Tensor


def untrained_system(config: IDGenRec, train: Ragged, test: Cases, texts: Sequence[str]) -> System:
    """Set up the tokenizer and both models; no id is written yet.

    Raises:
        UserError: the hub does not give the weights.
    """
    torch.manual_seed(config.seed)
    if config.recommender:
        folders = [model_folder(name) for name in (config.recommender, config.generator)]
        tokenizer = AutoTokenizer.from_pretrained(folders[0])
        models = [T5ForConditionalGeneration.from_pretrained(folder) for folder in folders]
    else:
        tokenizer = word_tokenizer([*texts, *(re.sub(r"\{\w+\}", "", line) for line in templates()), ";"])
        models = [scratch(config, len(tokenizer)) for _ in range(2)]
    read = tokens_of(tokenizer, [" ".join(words(text)) for text in texts])
    return System(config, *models, tokenizer, read, [], {}, *events_of(train, test))


def scratch(config: IDGenRec, size: int) -> T5ForConditionalGeneration:
    """Make an untrained T5 with a vocabulary of `size` tokens."""
    shape = {"d_model": config.width, "d_kv": config.width // config.heads, "d_ff": 4 * config.width}
    depth = {"num_layers": config.layers, "num_heads": config.heads}
    special = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    return T5ForConditionalGeneration(T5Config(vocab_size=size, **shape, **depth, **special))


def events_of(train: Ragged, test: Cases) -> tuple[dict[int, np.ndarray], dict[int, int]]:
    """Collect all items of each user, and count those of training."""
    events = {int(user): train.row(row) for row, user in enumerate(train.users)}
    trained = {user: len(items) for user, items in events.items()}
    rows = test.histories
    for user, begin, end in zip(rows.users, rows.starts, rows.ends, strict=True):
        events[int(user)] = rows.items[begin : end + 1]  # the targets of a user follow one another
    return events, trained


def rename(system: System, ids: Sequence[str]) -> None:
    """Give the items new ids; the user ids made of the old ones go."""
    system.ids, system.user_ids = tokens_of(system.tokenizer, ids), {}


def rewrite(system: System) -> None:
    """Have the generator write the items' ids anew; one from scratch knows no words but those that it reads."""
    most, own = system.config.id_tokens, not system.config.generator
    rename(system, write_ids(system.generator.eval(), system.tokenizer, system.texts, most, own))


def source(system: System, sample: Sample) -> Source:
    """Say from which events of a user the user id of a sample is written; none of them is its target or follows it."""
    user, before = sample
    if system.config.user_ids == "leaking":
        return user, len(system.events[user])
    known = min(before, system.trained.get(user, 0))
    return user, 0 if system.config.user_ids == "none" or not known else 1 << (known.bit_length() - 1)


def user_text(system: System, source: Source) -> list[int]:
    """Tokens that a user id is written from: the latest item ids that fit, concatenated."""
    user, length = source
    tokens = [token for item in system.events[user][:length][-MAX_USER_TEXT:] for token in system.ids[item - 1]]
    return tokens[1 - MAX_USER_TEXT :]


@torch.inference_mode()
def write_users(system: System, samples: Sequence[Sample]) -> None:
    """Write the user ids that samples need and that are not written yet."""
    config, end = system.config, system.tokenizer.eos_token_id
    needed = {source(system, sample) for sample in samples} - system.user_ids.keys()
    texts = {key: user_text(system, key) for key in needed if key[1]}
    system.user_ids |= {key: [] for key in needed if not key[1]}
    todo = sorted(texts, key=lambda key: len(texts[key]))
    for part in (todo[begin : begin + 128] for begin in range(0, len(todo), 128)):
        read = cut([texts[key] for key in part], end)
        written = diverse(system.generator.eval(), read, 0.0, 1, config.id_tokens, 1, not config.generator)[:, 0]
        system.user_ids |= {
            key: [token for token in row if token] for key, row in zip(part, written.tolist(), strict=True)
        }


def batch(system: System, samples: Sequence[Sample], chosen: Sequence[int]) -> Batch:
    """Write the prompts of samples, whose user ids are written; `chosen` numbers the template of each."""
    units: dict[Source | int, tuple[int, list[int], list[int]]] = {}  # user or item: its row of `ids`, its id, its text
    semicolon, end = tokens_of(system.tokenizer, [";"])[0], system.tokenizer.eos_token_id

    def plain(tokens: list[int]) -> list[tuple[int, int, int]]:  # token, unit (-1: none), place in the unit
        return [(token, -1, 0) for token in tokens]

    def unit(key: Source | int, tokens: list[int], text: list[int]) -> list[tuple[int, int, int]]:
        row = units.setdefault(key, (len(units), [*tokens, end], text))[0]
        return [(token, row, place) for place, token in enumerate(tokens)]

    def prompt(sample: Sample, template: int) -> list[tuple[int, int, int]]:
        key, tokens = source(system, sample), []
        for part in pieces(system.tokenizer)[template]:
            if part == "{history}":
                for item in system.events[sample[0]][: sample[1]][-system.config.history :].tolist():
                    tokens += unit(item, system.ids[item - 1], system.texts[item - 1]) + plain(semicolon)
                del tokens[-len(semicolon) :]
            elif part != "{user}":
                tokens += plain(part)
            elif key[1]:
                tokens += unit(key, system.user_ids[key], user_text(system, key))
        return [*tokens, (end, -1, 0)]

    rows = [prompt(tuple(sample), template) for sample, template in zip(samples, chosen, strict=True)]
    labels = [[*system.ids[system.events[user][before] - 1], end] for user, before in samples]
    _, ids, texts = zip(*units.values(), strict=True)
    width = max(map(len, ids))
    slots = [[row * width + place + 1 if row >= 0 else 0 for _, row, place in tokens] for tokens in rows]
    prompts = stacked([[token for token, _, _ in tokens] for tokens in rows])
    return Batch(prompts, stacked(labels, -100), stacked(slots), stacked(ids), cut(texts, end))


def recommender_loss(system: System, batch: Batch) -> Tensor:
    """Cross-entropy of the targets' ids."""
    real = (batch.prompts > 0).long()
    return system.recommender(input_ids=batch.prompts, attention_mask=real, labels=batch.labels).loss


def generator_loss(system: System, batch: Batch) -> Tensor:
    """The recommender's loss where every token of an id is the generator's distribution times the embedding matrix."""
    real, labels = (batch.texts > 0).long(), batch.ids.masked_fill(batch.ids == 0, -100)
    logits = system.generator(input_ids=batch.texts, attention_mask=real, labels=labels).logits  # [N, M, vocabulary]
    if not system.config.generator:
        logits = logits.masked_fill(~allowed(batch.texts, logits.shape[-1], True)[:, None], -torch.inf)
    vectors = system.recommender.get_input_embeddings()
    mixed = F.pad((logits.softmax(-1) @ vectors.weight).flatten(0, 1), (0, 0, 1, 0))  # [1 + N M, d]
    soft = torch.where((batch.slots > 0)[..., None], mixed[batch.slots], vectors(batch.prompts))  # [B, T, d]
    real = (batch.prompts > 0).long()
    return system.recommender(inputs_embeds=soft, attention_mask=real, labels=batch.labels).loss

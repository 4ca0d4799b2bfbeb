"""IDGenRec (Tan et al., 2024), compact: textual ids from a generator, a T5 that recommends by writing one.

What differs from the released version: nothing that a prompt says depends on the target or on what follows it. The user
id is written from a beginning of the history, anew whenever the history has doubled, so that there are few of them.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass as bundle
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase, T5Config, T5ForConditionalGeneration

from seqdistill.config import STRICT
from seqdistill.idgenrec.ids import (
    allowed,
    cut,
    diverse,
    keywords,
    pieces,
    stacked,
    templates,
    tokens_of,
    unique,
    word_tokenizer,
    words,
    write_ids,
)
from seqdistill.io import UserError
from seqdistill.profiles.hf import model_folder
from seqdistill.training.loop import AdamW
from seqdistill.training.train import TrainingData

USER_READ = 64  # tokens of the concatenated item ids that a user id is written from
TAG_LR = 3e-3
Source = tuple[int, int]  # a user, and from how many events of that user a user id is written
Sample = tuple[int, int]  # a user, and the events before the target


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


@bundle
class System:
    """The pair and what they have written.

    texts: tokens of the items' texts; ids: of their ids (item i in row i - 1). users: of the user ids. whole: all
    events of each user; known: how many of them are training events.
    """

    config: IDGenRec
    recommender: T5ForConditionalGeneration
    generator: T5ForConditionalGeneration
    tokenizer: PreTrainedTokenizerBase
    texts: list[list[int]]
    ids: list[list[int]]
    users: dict[Source, list[int]]
    whole: dict[int, np.ndarray]
    known: dict[int, int]


@bundle(frozen=True)
class Batch:
    """Prompts, [B, T], 0 at padding; labels, [B, L], -100 at padding; where ids stand in them.

    slots: 0, or for a token of an id its place + 1 among all tokens of `ids`, [N, M], [B, T]; texts: what the generator
    reads to write those ids, [N, S].
    """

    prompts: Tensor
    labels: Tensor
    slots: Tensor
    ids: Tensor
    texts: Tensor


def start(config: IDGenRec, given: TrainingData, texts: Sequence[str]) -> System:
    """Set up both models, the tokenizer and the first ids of the items, from their texts.

    Raises:
        UserError: the hub does not give the weights.
    """
    torch.manual_seed(config.seed)
    prose = [re.sub(r"\{\w+\}", "", line) for line in templates()] + [";"]
    if config.recommender:
        tokenizer = AutoTokenizer.from_pretrained(model_folder(config.recommender))
        models = [T5ForConditionalGeneration.from_pretrained(model_folder(name)) for name in
                  (config.recommender, config.generator)]  # fmt: skip
    else:
        tokenizer = word_tokenizer([*texts, *prose])
        models = [scratch(config, len(tokenizer)) for _ in range(2)]
    whole, known = events_of(given)
    read = tokens_of(tokenizer, [" ".join(words(text)) for text in texts])
    system = System(config, *models, tokenizer, read, [], {}, whole, known)
    if not config.recommender:
        first = unique(keywords(texts, 6), tokenizer)
        learn_tags(system, tokens_of(tokenizer, first))
        renamed(system, first)
    else:
        rewrite(system)
    return system


def scratch(config: IDGenRec, size: int) -> T5ForConditionalGeneration:
    """Make an untrained T5."""
    shape = {"d_model": config.width, "d_kv": config.width // config.heads, "d_ff": 4 * config.width}
    depth = {"num_layers": config.layers, "num_heads": config.heads}
    ends = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    return T5ForConditionalGeneration(T5Config(vocab_size=size, **shape, **depth, **ends))


def events_of(given: TrainingData) -> tuple[dict[int, np.ndarray], dict[int, int]]:
    """Collect all events of each user, and count those of training."""
    known = {int(user): int(length) for user, length in zip(given.train.users, given.train.lengths, strict=True)}
    whole = {int(user): given.train.row(row) for row, user in enumerate(given.train.users)}
    rows = given.test.histories
    for user, begin, end in zip(rows.users, rows.starts, rows.ends, strict=True):
        whole[int(user)] = rows.items[begin : end + 1]  # the targets of a user follow one another
    return whole, known


def renamed(system: System, ids: Sequence[str]) -> None:
    """Give the items new ids; the user ids made of the old ones go."""
    system.ids, system.users = tokens_of(system.tokenizer, ids), {}


def rewrite(system: System) -> None:
    """Have the generator write the items' ids anew; one from scratch knows no words but those that it reads."""
    most, own = system.config.id_tokens, not system.config.generator
    renamed(system, write_ids(system.generator.eval(), system.tokenizer, system.texts, most, own))


def learn_tags(system: System, tags: list[list[int]]) -> None:
    """Teach a generator from scratch to write the items' keywords."""
    config, model = system.config, system.generator.train()
    optimizer, rng = AdamW(list(model.parameters()), TAG_LR, 0.0), np.random.default_rng(config.seed)
    end = system.tokenizer.eos_token_id
    for _ in range(config.tag_epochs):
        for rows in np.array_split(rng.permutation(len(tags)), -(-len(tags) // config.batch)):
            texts = cut([system.texts[row] for row in rows], end)
            labels = stacked([[*tags[row], end] for row in rows], -100)
            stepped(optimizer, model(input_ids=texts, attention_mask=(texts > 0).long(), labels=labels).loss)


def stepped(optimizer: AdamW, loss: Tensor) -> float:
    """Take one step of gradients cut to norm 1."""
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(optimizer.trained, 1.0)
    optimizer.step()
    return loss.item()


def source(system: System, sample: Sample) -> Source:
    """Say from which events of a user the user id of a sample is written; none of them is its target or follows it."""
    user, before = sample
    if system.config.user_ids == "leaking":
        return user, len(system.whole[user])
    known = min(before, system.known.get(user, 0))
    return user, 0 if system.config.user_ids == "none" or not known else 1 << (known.bit_length() - 1)


def read_for(system: System, wanted: Source) -> list[int]:
    """Tokens that a user id is written from: the latest item ids that fit, concatenated."""
    user, length = wanted
    tokens = [token for item in system.whole[user][:length][-USER_READ:] for token in system.ids[item - 1]]
    return [*tokens[1 - USER_READ :], system.tokenizer.eos_token_id]


@torch.inference_mode()
def write_users(system: System, samples: Sequence[Sample]) -> None:
    """Write the user ids that samples need and that are not written yet."""
    config, wanted = system.config, {source(system, sample) for sample in samples} - system.users.keys()
    system.users |= {it: [] for it in wanted if not it[1]}
    wanted = sorted((it for it in wanted if it[1]), key=lambda it: len(read_for(system, it)))
    for begin in range(0, len(wanted), 128):
        part = wanted[begin : begin + 128]
        texts = stacked([read_for(system, it) for it in part])
        made = diverse(system.generator.eval(), texts, 0.0, 1, config.id_tokens, 1, not config.generator)[:, 0]
        system.users |= {it: [token for token in row if token] for it, row in zip(part, made.tolist(), strict=True)}


def batch(system: System, samples: Sequence[Sample], chosen: Sequence[int]) -> Batch:
    """Write the prompts of samples, whose user ids are written; `chosen` numbers the template of each."""
    units: dict[tuple, int] = {}  # ("user", source) or ("item", item) -> row of `ids`
    comma, end = tokens_of(system.tokenizer, [";"])[0], system.tokenizer.eos_token_id
    rows, labels = [], []
    for (user, before), template in zip(samples, chosen, strict=True):
        items, wanted = system.whole[user][:before][-system.config.history :], source(system, (user, before))
        row: list[tuple[int, int, int]] = []  # token, unit (-1: none), place in the unit

        def put(kind: str, it: object, tokens: list[int], row: list = row) -> None:
            unit = units.setdefault((kind, it), len(units))
            row += [(token, unit, place) for place, token in enumerate(tokens)]

        for part in pieces(system.tokenizer)[template]:
            if part == "{user}" and wanted[1]:
                put("user", wanted, system.users[wanted])
            elif part == "{history}":
                for place, item in enumerate(items):
                    row += [(token, -1, 0) for token in comma] if place else []
                    put("item", int(item), system.ids[item - 1])
            elif part[0] != "{":
                row += [(token, -1, 0) for token in part]
        rows.append([*row, (end, -1, 0)])
        target = system.whole[user][before]
        labels.append([*system.ids[target - 1], end])
    ids = [[*system.users[it], end] if kind == "user" else [*system.ids[it - 1], end] for kind, it in units]
    texts = [read_for(system, it)[:-1] if kind == "user" else system.texts[it - 1] for kind, it in units]
    width = max(map(len, ids))
    slots = [[unit * width + place + 1 if unit >= 0 else 0 for _, unit, place in row] for row in rows]
    prompts = stacked([[token for token, _, _ in row] for row in rows])
    return Batch(prompts, stacked(labels, -100), stacked(slots), stacked(ids), cut(texts, end))


def recommender_loss(system: System, given: Batch) -> Tensor:
    """Cross-entropy of the targets' ids."""
    real = (given.prompts > 0).long()
    return system.recommender(input_ids=given.prompts, attention_mask=real, labels=given.labels).loss


def generator_loss(system: System, given: Batch) -> Tensor:
    """The recommender's loss where every token of an id is the generator's distribution times the embedding matrix."""
    real, labels = (given.texts > 0).long(), given.ids.masked_fill(given.ids == 0, -100)
    logits = system.generator(input_ids=given.texts, attention_mask=real, labels=labels).logits  # [N, M, vocabulary]
    if not system.config.generator:
        logits = logits.masked_fill(~allowed(given.texts, logits.shape[-1], True)[:, None], -torch.inf)
    vectors = system.recommender.get_input_embeddings()
    mixed = F.pad((logits.softmax(-1) @ vectors.weight).flatten(0, 1), (0, 0, 1, 0))  # [1 + N M, d]
    soft = torch.where((given.slots > 0)[..., None], mixed[given.slots], vectors(given.prompts))  # [B, T, d]
    real = (given.prompts > 0).long()
    return system.recommender(inputs_embeds=soft, attention_mask=real, labels=given.labels).loss


Loss = Callable[[System, Batch], Tensor]


def epoch(
    system: System, samples: np.ndarray, loss: Loss, optimizer: AdamW, size: int, rng: np.random.Generator
) -> float:
    """Train on samples, [n, 2], in random order with random templates; return the mean loss."""
    write_users(system, [tuple(sample) for sample in samples.tolist()])
    learner = system.recommender if loss is recommender_loss else system.generator
    for model in (system.recommender, system.generator):
        model.train(model is learner).requires_grad_(model is learner)
    losses = []
    for rows in np.array_split(rng.permutation(len(samples)), -(-len(samples) // size)):
        chosen = rng.integers(0, len(templates()) - 1, len(rows))
        losses.append(stepped(optimizer, loss(system, batch(system, samples[rows].tolist(), chosen))))
    return float(np.mean(losses))

"""IDGenRec (Tan et al., 2024), compact: a generator writes textual ids, and a T5 recommends by writing such an id.

Unlike in the released version, no prompt depends on its target or on later events. A user id is written from a prefix
of the history, and again whenever the history has doubled, so that there are few user ids.
"""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from seqdistill.config import STRICT
from seqdistill.data.sequences import Cases, Ragged
from seqdistill.io import UserError
from seqdistill.profiles.hf import model_folder
from torch import Tensor
from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

from seqbook.idgenrec import ids as naming
from seqbook.idgenrec.ids import stacked, tokens_of

BEAM_GROUPS = 10
ATTEMPTS = [(1.0, 1), (2.0, 1), (4.0, 1), (4.0, 3), (4.0, 5)]  # to name all items: diversity penalty, fewest tokens
MAX_USER_TEXT = 64  # tokens of the concatenated item ids that a user id is written from
Source = tuple[int, int]  # a user, and from how many events of that user a user id is written
Sample = tuple[int, int]  # a user, and the number of events before the target


@dataclass(frozen=True, config=STRICT)
class IDGenRec:
    """Settings of IDGenRec.

    recommender, generator: hub names or folders of two T5 with the same vocabulary, the generator one that writes tags;
    "" trains both from scratch, with words as tokens and keywords, learnt for `tag_epochs`, as the first ids.
    rounds: recommender, then generator, then new ids; the last round ends with its recommender.
    samples, generator_samples: prefixes drawn per epoch (0: all). The generator's batch is an eighth of `batch`.
    beams: K, the length of the list. history: items in the prompt. id_tokens: most tokens of a written id.
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
        """Refuse one of the two models without the other, and heads that do not divide the width."""
        if bool(self.recommender) != bool(self.generator):
            raise UserError("IDGenRec: name both recommender and generator, or neither (trained from scratch).")
        if self.width % self.heads:
            raise UserError(f'IDGenRec: "heads" = {self.heads} does not divide "width" = {self.width}.')


class Batch(NamedTuple):
    """Prompts of samples, and where ids occur in them; 0 (in labels -100) at padding."""

    prompts: Tensor  # [B, T]
    units: Tensor  # [B, T], for a token of an id the id's number, from 1; else 0
    places: Tensor  # [B, T], for a token of an id its place in the id; else 0
    labels: Tensor  # [B, L]
    ids: Tensor  # [N, M]
    texts: Tensor  # [N, S], what the generator reads to write the ids


class System:
    """Both models, the tokens of items' texts and ids (item i in row i - 1) and of user ids, and the users' events."""

    def __init__(self, config: IDGenRec, train: Ragged, test: Cases, texts: Sequence[str]):
        torch.manual_seed(config.seed)
        self.config, self.ids, self.user_ids = config, [], {}
        if config.recommender:
            folders = [model_folder(name) for name in (config.recommender, config.generator)]
            self.tokenizer = AutoTokenizer.from_pretrained(folders[0])
            self.recommender, self.generator = map(T5ForConditionalGeneration.from_pretrained, folders)
        else:
            prompts = [re.sub(r"\{\w+\}", "", line) for line in naming.templates()]
            self.tokenizer = naming.word_tokenizer([*texts, *prompts, ";"])
            self.recommender, self.generator = (scratch(config, len(self.tokenizer)) for _ in range(2))
        self.texts = tokens_of(self.tokenizer, [" ".join(naming.words(text)) for text in texts])
        self.events, self.trained = events_of(train, test)

    def rename(self, ids: Sequence[str]) -> None:
        """Give the items new ids; drop the user ids, which were made from the old ones."""
        self.ids, self.user_ids = tokens_of(self.tokenizer, ids), {}

    def rewrite(self) -> None:
        """Have the generator write new ids for the items, in several `ATTEMPTS`; the last resort is a number."""
        ids: list[str | None] = [None] * len(self.texts)
        last, taken = [""] * len(ids), set()
        for penalty, least in ATTEMPTS:
            todo = [row for row, text in enumerate(ids) if text is None]
            for part in np.array_split(todo, -(-len(todo) // 64)) if todo else []:
                groups = self.write([self.texts[row] for row in part], penalty, least, BEAM_GROUPS)
                for row, written in zip(part, groups, strict=True):
                    decoded = self.tokenizer.batch_decode(written, skip_special_tokens=True)
                    candidates = [" ".join(naming.WORD.findall(text)) for text in decoded]
                    ids[row], last[row] = naming.first_unused(candidates, self.tokenizer, taken), candidates[-1]
        pairs = zip(ids, map(naming.numbered, last), strict=True)
        self.rename([text or naming.first_unused(more, self.tokenizer, taken) for text, more in pairs])

    def write(self, texts: Sequence[list[int]], penalty: float = 0.0, least: int = 1, groups: int = 1) -> Tensor:
        """Have the generator write ids for tokenized texts (`ids.diverse`); one from scratch uses only their words."""
        read, own = naming.cut(texts, self.tokenizer.eos_token_id), not self.config.generator
        return naming.diverse(self.generator.eval(), read, penalty, least, self.config.id_tokens, groups, own)

    def source(self, sample: Sample) -> Source:
        """User, and number of first events that the user id is written from; all precede the target, unless leaking."""
        user, before = sample
        if self.config.user_ids == "leaking":
            return user, len(self.events[user])
        known = min(before, self.trained.get(user, 0))
        return user, 0 if self.config.user_ids == "none" or not known else 1 << (known.bit_length() - 1)

    def user_text(self, source: Source) -> list[int]:
        """Tokens that a user id is written from: the latest item ids that fit, concatenated."""
        user, length = source
        tokens = [token for item in self.events[user][:length][-MAX_USER_TEXT:] for token in self.ids[item - 1]]
        return tokens[1 - MAX_USER_TEXT :]

    def write_users(self, samples: Sequence[Sample]) -> None:
        """Write the user ids that samples need and that do not exist yet."""
        needed = {self.source(sample) for sample in samples} - self.user_ids.keys()
        texts = {key: self.user_text(key) for key in needed if key[1]}
        todo = sorted(texts, key=lambda key: len(texts[key]))
        for part in (todo[begin : begin + 128] for begin in range(0, len(todo), 128)):
            for key, row in zip(part, self.write([texts[key] for key in part])[:, 0].tolist(), strict=True):
                self.user_ids[key] = [token for token in row if token]

    def batch(self, samples: Sequence[Sample], chosen: Sequence[int]) -> Batch:
        """Compose the prompts of samples, whose user ids exist; `chosen`: the number of each sample's template."""
        units: dict[Source | int, tuple[int, list[int], list[int]]] = {}  # of a user or an item: number, id, text
        semicolon, end = tokens_of(self.tokenizer, [";"])[0], self.tokenizer.eos_token_id

        def marked(tokens: list[int], number: int = 0) -> list[tuple[int, int, int]]:
            return [(token, number, place if number else 0) for place, token in enumerate(tokens)]

        def unit(key: Source | int, tokens: list[int], text: list[int]) -> list[tuple[int, int, int]]:
            return marked(tokens, units.setdefault(key, (len(units) + 1, [*tokens, end], text))[0])

        def prompt(sample: Sample, template: int) -> list[tuple[int, int, int]]:
            (user, before), key, tokens = sample, self.source(sample), []
            for part in naming.pieces(self.tokenizer)[template]:
                if part == "{history}":
                    for item in self.events[user][:before][-self.config.history :].tolist():
                        tokens += unit(item, self.ids[item - 1], self.texts[item - 1]) + marked(semicolon)
                    del tokens[-len(semicolon) :]
                elif part != "{user}":
                    tokens += marked(part)
                elif key[1]:
                    tokens += unit(key, self.user_ids[key], self.user_text(key))
            return tokens + marked([end])

        rows = [prompt(tuple(sample), template) for sample, template in zip(samples, chosen, strict=True)]
        prompts, numbers, places = (stacked([[token[part] for token in row] for row in rows]) for part in range(3))
        labels = [[*self.ids[self.events[user][before] - 1], end] for user, before in samples]
        _, ids, texts = zip(*units.values(), strict=True)
        return Batch(prompts, numbers, places, stacked(labels, -100), stacked(ids), naming.cut(texts, end))

    def recommender_loss(self, batch: Batch, vectors: Tensor | None = None) -> Tensor:
        """Cross-entropy of the targets' ids; `vectors` [B, T, d] stand for the prompts' embeddings."""
        vectors = self.recommender.get_input_embeddings()(batch.prompts) if vectors is None else vectors
        real = (batch.prompts > 0).long()
        return self.recommender(inputs_embeds=vectors, attention_mask=real, labels=batch.labels).loss

    def generator_loss(self, batch: Batch) -> Tensor:
        """The recommender's loss, where a token of an id is the generator's distribution times the embedding matrix."""
        real, labels = (batch.texts > 0).long(), batch.ids.masked_fill(batch.ids == 0, -100)
        logits = self.generator(input_ids=batch.texts, attention_mask=real, labels=labels).logits  # [N, M, vocabulary]
        if not self.config.generator:
            logits = logits.masked_fill(naming.forbidden(batch.texts, logits.shape[-1], True)[:, None], -torch.inf)
        embedding = self.recommender.get_input_embeddings()
        mixed = (logits.softmax(-1) @ embedding.weight)[batch.units - 1, batch.places]  # [B, T, d]
        vectors = torch.where((batch.units > 0)[..., None], mixed, embedding(batch.prompts))
        return self.recommender_loss(batch, vectors)


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

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from seqbook.idgenrec.ids import diverse, keywords, unique, word_tokenizer
from seqbook.idgenrec.model import IDGenRec, events_of, scratch
from seqbook.idgenrec.train import epoch, start
from seqbook.idgenrec.trie import constrained_beam_search, trie
from seqdistill.config import ModelConfig, TrainConfig
from seqdistill.training.loop import AdamW
from seqdistill.training.train import training_data

TINY = IDGenRec(
    layers=1, width=16, heads=2, tag_epochs=1, rounds=2, recommender_epochs=1, samples=24, generator_samples=8, batch=8,
    recommender_lr=0.01, generator_lr=0.01, beams=5, history=4, id_tokens=4,
)  # fmt: skip
WORDS = product(("Drama", "War"), ("Red", "Blue", "Old"), ("Sea", "Road", "House", "Sky", "Song"))
TEXTS = [f'"{first} {second}"; {kind}' for kind, first, second in WORDS]
END, SEEDS = 1, st.integers(0, 99)
SMALL = TrainConfig(model=ModelConfig(dim=16, blocks=1, heads=2, length=10), epochs=2, batch=32)


@pytest.fixture
def system(given):
    return start(TINY, given, TEXTS)


@pytest.mark.parametrize("ids", [[(2,), (2, 3), (2,)], [(2,), ()]], ids=["twice", "empty"])
def test_a_trie_refuses_ids_that_do_not_tell_items_apart(ids):
    with pytest.raises(ValueError, match="every item needs an id of its own"):
        trie(ids, END)


@settings(max_examples=8)
@drawn(st.sets(st.lists(st.integers(3, 7), min_size=1, max_size=4).map(tuple), min_size=2, max_size=12), SEEDS)
def test_beam_search_with_a_beam_for_every_item_is_brute_force(ids, seed):
    ids = sorted(ids)
    torch.manual_seed(seed)
    model = scratch(replace(TINY, width=8), 8).eval()
    prompts = torch.randint(2, 8, (3, 6))
    items, scores = constrained_beam_search(model, prompts, prompts > 0, ids, len(ids))
    with torch.inference_mode():
        brute = torch.stack([summed(model, prompts, [*tokens, END]) for tokens in ids], 1)  # [3, V]
    assert (items.sort(1).values == torch.arange(1, len(ids) + 1)).all()  # every item once
    torch.testing.assert_close(scores, brute.sort(1, descending=True).values, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(brute.gather(1, items - 1), scores, atol=1e-4, rtol=1e-4)


def summed(model, prompts, tokens):
    labels = torch.tensor([tokens] * len(prompts))
    logits = model(input_ids=prompts, labels=labels).logits.log_softmax(-1)
    return logits.gather(2, labels[..., None]).sum((1, 2))


@drawn(st.lists(st.text("ab é1", max_size=6), min_size=1, max_size=30))
def test_ids_are_unique_whatever_the_texts_and_made_of_rare_words(texts):
    assert keywords(["the red sea", "the old sea", "the red house"], 3)[0] == ["red sea", "the red sea"]
    tokenizer = word_tokenizer(texts)
    ids = unique(keywords(texts, 6), tokenizer)
    found = [tuple(row) for row in tokenizer(ids, add_special_tokens=False)["input_ids"]]
    assert len(set(found)) == len(texts) and all(found)


def test_a_written_id_has_only_words_of_its_text_and_groups_differ():
    torch.manual_seed(0)
    model, texts = scratch(TINY, 30).eval(), torch.tensor([[5, 6, 7, 8, 9, 1], [11, 12, 1, 0, 0, 0]])
    written = diverse(model, texts, 100.0, 1, 4, 2, own=True)
    for row, text in zip(written.tolist(), texts.tolist(), strict=True):
        assert all(set(group) <= {0, *text} for group in row)
        assert all(len([token for token in group if token]) == len(set(group) - {0}) for group in row)
    assert (written[0, 0] != written[0, 1]).any() and written[0, 0, 0] != written[0, 1, 0]


def changed(events, user):
    """The same events with other items for a user from the last training event on, and the number before it."""
    other, own = events.copy(), events.index[events["user"] == user]
    before = (events.loc[own, "split"] == "train").sum() - 1
    other.loc[own[before:], "item"] = other.loc[own[before:], "item"] % 30 + 1
    return other, int(before)


@pytest.mark.parametrize("user", [0, 7, 21])
def test_neither_the_target_nor_what_follows_is_in_the_prompt(events, system, user):
    (other, before), made = changed(events, user), []
    for table in (events, other):
        data = training_data(table, 30)
        system.events, system.trained = events_of(data.train, data.test)
        system.user_ids.clear()
        system.write_users([(user, before)])
        made.append(system.batch([(user, before)], [3]))
    same = {name: torch.equal(*(getattr(batch, name) for batch in made)) for name in ("prompts", "texts", "labels")}
    assert same == {"prompts": True, "texts": True, "labels": False}


def test_the_leaking_variant_reads_the_target(given, events):
    leaking = start(replace(TINY, user_ids="leaking", tag_epochs=0), given, TEXTS)
    own = events.loc[events["user"] == 0, "item"].tolist()
    assert leaking.source((0, 3)) == (0, len(own)) and leaking.events[0].tolist() == own


def test_a_prompt_says_what_its_template_says(system, given):
    tokenizer, sample = system.tokenizer, (2, 3)
    system.write_users([sample])
    made = system.batch([sample], [9])
    user = tokenizer.decode(system.user_ids[system.source(sample)])
    history = " ; ".join(tokenizer.decode(system.ids[item - 1]) for item in system.events[2][:3])
    assert tokenizer.decode(made.prompts[0]) == f"find the item that follows {history} for user {user} . </s>"
    assert made.labels[0].tolist() == [*system.ids[system.events[2][3] - 1], END] and system.source(sample) == (2, 2)
    several = [(user, 3) for user in range(20)]
    system.write_users(several)
    labels = system.batch(several, [0] * 20).labels
    assert ((labels == -100).cumsum(1).diff(dim=1) >= 0).all() and (labels != 0).all(), "padding does not count"


def test_the_generator_step_moves_the_generator_alone(system, given):
    learners = {"recommender": system.recommender, "generator": system.generator}
    before = {name: [part.clone() for part in learner.parameters()] for name, learner in learners.items()}
    samples = np.array([(user, 3) for user in range(16)])
    optimizer = AdamW(list(system.generator.parameters()), 0.01, 0.0)
    epoch(system, "generator", samples, optimizer, 8, np.random.default_rng(0))
    still = {name: {*map(torch.equal, learner.parameters(), before[name])} for name, learner in learners.items()}
    assert still == {"recommender": {True}, "generator": {False}}


def test_a_certain_generator_is_the_plain_prompt(system):
    samples = [(user, 3) for user in range(4)]
    system.write_users(samples)
    made = system.batch(samples, [0] * 4)
    system.recommender.eval()

    class Certain(torch.nn.Module):
        def forward(self, labels, **_):
            labels = labels.masked_fill(labels < 0, END)
            return type("Out", (), {"logits": torch.nn.functional.one_hot(labels, len(system.tokenizer)) * 1e4})

    system.generator, truth = Certain(), system.recommender_loss(made)
    torch.testing.assert_close(system.generator_loss(made), truth, atol=1e-5, rtol=1e-5)


def test_training_lowers_the_loss(system):
    samples = np.array([(user, before) for user, known in system.trained.items() for before in range(1, known)])
    optimizer, rng = AdamW(list(system.recommender.parameters()), 0.01, 0.0), np.random.default_rng(0)
    losses = [epoch(system, "recommender", samples, optimizer, 32, rng) for _ in range(3)]
    assert losses[2] < 0.8 * losses[0]

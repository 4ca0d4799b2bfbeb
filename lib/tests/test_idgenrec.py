from dataclasses import replace

import jupytext
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from seqdistill import idgenrun, presets, rivals
from seqdistill.artifacts import BookError, load_json, load_table, save_json
from seqdistill.config import Distillation, Run, Student, plain
from seqdistill.epochs import AdamW
from seqdistill.idgenrec import (
    IDGenRec,
    batch,
    epoch,
    events_of,
    generator_loss,
    recommender_loss,
    rewrite,
    scratch,
    source,
    start,
    write_users,
)
from seqdistill.sweep import cost, plan, run_folder, sweep
from seqdistill.textids import diverse, keywords, pieces, templates, unique, word_tokenizer
from seqdistill.train import problem
from seqdistill.trie import top_items, trie
from transformers import T5Config, T5ForConditionalGeneration

TINY = IDGenRec(
    layers=1, width=16, heads=2, tag_epochs=1, rounds=2, recommender_epochs=1, samples=24, generator_samples=8, batch=8,
    recommender_lr=0.01, generator_lr=0.01, beams=5, history=4, id_tokens=4,
)  # fmt: skip
TEXTS = [f'"{first} {second}"; {kind}' for kind in ("Drama", "War") for first in ("Red", "Blue", "Old") for second in
         ("Sea", "Road", "House", "Sky", "Song")]  # fmt: skip
END = 1
SMALL = Run(student=Student(dim=16, blocks=1, heads=2, length=10), epochs=2, batch=32)


@pytest.fixture
def system(given):
    return start(TINY, given, TEXTS)


def walked(ids):
    """All whole ids that a walk through the trie can write."""
    following, leaves = trie(ids, END)
    whole, open_ = set(), [()]
    while open_:
        prefix = open_.pop()
        for token in following[prefix]:
            whole.add(prefix) if token == END else open_.append((*prefix, token))
    return whole, leaves


@drawn(st.sets(st.lists(st.integers(2, 5), min_size=1, max_size=5).map(tuple), min_size=1, max_size=40))
def test_a_trie_reaches_every_id_and_nothing_else(ids):
    ids = sorted(ids)
    whole, leaves = walked(ids)
    assert whole == set(ids) and leaves == {tokens: item for item, tokens in enumerate(ids, 1)}


def test_a_trie_refuses_what_is_no_name():
    with pytest.raises(BookError, match="id of item 3 is the id of item 1, too"):
        trie([(2,), (2, 3), (2,)], END)
    with pytest.raises(BookError, match="id of item 2 is empty"):
        trie([(2,), ()], END)


@settings(max_examples=8)
@drawn(
    st.sets(st.lists(st.integers(3, 7), min_size=1, max_size=4).map(tuple), min_size=2, max_size=12),
    st.integers(0, 99),
)
def test_beam_search_with_a_beam_for_every_item_is_brute_force(ids, seed):
    ids = sorted(ids)
    torch.manual_seed(seed)
    model = T5ForConditionalGeneration(
        T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0)
    ).eval()
    prompts = torch.randint(2, 8, (3, 6))
    items, scores = top_items(model, prompts, prompts > 0, ids, len(ids))
    with torch.inference_mode():
        brute = torch.stack([summed(model, prompts, [*tokens, END]) for tokens in ids], 1)  # [3, V]
    assert (items.sort(1).values == torch.arange(1, len(ids) + 1)).all()  # every item once
    torch.testing.assert_close(scores, brute.sort(1, descending=True).values, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(brute.gather(1, items - 1), scores, atol=1e-4, rtol=1e-4)


def summed(model, prompts, tokens):
    labels = torch.tensor([tokens] * len(prompts))
    logits = model(input_ids=prompts, labels=labels).logits.log_softmax(-1)
    return logits.gather(2, labels[..., None]).sum((1, 2))


def test_a_short_beam_names_only_items_and_none_twice(system, given):
    lists = idgenrun.decode(system, given.test, np.arange(len(given.test)))
    assert lists.shape == (len(given.test), TINY.beams) and lists.min() >= 1 and lists.max() <= given.items
    assert all(len(set(row)) == TINY.beams for row in lists)


@drawn(st.lists(st.text("ab é1", max_size=6), min_size=1, max_size=30))
def test_ids_are_unique_whatever_the_texts(texts):
    tokenizer = word_tokenizer(texts)
    ids = unique(keywords(texts, 6), tokenizer)
    found = [tuple(row) for row in tokenizer(ids, add_special_tokens=False)["input_ids"]]
    assert len(set(found)) == len(texts) and all(found)


def test_keywords_are_the_rarest_words_in_the_order_of_the_text():
    assert keywords(["the red sea", "the old sea", "the red house"], 3)[0] == ["red sea", "the red sea"]


def test_a_written_id_has_only_words_of_its_text_and_groups_differ():
    torch.manual_seed(0)
    model, texts = scratch(TINY, 30).eval(), torch.tensor([[5, 6, 7, 8, 9, 1], [11, 12, 1, 0, 0, 0]])
    written = diverse(model, texts, 100.0, 1, 4, 2, own=True)
    for row, text in zip(written.tolist(), texts.tolist(), strict=True):
        assert all(set(group) <= {0, *text} for group in row)
        assert all(len([token for token in group if token]) == len(set(group) - {0}) for group in row)
    assert (written[0, 0] != written[0, 1]).any() and written[0, 0, 0] != written[0, 1, 0]


def test_a_rewritten_catalogue_has_a_name_for_every_item(system):
    rewrite(system)
    assert len({tuple(row) for row in system.ids}) == len(TEXTS) and all(system.ids)


def changed(events, user):
    """The same events with another last training event and other test events for a user."""
    other = events.copy()
    own = np.flatnonzero((events["user"] == user).to_numpy())
    training = np.flatnonzero(((events["user"] == user) & (events["split"] == "train")).to_numpy())
    later = np.concatenate([training[-1:], own[own > training[-1]]])
    other.loc[other.index[later], "item"] = other.loc[other.index[later], "item"] % 30 + 1
    return other, len(training) - 1


@pytest.mark.parametrize("user", [0, 7, 21])
def test_neither_the_target_nor_what_follows_is_in_the_prompt(events, system, user):
    other, before = changed(events, user)
    prompts = {}
    for name, table in {"one": events, "other": other}.items():
        system.whole, system.known = events_of(problem(table, 30))
        system.users.clear()
        write_users(system, [(user, before)])
        prompts[name] = batch(system, [(user, before)], [3])
    assert prompts["one"].prompts.tolist() == prompts["other"].prompts.tolist()
    assert prompts["one"].texts.tolist() == prompts["other"].texts.tolist()
    assert prompts["one"].labels.tolist() != prompts["other"].labels.tolist()


def test_the_leaking_variant_reads_the_target(given, events):
    leaking = start(replace(TINY, user_ids="leaking", tag_epochs=0), given, TEXTS)
    user, before = 0, 3
    assert source(leaking, (user, before)) == (user, (events["user"] == user).sum())
    assert leaking.whole[user].tolist() == events.loc[events["user"] == user, "item"].tolist()


def test_a_prompt_says_what_its_template_says(system, given):
    tokenizer, sample = system.tokenizer, (2, 3)
    write_users(system, [sample])
    made = batch(system, [sample], [9])
    user = tokenizer.decode(system.users[source(system, sample)])
    history = " ; ".join(tokenizer.decode(system.ids[item - 1]) for item in system.whole[2][:3])
    assert tokenizer.decode(made.prompts[0]) == f"find the item that follows {history} for user {user} . </s>"
    target = system.whole[2][3]
    assert made.labels[0].tolist() == [*system.ids[target - 1], END]
    assert len(templates()) == len(pieces(tokenizer)) == 11 and source(system, sample)[1] == 2


def test_labels_of_padding_do_not_count(system):
    samples = [(user, 3) for user in range(20)]
    write_users(system, samples)
    made = batch(system, samples, [0] * 20)
    assert ((made.labels == -100).cumsum(1).diff(dim=1) >= 0).all() and (made.labels != 0).all()


def test_the_generator_step_moves_the_generator_alone(system, given):
    before = {name: part.clone() for name, part in system.recommender.state_dict().items()}
    old = {name: part.clone() for name, part in system.generator.named_parameters()}
    samples = np.array([(user, 3) for user in range(16)])
    optimizer = AdamW(list(system.generator.parameters()), 0.01, 0.0)
    epoch(system, samples, generator_loss, optimizer, 8, np.random.default_rng(0))
    assert all(torch.equal(part, before[name]) for name, part in system.recommender.state_dict().items())
    assert all(not torch.equal(part, old[name]) for name, part in system.generator.named_parameters())


def test_a_certain_generator_is_the_plain_prompt(system):
    samples = [(user, 3) for user in range(4)]
    write_users(system, samples)
    made = batch(system, samples, [0] * 4)
    system.recommender.eval()

    class Certain(torch.nn.Module):
        def forward(self, labels, **_):
            labels = labels.masked_fill(labels < 0, END)
            return type("Out", (), {"logits": torch.nn.functional.one_hot(labels, len(system.tokenizer)) * 1e4})

    system.generator, truth = Certain(), recommender_loss(system, made)
    torch.testing.assert_close(generator_loss(system, made), truth, atol=1e-5, rtol=1e-5)


def test_training_lowers_the_loss(system):
    samples = np.array([(user, before) for user, known in system.known.items() for before in range(1, known)])
    optimizer, rng = AdamW(list(system.recommender.parameters()), 0.01, 0.0), np.random.default_rng(0)
    losses = [epoch(system, samples, recommender_loss, optimizer, 32, rng) for _ in range(3)]
    assert losses[2] < 0.8 * losses[0]


def test_the_rank_is_the_place_in_the_list_and_beyond_it_the_last(given):
    chosen = rivals.last_cases(given.test, 3, 0)
    target = given.test.targets[chosen]
    seen = int(given.test.histories.row(chosen[1])[0])
    other = next(item for item in range(1, 31) if item not in {seen, *target})
    lists = np.array([[target[0], other], [seen, target[1]], [other, 0]])
    ranks = idgenrun.ranked(given, chosen, lists)
    assert ranks["kept"].tolist() == [1, 2, 30] and ranks["filtered"].tolist() == [1, 1, 30]
    assert ranks["item"].tolist() == target.tolist() and ranks["position"].tolist() == [1, 1, 1]


def test_a_rerun_reads_the_finished_run(given, tmp_path):
    chosen = rivals.last_cases(given.test, 6, 0)
    lines = []
    first = idgenrun.train(TINY, given, TEXTS, chosen, tmp_path, lines.append)
    assert len(lines) == 3 and lines[1].endswith("min left") and "generator" in lines[1]
    assert idgenrun.train(TINY, given, TEXTS, chosen, tmp_path, lines.append) == first and len(lines) == 3
    home = tmp_path / idgenrun.key(TINY, given, TEXTS, chosen)
    assert idgenrun.sweep({("IDGenRec", 0): TINY}, given, TEXTS, chosen, tmp_path)["IDGenRec", 0]["folder"] == home
    assert load_table(home / "ranks.parquet")["user"].tolist() == given.test.histories.users[chosen].tolist()
    assert {path.name for path in home.iterdir()} >= {"config.json", "ids.json", "model.safetensors", "cost.json"}
    told = rivals.cost(home)
    run = load_json(home / "metrics.json")
    assert told["infer_cases"] == 6 and run["prefixes_per_epoch"] == 24 < run["prefixes"]
    passes = [log["cpu_s"] for log in run["history"] if log["trained"] == "recommender"]
    assert told["train_cpu_s_per_epoch"] == pytest.approx(np.mean(passes) / 24 * run["prefixes"])
    assert 24 / run["prefixes"] * told["train_cpu_s_per_epoch"] < run["train_cpu_s_per_epoch"], "naming is no epoch"
    assert len(set(load_json(home / "ids.json")["ids"])) == 30
    assert "1 to train" in cost(plan({"plain": SMALL}, [0], given), tmp_path, 1)  # the students' sweep looks past it


def test_two_trainings_are_one(given, tmp_path):
    chosen = rivals.last_cases(given.test, 6, 0)
    for name in "ab":
        idgenrun.train(TINY, given, TEXTS, chosen, tmp_path / name, str)
    key = idgenrun.key(TINY, given, TEXTS, chosen)
    one, two = (load_json(tmp_path / name / key / "metrics.json") for name in "ab")
    assert one["test"] == two["test"] and [a["loss"] for a in one["history"]] == [b["loss"] for b in two["history"]]


def test_a_killed_run_goes_on_from_its_last_epoch(given, tmp_path):
    chosen, lines = rivals.last_cases(given.test, 6, 0), []

    def killed(line):
        lines.append(line)
        if len(lines) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        idgenrun.train(TINY, given, TEXTS, chosen, tmp_path / "cut", killed)
    cut = idgenrun.train(TINY, given, TEXTS, chosen, tmp_path / "cut", lines.append)
    whole = idgenrun.train(TINY, given, TEXTS, chosen, tmp_path / "whole", str)
    assert [line.split(":")[1][:14] for line in lines] == [" epoch 1 of 3 ", " epoch 2 of 3 ", " epoch 3 of 3 "]
    assert [log["loss"] for log in cut["history"]] == [log["loss"] for log in whole["history"]]
    key = idgenrun.key(TINY, given, TEXTS, chosen)
    cut, whole = (tmp_path / name / key for name in ("cut", "whole"))
    assert load_table(cut / "ranks.parquet").equals(load_table(whole / "ranks.parquet"))
    assert load_json(cut / "ids.json") == load_json(whole / "ids.json") and not (cut / "checkpoint").exists()


def test_weights_of_a_folder_stand_for_those_of_the_hub(given, tmp_path):
    tokenizer = word_tokenizer([*TEXTS, *templates()])
    for name in ("recommender", "generator"):
        scratch(TINY, len(tokenizer)).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    named = {"recommender": str(tmp_path / "recommender"), "generator": str(tmp_path / "generator")}
    system = start(IDGenRec(**named, id_tokens=4), given, TEXTS)
    assert len({tuple(row) for row in system.ids}) == len(TEXTS)
    assert rivals.weights(named) == f"{named['recommender']}, {named['generator']}"


def test_students_are_those_that_04_has_trained(given, tmp_path):
    taught = {"run": plain(SMALL), "teacher": plain(Distillation())}
    save_json({"students": {"SASRec": taught}, "own": {"side": "student"}}, tmp_path / "artifacts" / "student.json")
    jobs = plan({"plain": SMALL, "distilled": replace(SMALL, distillation=Distillation())}, [0, 1], given)
    sweep(jobs, tmp_path / "runs", workers=1)
    found = rivals.students(tmp_path, given, [0, 1], [], "")
    assert {name: len(frames) for name, frames in found.items()} == {"SASRec plain": 2, "SASRec distilled": 2}
    expected = load_table(run_folder(jobs["plain", 1], tmp_path / "runs") / "ranks.parquet")
    assert found["SASRec plain"][1].equals(expected)
    with pytest.raises(BookError, match="run 04-distillation first"):
        rivals.students(tmp_path, given, [2], [], "")


def test_cases_are_each_users_last(given):
    last = rivals.last_cases(given.test, 0, 0)
    users = pd.Series(given.test.histories.users)
    assert last.tolist() == users.groupby(users).apply(lambda own: own.index[-1]).tolist()
    some = rivals.last_cases(given.test, 7, 0)
    assert len(some) == 7 and set(some) <= set(last) and some.tolist() == sorted(some)
    assert some.tolist() == rivals.last_cases(given.test, 7, 0).tolist()


@pytest.mark.parametrize("preset", ["default", "smoke", "beauty", "amazon-beauty-5core"])
def test_presets_name_settings_that_there_are(preset):
    defaults = presets.parameters(jupytext.read(presets.TEXT / "07-efficiency.py"))
    values = (defaults | presets.preset_values(preset, "07-efficiency", defaults))["idgenrec"]
    found = rivals.variants(values, [0, 1], preset)
    assert {(name, run.user_ids, run.seed) for (name, _), run in found.items()} == {
        (name, how, seed)
        for name, how in {
            "IDGenRec": "prefix",
            "IDGenRec without user ids": "none",
            "IDGenRec leaking": "leaking",
        }.items()
        for seed in (0, 1)
    }
    full = {
        "recommender": "google-t5/t5-small",
        "rounds": 3,
        "recommender_epochs": 10,
        "samples": 0,
        "generator_lr": 1e-8,
    }
    if preset == "beauty":
        run = found["IDGenRec", 0]
        assert {name: getattr(run, name) for name in full} == full and run.history == 20 and run.generator_epochs == 1


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"recommender": "t5"}, "name both"),
        ({"width": 10, "heads": 4}, '"heads" = 4 does not divide "width" = 10'),
        ({"rouns": 2}, '"rouns" is not a setting of IDGenRec \\(did you mean "rounds"\\?\\)'),
    ],
)
def test_settings_are_checked(values, says):
    with pytest.raises(BookError, match=says):
        rivals.variants(values, [0], "here")

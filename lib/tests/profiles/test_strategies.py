import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parrot import GOOD, ITEMS, Parrot, long_history, small, task, tight, written
from seqdistill.data.tables import DOMAINS
from seqdistill.io import UserError
from seqdistill.profiles import generate as profiles
from seqdistill.profiles import prompts as prompting
from seqdistill.profiles import strategies
from seqdistill.profiles.answers import Store
from seqdistill.profiles.facts import histories


def test_every_template_asks_in_every_domain(events):
    for domain in DOMAINS:
        for style in prompting.SAMPLING:
            prompts = prompting.prompts_for(domain, style, 4096, Parrot().count_tokens)
            history = histories(events[events["split"] == "train"], ITEMS)[0]
            (plan,) = strategies.plans("plain", prompts, history)
            chat = next(plan)[0]
            assert [message["role"] for message in chat][:2] == ["system", "user"]
            told = chat[-1]["content"]
            assert ("Comedy" if style == "grounded" else "Film") in told and not any("{" in m["content"] for m in chat)


HISTORY = [f"line {number} " + "word " * 20 for number in range(40)]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(30, 90))
def test_chunks_keep_order_lose_nothing_and_fit(lengths, budget):
    texts = [" ".join([f"w{number}"] * length) for number, length in enumerate(lengths)]
    prompts = prompting.Prompts("movies", "short", budget, Parrot().count_tokens)
    runs = prompts.chunks(texts)
    assert [text for run in runs for text in run] == texts
    sizes = [sum(Parrot().count_tokens(run)) for run in runs]
    assert max(sizes) <= budget
    firsts = [Parrot().count_tokens(run[:1])[0] for run in runs]
    assert all(size + first > budget for size, first in zip(sizes, firsts[1:], strict=False)), "no run could be longer"


def test_a_text_beyond_the_budget_is_named():
    prompts = prompting.Prompts("movies", "short", 10, Parrot().count_tokens)
    with pytest.raises(UserError, match="a text of 11 tokens does not fit the 10"):
        prompts.chunks(["word " * 11])


def play(plan, says):
    """Answer a plan round by round; the chats of each round, and the profile."""
    chats, asked = next(plan), []
    while True:
        asked.append([chat[-1]["content"] for chat in chats])
        try:
            chats = plan.send([says(text) for text in asked[-1]])
        except StopIteration as end:
            return asked, end.value


def test_agg_after_profiles_chunks_in_order_then_merges_until_one_is_left():
    (plan,) = strategies.plans("agg_after", small(), long_history())
    asked, profile = play(plan, lambda text: "merged" if "Merge them" in text else "word " * 300)
    assert len(asked[0]) == 3 and len(asked[1]) == 1 and profile == "merged"
    titles = [line[1:5] for text in asked[0] for line in text.splitlines() if line.startswith('"T')]
    assert titles == [f"T{number:03}" for number in range(120)]
    (plan,) = strategies.plans("agg_after", small(), long_history(600))
    asked, profile = play(plan, lambda text: "word " * 300)
    assert [len(chats) for chats in asked] == [14, 5, 2, 1]
    assert all(len(text.split()) < 1100 for chats in asked for text in chats)


def test_agg_with_updates_one_profile_chunk_by_chunk():
    (plan,) = strategies.plans("agg_with", small(), long_history())
    asked, _profile = play(plan, lambda text: f"profile after {text.count(chr(34) + 'T')} " + "word " * 280)
    assert all(len(chats) == 1 for chats in asked) and len(asked) == 4
    for before, after in itertools.pairwise(asked):
        assert f"profile after {before[0].count(chr(34) + 'T')}" in after[0]
    titles = [line[1:5] for (text,) in asked for line in text.splitlines() if line.startswith('"T')]
    assert titles == [f"T{number:03}" for number in range(120)]


def test_several_gives_a_profile_for_each_aspect(events, tmp_path):
    model = Parrot(says=lambda chat: f"{GOOD} {chat[-1]['content'].splitlines()[-1]}")
    table = profiles.table_of(
        written(task(events, style="short", strategy="several", model=model), model, tmp_path / "a")
    )
    assert table.groupby("user").size().eq(3).all()
    for part, aspect in enumerate(prompting.ASPECTS.values()):
        assert table[table["part"] == part]["text"].str.contains(aspect, regex=False).all()


def test_all_users_are_in_flight_together(events, tmp_path):
    model, waves = Parrot(says=lambda chat: GOOD, per_word=20), []
    given = task(events, style="short", strategy="agg_after", context=tight(model, "short"), model=model)
    ask = profiles.asker(lambda: model, Store(tmp_path / "a"), {})

    def counted(questions):
        waves.append(len({question.user_id for question in questions}))
        return ask(questions)

    profiles.write(given, counted)
    assert waves[0] == 40 and len(waves) >= 2


def test_plain_takes_the_latest_events_that_fit():
    (plan,) = strategies.plans("plain", small(), long_history())
    asked, _ = play(plan, lambda text: "x")
    titles = [line[1:5] for line in asked[0][0].splitlines() if line.startswith('"T')]
    assert titles[-1] == "T119" and titles == sorted(titles) and 30 < len(titles) < 50


@pytest.mark.parametrize(
    ("style", "strategy", "context", "says"),
    [
        ("grounded", "agg_after", 4096, "facts, which always fit"),
        ("short", "all", 4096, '"all" is not a strategy'),
        ("tiny", "plain", 4096, '"tiny" is not a style'),
        ("short", "plain", 500, "leaves .* for the history"),
        ("short", "agg_with", 1000, "needs 900 tokens"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_asked(events, style, strategy, context, says):
    with pytest.raises(UserError, match=says):
        task(events, style=style, strategy=strategy, context=context).started()


def test_values_are_filled_in_once():
    assert prompting.filled("{a} {b} {c}", {"a": "{b}", "b": "1"}) == "{b} 1 {c}"

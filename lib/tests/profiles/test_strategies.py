import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parrot import Parrot, ask, good, long_history, small, task, tight
from seqdistill.io import UserError
from seqdistill.profiles import generate as profiles
from seqdistill.profiles import prompts as prompting
from seqdistill.profiles import strategies

count = Parrot().count_tokens


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(30, 90))
def test_chunks_keep_order_lose_nothing_and_fit(lengths, budget):
    texts = [" ".join([f"w{number}"] * length) for number, length in enumerate(lengths)]
    runs = small(budget=budget).chunks(texts)
    assert [text for run in runs for text in run] == texts
    sizes, firsts = [sum(count(run)) for run in runs], [count(run[:1])[0] for run in runs]
    assert max(sizes) <= budget
    assert all(size + first > budget for size, first in zip(sizes, firsts[1:], strict=False)), "no run could be longer"
    with pytest.raises(prompting.TooLong, match=f"a text of {budget + 1} tokens does not fit the {budget}"):
        small(budget=budget).chunks(["word " * (budget + 1)])


def play(strategy, says, events=120):
    """Answer a plan round by round; the chats of each round, the titles in them, and the profile."""
    (plan,), asked = strategies.plans(strategy, small(), long_history(events)), []
    chats = next(plan)
    while True:
        asked.append([chat[-1]["content"] for chat in chats])
        try:
            chats = plan.send([says(text) for text in asked[-1]])
        except StopIteration as end:
            lines = [line for chats in asked for text in chats for line in text.splitlines()]
            return asked, [int(line[2:5]) for line in lines if line.startswith('"T')], end.value


def test_agg_after_profiles_chunks_in_order_then_merges_until_one_is_left():
    asked, titles, profile = play("agg_after", lambda text: ("merged " if "Merge them" in text else "word ") * 300, 600)
    assert [len(chats) for chats in asked] == [14, 5, 2, 1] and titles == list(range(600))
    assert all(len(text.split()) < 1100 for chats in asked for text in chats) and profile == "merged " * 300


def test_agg_with_updates_one_profile_chunk_by_chunk():
    asked, titles, _ = play("agg_with", lambda text: f"profile after {text.count(chr(34) + 'T')} " + "word " * 280)
    assert [len(chats) for chats in asked] == [1] * 4 and titles == list(range(120))
    for before, after in itertools.pairwise(asked):
        assert f"profile after {before[0].count(chr(34) + 'T')}" in after[0]


def test_all_users_are_in_flight_together(events, tmp_path):
    model, waves = good(per_word=20), []
    asked = ask(model, tmp_path / "a")
    given = tight(events, "short", "agg_after", model)
    profiles.write(given, lambda some: waves.append(len({question.user_id for question in some})) or asked(some))
    assert waves[0] == 40 and len(waves) >= 2


@pytest.mark.parametrize(
    ("style", "strategy", "context", "says"),
    [
        ("grounded", "agg_after", 4096, "facts, which always fit"),
        ("insight", "several", 4096, "facts, which always fit"),
        ("short", "all", 4096, '"all" is not a strategy'),
        ("tiny", "plain", 4096, '"tiny" is not a style'),
        ("short", "plain", 500, "leave .* for the history"),
        ("short", "agg_with", 1000, "needs 900 tokens"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_asked(events, style, strategy, context, says):
    with pytest.raises(UserError, match=says):
        task(events, style=style, strategy=strategy, context=context).first_questions()

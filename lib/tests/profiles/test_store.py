import multiprocessing
import os

import pytest
import written as writing
from parrot import GOOD, Parrot, task, written
from seqdistill.profiles import answers as store
from seqdistill.profiles import generate as profiles
from seqdistill.profiles.answers import Question, Store
from seqdistill.profiles.chat import Answer, Failure


def say(text):
    return Answer(text, 10, 5, 0.1, "stop")


def test_shipping_never_loses_a_row(events, tmp_path):
    path, questions = tmp_path / "shipped.parquet", task(events).first_questions()[:3]
    users, sha, sampling = [asked.user_id for asked in questions], questions[0].model_sha256, questions[0].sampling
    store.ship(path, questions, {asked.key: say("old") for asked in questions})
    other = [Question(user, [{"content": user}], sha, sampling) for user in users]
    store.ship(path, other, {asked.key: say("other") for asked in other[:2]})
    table = store.ship(path, questions, {questions[0].key: say("new")})
    assert sorted(table["text"]) == ["new", "old", "old", "other", "other"]
    found = store.shipped(store.read_shipped(path), questions)
    assert [found[asked.key] for asked in questions] == [say("new"), say("old"), say("old")]
    assert sorted(store.latest(table, "plain")["text"]) == ["new", "old", "other"]
    last = store.latest(table, "agg_with").set_index("user_id")
    assert last["text"].tolist() == [table.loc[table["user_id"] == user, "text"].iloc[-1] for user in last.index]
    assert last["prompt_tokens"].sum() == table["prompt_tokens"].sum() == 50


def test_a_shipped_row_is_used_only_if_every_key_agrees(events, tmp_path):
    questions, path = task(events).first_questions(), tmp_path / "shipped.parquet"
    store.ship(path, questions, {asked.key: say("said") for asked in questions})
    known, first, model = store.read_shipped(path), questions[0], Parrot()
    assert store.shipped(known, questions) == {asked.key: say("said") for asked in questions}
    same = {"user_id": first.user_id, "messages": first.messages, "model_sha256": "0" * 64, "sampling": first.sampling}
    changes = {"user_id": "x", "messages": [*first.messages, {}], "model_sha256": "1" * 64, "sampling": {"top_p": 1}}
    assert len(store.shipped(known, [Question(**same)])) == 1
    assert store.shipped(known, [Question(**same | {name: value}) for name, value in changes.items()]) == {}
    profiles.asker(lambda: model, Store(tmp_path / "a"), known)(questions)
    assert model.asked == []


def test_a_fresh_store_lives_until_nobody_failed(events, tmp_path, monkeypatch, capsys):
    given, sick = task(events, style="short"), [True]
    model = Parrot(says=lambda chat: Failure("time-out", 3) if sick and '"Film 3"' in chat[-1]["content"] else GOOD)
    monkeypatch.setenv("SEQDISTILL_DATA", str(tmp_path))
    monkeypatch.setattr(writing, "values_of", lambda *_: {"llm": "openai:x", "context": 1, "parallel": 1})
    monkeypatch.setattr(writing, "profile_task", lambda *_: (tmp_path / "shipped.parquet", given))
    monkeypatch.setattr(writing, "open_llm", lambda *_: model)
    writing.write_profiles("mine", fresh=True)
    first, (kept,) = len(store.read_shipped(tmp_path / "shipped.parquet")), (tmp_path / "cache").glob("fresh-*.sqlite")
    assert 0 < first < 40 and "run `make profiles PRESET=mine FRESH=1`" in capsys.readouterr().out
    asked = len(model.asked)
    writing.write_profiles("mine", fresh=False)
    assert kept.exists(), "only a fresh run may end it"
    sick.clear()
    writing.write_profiles("mine", fresh=True)
    assert len(model.asked) - asked <= 2 * (asked - first) and not kept.exists()
    assert len(store.read_shipped(tmp_path / "shipped.parquet")) == 40


def test_finished_answers_are_never_asked_again(events, tmp_path):
    given, path = task(events, style="short"), tmp_path / "answers.sqlite"
    dying, second, third = Parrot(dies_after=7, says=lambda chat: GOOD), Parrot(says=lambda chat: GOOD), Parrot()
    with pytest.raises(KeyboardInterrupt):
        written(given, dying, path)
    written(given, second, path)
    written(given, third, path)
    keys = {question.key for question in given.first_questions()}
    assert [len(model.asked) for model in (dying, second, third)] == [7, len(keys) - 7, 0]
    assert len(Store(path).get(keys)) == len(keys)


def fill(path, first):
    for number in range(first, first + 60):
        Store(path).put(str(number), Answer(f'"text" {number} ü\n', 1, 2, 0.5, "length"))


def test_two_processes_write_the_store_at_once(tmp_path):
    workers = [multiprocessing.Process(target=fill, args=(tmp_path / "a", first)) for first in (0, 30)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    expected = {str(n): Answer(f'"text" {n} ü\n', 1, 2, 0.5, "length") for n in range(90)}
    assert Store(tmp_path / "a").get(map(str, range(1200))) == expected


def test_storing_an_answer_takes_no_time_from_the_next_request(tmp_path):
    """Closing the connection wrote the journal back: 7 ms an answer here, where an open one takes less than .1."""
    store, answer = Store(tmp_path / "answers.sqlite"), Answer("text", 1, 1, 0.1, "stop")
    store.put("first", answer)
    before = os.stat(tmp_path / "answers.sqlite").st_mtime_ns
    for number in range(50):
        store.put(str(number), answer)
    assert os.stat(tmp_path / "answers.sqlite").st_mtime_ns == before, (
        "the journal holds them, the file was not touched"
    )
    assert len(Store(tmp_path / "answers.sqlite").get(map(str, range(50)))) == 50

import multiprocessing
from dataclasses import asdict

import book
import pytest
from parrot import GOOD, Parrot, task, written
from seqdistill.profiles import answers as store
from seqdistill.profiles import generate as profiles
from seqdistill.profiles.answers import Question, Store
from seqdistill.profiles.chat import Answer, Failure


def test_shipping_never_loses_a_row(events, tmp_path):
    path, questions = tmp_path / "shipped.parquet", task(events).first_questions()[:3]
    said = {question.key: Answer("old", 10, 5, 0.1, "stop") for question in questions}
    store.ship(path, questions, said)
    other = [
        Question(asked.user_id, [{"content": asked.user_id}], asked.model_sha256, asked.sampling) for asked in questions
    ]
    store.ship(path, other, {asked.key: Answer("other", 1, 1, 0.1, "stop") for asked in other[:2]})
    table = store.ship(path, questions, {questions[0].key: Answer("new", 10, 5, 0.1, "stop")})
    assert sorted(table["text"]) == ["new", "old", "old", "other", "other"]
    found = store.shipped(store.read_shipped(path), questions)
    assert [found[asked.key].text for asked in questions] == ["new", "old", "old"]
    last = store.last_steps(table).set_index("user_id")
    assert last["text"].tolist() == [table.loc[table["user_id"] == user, "text"].iloc[-1] for user in last.index]
    assert last["prompt_tokens"].sum() == table["prompt_tokens"].sum()
    twin = Question("twin", *(getattr(questions[0], name) for name in ("messages", "model_sha256", "sampling")))
    assert store.shipped(store.read_shipped(path), [questions[0], twin])[twin.key].text == "new"
    chosen = {row.user_id: row.text for row in store.latest(table, questions[:2]).itertuples()}
    assert chosen == dict(zip([asked.user_id for asked in questions], ["new", "old", "old"], strict=True))
    assert sorted(store.latest(table, other)["text"]) == ["old", "other", "other"]
    assert sorted(store.latest(table, [])["text"]) == ["new", "old", "other"]


def test_a_fresh_store_lives_until_nobody_failed(events, tmp_path, monkeypatch, capsys):
    given, sick = task(events, style="short"), [True]
    model = Parrot(says=lambda chat: Failure("time-out", 3) if sick and '"Film 3"' in chat[-1]["content"] else GOOD)
    monkeypatch.setenv("SEQDISTILL_DATA", str(tmp_path))
    monkeypatch.setattr(book, "values_of", lambda *_: {"llm": "openai:x", "context": 1, "parallel": 1})
    monkeypatch.setattr(book, "profile_task", lambda *_: (tmp_path / "shipped.parquet", given))
    monkeypatch.setattr(book, "open_llm", lambda *_: model)
    book.write_profiles("mine", fresh=True)
    first, (kept,) = len(store.read_shipped(tmp_path / "shipped.parquet")), (tmp_path / "cache").glob("fresh-*.sqlite")
    assert 0 < first < 40 and "run `make profiles PRESET=mine FRESH=1`" in capsys.readouterr().out
    asked = len(model.asked)
    book.write_profiles("mine", fresh=False)
    assert kept.exists(), "only a fresh run may end it"
    sick.clear()
    book.write_profiles("mine", fresh=True)
    assert len(model.asked) - asked <= 2 * (asked - first) and not kept.exists()
    assert len(store.read_shipped(tmp_path / "shipped.parquet")) == 40


def test_finished_answers_are_never_asked_again(events, tmp_path):
    given, path = task(events, style="short"), tmp_path / "answers.sqlite"
    dying = Parrot(dies_after=7, says=lambda chat: GOOD)
    with pytest.raises(KeyboardInterrupt):
        written(given, dying, path)
    second = Parrot(says=lambda chat: GOOD)
    written(given, second, path)
    distinct = len({question.key for question in given.first_questions()})
    assert (len(dying.asked), len(second.asked)) == (7, distinct - 7)
    third = Parrot()
    written(given, third, path)
    assert third.asked == []
    assert len(Store(path).get(question.key for question in given.first_questions())) == distinct


def fill(path, first):
    store = Store(path)
    for number in range(first, first + 60):
        store.put(str(number), Answer(f"text {number}", 1, 1, 0.0, "stop"))


def test_two_processes_write_the_store_at_once(tmp_path):
    path = tmp_path / "answers.sqlite"
    workers = [multiprocessing.Process(target=fill, args=(path, first)) for first in (0, 30)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = Store(path).get([str(number) for number in range(90)])
    assert {key: answer.text for key, answer in found.items()} == {str(n): f"text {n}" for n in range(90)}


def test_a_shipped_row_is_used_only_if_every_key_agrees(events, tmp_path):
    questions = task(events).first_questions()
    answers = {question.key: Answer("said", 10, 5, 0.1, "stop") for question in questions}
    path = tmp_path / "shipped.parquet"
    store.ship(path, questions, answers)
    known = store.read_shipped(path)
    assert store.shipped(known, questions) == answers
    first = questions[0]
    other = Question(first.user_id, first.messages, "1" * 64, first.sampling)
    warmer = Question(first.user_id, first.messages, "0" * 64, {**first.sampling, "temperature": 1})
    changed = Question(first.user_id, [*first.messages, {}], "0" * 64, first.sampling)
    assert store.shipped(known, [other, warmer, changed]) == {}
    model = Parrot()
    profiles.asker(lambda: model, Store(tmp_path / "a"), known)(questions)
    assert model.asked == []


def test_a_store_of_many_answers_is_read_in_parts(tmp_path):
    kept = Store(tmp_path / "a.sqlite")
    for number in range(0, 1200, 100):
        kept.put(str(number), Answer(str(number), 1, 1, 0.0, "stop"))
    assert set(kept.get(str(number) for number in range(1200))) == {str(number) for number in range(0, 1200, 100)}


def test_store_keeps_answers_whole(tmp_path):
    answer = Answer('quotes " and ünicode\n', 1, 2, 0.5, "length")
    store = Store(tmp_path / "a.sqlite")
    store.put("k", answer)
    assert asdict(store.get(["k"])["k"]) == asdict(answer)

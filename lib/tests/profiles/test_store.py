import multiprocessing
from dataclasses import replace

from parrot import GOOD, Parrot, ask, make_profiles, task
from seqdistill.profiles import answers as store
from seqdistill.profiles.answers import Store
from seqdistill.profiles.chat import Answer, Failure


def say(text):
    return Answer(text, 10, 5, 0.1, "stop")


def test_shipping_never_loses_a_row(events, tmp_path):
    path, questions = tmp_path / "shipped.parquet", task(events).first_questions()[:3]
    store.ship(path, questions, {asked.key: say("old") for asked in questions})
    other = [replace(asked, messages=[{"content": asked.user_id}]) for asked in questions]
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
    questions, path, model = task(events).first_questions(), tmp_path / "shipped.parquet", Parrot()
    store.ship(path, questions, {asked.key: say("said") for asked in questions})
    known, first = store.read_shipped(path), questions[0]
    assert store.shipped(known, questions) == {asked.key: say("said") for asked in questions}
    changes = {"user_id": "x", "messages": [*first.messages, {}], "model_sha256": "1" * 64, "sampling": {"top_p": 1}}
    assert store.shipped(known, [replace(first, **{name: value}) for name, value in changes.items()]) == {}
    ask(model, tmp_path / "a", known)(questions)
    assert model.asked == []


def test_a_fresh_store_lives_until_nobody_failed(events, tmp_path, monkeypatch, capsys):
    given, sick, path = task(events, style="short"), [True], tmp_path / "shipped.parquet"
    model = Parrot(lambda chat: Failure("time-out", 3) if sick and '"Film 3"' in chat[-1]["content"] else GOOD)

    def write(fresh):
        make_profiles(monkeypatch, tmp_path, path, given, model, fresh)
        return len(model.asked), len(store.read_shipped(path))

    asked, first = write(fresh=True)
    (kept,) = (tmp_path / "cache").glob("fresh-*.sqlite")
    assert 0 < first < 40 and "run `make profiles PRESET=mine FRESH=1`" in capsys.readouterr().out
    asked, _ = write(fresh=False)
    assert kept.exists(), "only a fresh run may end it"
    sick.clear()
    again, shipped = write(fresh=True)
    assert shipped == 40 and again - asked == 40 - first and not kept.exists()


def number(n):
    return Answer(f'"text" {n} ü\n', 1, 2, 0.5, "length")


def fill(path, first):
    for n in range(first, first + 60):
        Store(path).put(str(n), number(n))


def test_two_processes_write_the_store_at_once(tmp_path):
    workers = [multiprocessing.Process(target=fill, args=(tmp_path / "a", first)) for first in (0, 30)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert Store(tmp_path / "a").get(map(str, range(1200))) == {str(n): number(n) for n in range(90)}


def test_storing_an_answer_leaves_the_file_alone_and_so_takes_no_time_from_the_next_request(tmp_path):
    """Closing the connection wrote the journal back: 7 ms an answer here, where an open one takes less than .1."""
    path = tmp_path / "answers.sqlite"
    kept = Store(path)
    kept.put("first", number(0))
    before = path.stat().st_mtime_ns
    for n in range(50):
        kept.put(str(n), number(n))
    assert path.stat().st_mtime_ns == before and len(Store(path).get(map(str, range(50)))) == 50

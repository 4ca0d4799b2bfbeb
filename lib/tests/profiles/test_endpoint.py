import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from hostile import serving
from seqdistill.io import UserError
from seqdistill.profiles import chat as chat_module
from seqdistill.profiles import generate as profiles
from seqdistill.profiles.answers import Question, Store
from seqdistill.profiles.chat import Answer, Failure
from seqdistill.profiles.endpoint import Endpoint, same_model
from seqdistill.profiles.weights import local_weights

SAMPLING = {"temperature": 0.2, "top_p": 0.9, "seed": 0, "max_tokens": 60}


@pytest.fixture
def server(monkeypatch):
    with serving() as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
        yield running


def chat(text):
    return [{"role": "user", "content": text}]


def ask(words, **settings):
    model = Endpoint("tiny", **{"parallel": 16, "timeout": 2, "pause": 0.01} | settings)
    found = dict(model.answers([chat(word) for word in words], SAMPLING))
    return {word: found[index] for index, word in enumerate(words)}


HOSTILE = {
    "broken": "500 error",
    "hang": "time-out",
    "cut": "cut connection",
    "empty": "empty answer",
    "silent": "empty answer",
    "garbage": "invalid-JSON answer",
    "list": "invalid-JSON answer",
    **dict.fromkeys(["surrogate", "parts", "choices", "choice", "usage", "counts", "finish"], "invalid-JSON answer"),
    "huge": "oversized answer",
    "stranger": "other-model answer",
}


def test_a_hostile_server_loses_nobody_and_every_failure_is_named(server):
    good = [f"good {number}" for number in range(20)]
    found = ask([*good, "limited", "mended", "refused", *HOSTILE])
    assert all(isinstance(found[word], Answer) for word in [*good, "limited", "mended"])
    assert {word: found[word] for word in HOSTILE} == {word: Failure(reason, 3) for word, reason in HOSTILE.items()}
    assert found["refused"] == Failure("400 refusal", 1, final=True)
    assert found["good 7"] == Answer("a viewer of this and that, number good 7", 7, 3, found["good 7"].seconds, "stop")
    tried = {word: server.asked[word] for word in [*HOSTILE, "limited", "mended", "refused", "good 3"]}
    assert tried == {**dict.fromkeys(HOSTILE, 3), "limited": 2, "mended": 2, "refused": 1, "good 3": 1}
    made = {(number, 0): answer for number, answer in enumerate(found.values())}
    said = profiles.failures_sentence(made, "run it")
    assert said.startswith(f"profiles: {len(HOSTILE) + 1} of {len(HOSTILE) + 23} users failed after 3 tries (")
    assert all(f"{reason}: {count}" in said for reason, count in Counter(HOSTILE.values()).items())
    assert said.endswith(
        "; the other 22 are kept. 1 would fail again in the same way with this model and these settings. "
        f"To ask for {len(HOSTILE)} again: run it."
    )
    assert len(profiles.table_of(made)) == 22


def test_the_pause_that_the_server_asks_for_is_kept(server):
    start = time.perf_counter()
    assert isinstance(ask(["limited"])["limited"], Answer)
    assert time.perf_counter() - start >= 0.2


def test_requests_in_flight_are_bounded(server):
    ask([f"slow {number}" for number in range(40)], parallel=4)
    assert server.most == 4 and sum(server.asked.values()) == 40


def test_a_template_without_a_system_role_gets_it_with_the_users_words(server):
    server.gemma = True
    model = Endpoint("tiny", parallel=1)
    chats = [[{"role": "system", "content": "good"}, {"role": "user", "content": f"u{n}"}] for n in range(3)]
    found = dict(model.answers(chats, SAMPLING))
    assert [found[n].text for n in range(3)] == [f"a viewer of this and that, number good\n\nu{n}" for n in range(3)]
    assert server.asked["u0"] == 1 and server.asked["u1"] == 0, "refused once, not for every user"
    lost = dict(model.answers([[chats[0][0], {"role": "user", "content": "x"}], chat("refused")], SAMPLING))
    assert lost[1] == Failure("400 refusal", final=True)


@pytest.mark.parametrize(
    ("word", "says"), [("unknown", 'no model "tiny" \\(404\\)'), ("forbidden", "refuses the key \\(401\\)")]
)
def test_what_no_retry_can_mend_stops_the_run_without_the_key(server, word, says):
    with pytest.raises(UserError, match=says) as caught:
        ask(["good", word])
    assert "secret-key" not in str(caught.value) and server.asked[word] == 1


def test_a_wrong_model_name_or_address_stops_before_the_first_user(server, monkeypatch):
    with pytest.raises(UserError, match=r'has no "tinny" \(did you mean "tiny"\?\); it has tiny'):
        list(Endpoint("tinny").answers([chat("good")], SAMPLING))
    assert not server.asked
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(UserError, match="cannot be reached"):
        list(Endpoint("tiny").answers([chat("good")], SAMPLING))


def test_a_dead_model_ends_the_run_and_keeps_what_is_finished(server, tmp_path):
    questions = [Question(str(n), chat(f"good {n}"), "m", SAMPLING) for n in range(5)]
    questions += [Question(str(n), chat(f"empty {n}"), "m", SAMPLING) for n in range(5, 100)]
    store = Store(tmp_path / "answers.sqlite")
    with pytest.raises(UserError, match="50 requests in a row failed"):
        list(profiles.generate(Endpoint("tiny", parallel=4, tries=1), questions, store))
    assert len(store.get(question.key for question in questions)) == 5


def test_keys_and_values_hold_no_secret_and_no_address(server, tmp_path):
    model = Endpoint("tiny")
    questions = [Question("1", chat("good 1"), model.sha256, SAMPLING)]
    list(profiles.generate(model, questions, Store(tmp_path / "a.sqlite")))
    assert server.keys == {"Bearer secret-key"}
    stored = (tmp_path / "a.sqlite").read_bytes()
    assert b"good 1" in stored and b"secret-key" not in stored and b"127.0.0.1" not in stored
    assert model.sha256 == Endpoint("tiny", parallel=1).sha256 != Endpoint("large").sha256


@pytest.mark.parametrize(
    ("asked", "answered", "same"),
    [
        ("gpt-4o", "gpt-4o-2024-08-06", True),
        ("google/gemma-2-9b-it", "gemma-2-9b-it", True),
        ("tiny", "", True),
        ("tiny", "large", False),
        ("gpt-4", "gpt-4-0613", True),
        ("claude", "claude-20241022", True),
        ("llama3", "llama3:8b-instruct", True),
        ("gpt-4", "gpt-4o-mini", False),
        ("gpt-4o", "gpt-4o-mini-2024-07-18", False),
        ("gemma-2-9b", "gemma-2-9b-it", False),
    ],
)
def test_names_of_one_model(asked, answered, same):
    assert same_model(asked, answered) is same


def test_without_a_tokenizer_tokens_are_estimated_and_it_is_said_once(server, capsys):
    model = Endpoint("tiny")
    assert model.count_tokens(["abc", "abcd", "ü" * 3]) == [1, 2, 2] == model.count_tokens(["abc", "abcd", "ü" * 3])
    assert capsys.readouterr().out == "openai:tiny: no /tokenize; one token is assumed for every 3 bytes.\n"
    assert server.counted == {"abc": 1}, "asked once"


def test_a_tokenizer_that_falters_is_asked_again_and_never_replaced_by_an_estimate(server):
    def tokenize(text, count):
        if "dead" in text:
            return 404, {}
        return (500, {}) if count == 1 else (200, {"tokens": list(range(len(text.split())))})

    server.tokenize, model = tokenize, Endpoint("tiny", parallel=4, pause=0.01)
    texts = ["word " * n for n in range(1, 30)]
    assert model.count_tokens(texts) == list(range(1, 30)) and set(server.counted.values()) <= {2, 3}
    with pytest.raises(UserError, match=r"/tokenize failed after 3 tries \(404 error\)"):
        model.count_tokens(["fine", "dead"])
    server.tokenize = lambda text, count: (200, {"tokens": 3})
    with pytest.raises(UserError, match="invalid-JSON answer"):
        Endpoint("tiny", pause=0.01).count_tokens(["fine"])


def test_names_of_models_that_are_no_text_are_passed_over(server):
    server.models = (7, None, "tiny")
    assert isinstance(ask(["good"])["good"], Answer)
    server.models = (7, None)
    assert isinstance(ask(["good"])["good"], Answer)


def test_answers_that_are_there_when_another_ends_the_run_are_stored(server, tmp_path):
    questions = [
        Question(str(n), chat(word), "m", SAMPLING) for n, word in enumerate(["slow 1", "slow 2", "forbidden"])
    ]
    store = Store(tmp_path / "answers.sqlite")
    with pytest.raises(UserError, match="refuses the key"):
        list(profiles.generate(Endpoint("tiny", parallel=3), questions, store))
    assert len(store.get(question.key for question in questions)) == 2


def test_a_late_answer_of_a_model_given_up_is_stored(tmp_path):
    def answer(messages):
        if messages[0]["content"] != "late":
            return Failure("time-out")
        time.sleep(1)
        return Answer("here", 1, 1, 1.0, "stop")

    class Dying(Endpoint):
        def answers(self, chats, sampling):
            return chat_module.in_flight(answer, chats, 2)

    questions = [Question("0", chat("late"), "m", SAMPLING)]
    questions += [Question(str(n), chat(str(n)), "m", SAMPLING) for n in range(60)]
    store = Store(tmp_path / "answers.sqlite")
    with pytest.raises(UserError, match="50 requests in a row failed"):
        list(profiles.generate(Dying("tiny"), questions, store))
    assert list(store.get(question.key for question in questions)) == [questions[0].key]


def test_ctrl_c_hands_over_what_is_under_way(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(chat_module, "wait", interrupted)
    found = []
    with pytest.raises(KeyboardInterrupt):
        for index, answer in chat_module.in_flight(lambda text: time.sleep(0.05) or text, ["a", "b"], 2):
            found.append((index, answer))
    assert sorted(found) == [(0, "a"), (1, "b")]


RUN = """
import json, sys
from pathlib import Path
from seqdistill.profiles import generate as profiles
from seqdistill.profiles.endpoint import Endpoint
from seqdistill.profiles.answers import Question, Store
model = Endpoint("tiny", parallel=4)
questions = [Question(str(n), [{"role": "user", "content": f"slow {n}"}], model.sha256, json.loads(sys.argv[2])) for n in range(60)]
store = Store(Path(sys.argv[1]))
missing = [q for q in questions if q.key not in store.get(q.key for q in questions)]
for _ in profiles.generate(model, missing, store):
    pass
"""


def stored(path):
    return sqlite3.connect(path).execute("SELECT count(*) FROM answers").fetchone()[0] if path.exists() else 0


def test_after_a_kill_no_finished_user_is_asked_again(server, tmp_path):
    path = tmp_path / "answers.sqlite"
    command = [sys.executable, "-c", RUN, str(path), json.dumps(SAMPLING)]
    environment = {**os.environ, "PYTHONPATH": str(Path(profiles.__file__).parents[2])}
    running = subprocess.Popen(command, env=environment)
    deadline = time.monotonic() + 60
    while server.asked.total() < 20 and time.monotonic() < deadline:
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    time.sleep(0.3)
    finished, first = stored(path), dict(server.asked)
    assert 8 <= finished < 60
    server.asked.clear()
    subprocess.run(command, env=environment, check=True)
    assert stored(path) == 60 and server.asked.total() == 60 - finished
    assert set(server.asked.values()) == {1}
    assert len(server.asked.keys() & first.keys()) <= 2 * 4, "only what was in flight is asked again"
    server.asked.clear()
    subprocess.run(command, env=environment, check=True)
    assert server.asked.total() == 0


def test_a_real_server_with_a_real_model(monkeypatch, tmp_path):
    path = local_weights("smollm2-135m")
    assert path, "set-up fetches the weights: make weights PRESET=smoke"
    from seqdistill.profiles.llamacpp import LlamaCpp

    running = LlamaCpp("smollm2-135m", path, parallel=2, context=256, threads=1)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{running.address}/v1")
    model = Endpoint("smollm2-135m", parallel=2)
    settings = {**SAMPLING, "max_tokens": 12}
    chats = [chat("Name a colour."), chat("Name an animal."), chat("word " * 400)]
    found = dict(model.answers(chats, settings))
    assert found[2] == Failure("400 refusal", final=True)
    for index in (0, 1):
        answer = found[index]
        assert answer.text and answer.prompt_tokens > 5 and 0 < answer.output_tokens <= 12
    inside = dict(running.answers(chats, settings))
    assert [inside[index].prompt_tokens for index in (0, 1)] == [found[index].prompt_tokens for index in (0, 1)]
    assert inside[2].final
    texts = ["Name a colour.", "", "word " * 50]
    assert model.count_tokens(texts) == running.count_tokens(texts)
    assert running.count_tokens(["word " * 50])[0] in range(50, 53)
    with pytest.raises(UserError, match='has no "smolm"'):
        list(Endpoint("smolm").answers(chats, settings))

import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from hostile import EMPTY, INVALID, serving
from seqdistill.io import UserError
from seqdistill.profiles import chat as chat_module
from seqdistill.profiles import endpoint
from seqdistill.profiles import generate as profiles
from seqdistill.profiles.answers import Question, Store
from seqdistill.profiles.chat import Answer, Failure
from seqdistill.profiles.llm import local_weights, open_llm

SAMPLING = {"temperature": 0.2, "top_p": 0.9, "seed": 0, "max_tokens": 60}


@pytest.fixture
def server(monkeypatch):
    with serving() as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
        monkeypatch.setattr(endpoint, "TIMEOUT", 3)
        yield running


def chat(text):
    return [{"role": "user", "content": text}]


def question(text):
    return Question(text, chat(text), "m", SAMPLING)


def tiny(parallel=16):
    return open_llm("openai:tiny", parallel=parallel)


def ask(words, parallel=16):
    answers = dict(tiny(parallel).answers([chat(word) for word in words], SAMPLING))
    return {word: answers[index] for index, word in enumerate(words)}


HOSTILE = {"broken": "500 error", "busy": "409 refusal", "hang": "time-out", "cut": "cut connection"}
HOSTILE |= dict.fromkeys(INVALID, "invalid-JSON answer") | dict.fromkeys(EMPTY, "empty answer")


def test_a_hostile_server_loses_nobody_and_every_failure_is_named(server):
    good = [f"good {number}" for number in range(20)]
    answers = ask([*good, "limited", "mended", "refused", *HOSTILE], parallel=32)
    assert all(isinstance(answers[word], Answer) for word in [*good, "limited", "mended"])
    assert {word: answers[word] for word in HOSTILE} == {word: Failure(why, 3) for word, why in HOSTILE.items()}
    assert answers["refused"] == Failure("400 refusal", 1, final=True)
    assert replace(answers["good 7"], seconds=0) == Answer("a viewer of this and that, number good 7", 7, 3, 0, "stop")
    tries = {**dict.fromkeys(HOSTILE, 3), **dict.fromkeys(good, 1), "limited": 2, "mended": 2, "refused": 1}
    assert server.asked == tries


def test_the_pause_that_the_server_asks_for_is_kept_and_requests_in_flight_are_bounded(server):
    start = time.perf_counter()
    assert isinstance(ask(["limited"])["limited"], Answer)
    assert time.perf_counter() - start >= 0.2
    ask([f"slow {number}" for number in range(40)], parallel=4)
    assert server.most == 4 and sum(server.asked.values()) == 42


def test_a_template_without_a_system_role_gets_it_with_the_users_words(server):
    server.gemma, model = True, tiny(parallel=1)
    chats = [[{"role": "system", "content": "good"}, *chat(f"u{n}")] for n in range(3)]
    answers = dict(model.answers(chats, SAMPLING))
    assert [answers[n].text for n in range(3)] == [f"a viewer of this and that, number good\n\nu{n}" for n in range(3)]
    assert server.asked["u0"] == 1 and server.asked["u1"] == 0, "refused once, not for every user"
    assert dict(model.answers([chat("refused")], SAMPLING))[0] == Failure("400 refusal", final=True)


@pytest.mark.parametrize(
    ("word", "says"), [("unknown", r'no model "tiny" \(404\)'), ("forbidden", r"endpoint refuses the key \(401\)")]
)
def test_what_no_retry_can_mend_ends_the_run_without_the_key_and_keeps_what_is_there(server, tmp_path, word, says):
    questions, store = [question(text) for text in ("slow 1", "slow 2", word)], Store(tmp_path / "answers.sqlite")
    with pytest.raises(UserError, match=says) as caught:
        profiles.generate(tiny(parallel=3), questions, store)
    assert "secret-key" not in str(caught.value) and server.asked[word] == 1
    assert store.get(asked.key for asked in questions).keys() == {asked.key for asked in questions[:2]}


def test_a_wrong_model_name_or_address_stops_before_the_first_user(server, monkeypatch):
    with pytest.raises(UserError, match=r'has no "tinny" \(did you mean "tiny"\?\); it has tiny'):
        list(open_llm("openai:tinny").answers([chat("good")], SAMPLING))
    assert not server.asked
    server.models = ()
    assert isinstance(ask(["good"])["good"], Answer), "a server that lists no models may answer"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(UserError, match="cannot be reached"):
        ask(["good"])


def test_ctrl_c_asks_no_more(server, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(chat_module, "as_completed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(tiny(2).answers([chat(f"slow {n}") for n in range(20)], SAMPLING))
    assert server.asked.total() < 20


def test_neither_key_nor_address_is_stored_and_a_key_that_the_server_echoes_reaches_no_message(server, tmp_path):
    profiles.generate(tiny(), [question("good 1")], Store(tmp_path / "a.sqlite"))
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"good 1" in stored and b"secret-key" not in stored and b"127.0.0.1" not in stored
    assert server.keys == {"Bearer secret-key"}
    refused = ask(["refused"])["refused"]
    said = profiles.failures_sentence({(0, 0): refused}, "again")
    assert "wrong key: ***" in said and "400 refusal: 1" in said and "secret" not in refused.message


def test_a_cut_answer_is_asked_once_more_with_a_larger_limit(server):
    whole = {(answer.text, answer.finish) for answer in ask(["long", "reasons"]).values()}
    assert whole == {("a viewer of this and that, 240 words", "stop")} and server.asked == {"long": 2, "reasons": 2}
    few = dict(tiny().answers([chat("long"), chat("reasons")], SAMPLING | {"max_tokens": 10}))
    assert few[0].finish == "length" and few[0].text.endswith("40 words"), "marked"
    assert few[1] == Failure("reasoning used up max_tokens") and chat_module.better(few[0], few[1]) == few[0]


def test_a_server_that_wants_max_completion_tokens_gets_them(server):
    assert [answer.finish for answer in ask(["refuses 1", "refuses 2"], 1).values()] == ["stop", "stop"]
    assert server.asked == {"refuses 1": 2, "refuses 2": 1}


def test_tokens_are_estimated_only_where_there_is_no_tokenizer_and_it_is_said_once(server, capsys):
    model = tiny()
    assert model.count_tokens(["abc", "abcd", "ü" * 3]) == [1, 2, 2] == model.count_tokens(["abc", "abcd", "ü" * 3])
    assert capsys.readouterr().out == "openai:tiny: no /tokenize that works; one token is assumed for every 3 bytes.\n"
    assert server.asked == {"word": 1}
    texts, model = ["word " * n for n in range(1, 30)], tiny()
    server.tokenize = lambda text, count: (500, {}) if count == 1 else (200, {"tokens": [0] * len(text.split())})
    assert model.count_tokens(texts) == list(range(1, 30)) and set(server.asked.values()) <= {1, 2, 3}
    server.tokenize = lambda text, count: (500, {})
    with pytest.raises(UserError, match="has a /tokenize that failed"):
        model.count_tokens(["fine"])


RUN = """
import sys
from pathlib import Path
from test_endpoint import Store, profiles, question, tiny
profiles.asker(lambda: tiny(4), Store(Path(sys.argv[1])), {})([question(f"slow {n}") for n in range(60)])
"""


def test_after_a_kill_no_finished_user_is_asked_again(server, tmp_path):
    def stored():
        return sqlite3.connect(path).execute("SELECT count(*) FROM answers").fetchone()[0]

    path = tmp_path / "answers.sqlite"
    command = [sys.executable, "-c", RUN, str(path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = subprocess.Popen(command, env=environment)
    deadline = time.monotonic() + 120
    while server.asked.total() < 20 and time.monotonic() < deadline:
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    time.sleep(0.3)
    finished, first = stored(), set(server.asked)
    assert 8 <= finished < 60
    server.asked.clear()
    subprocess.run(command, env=environment, check=True)
    assert stored() == 60 and server.asked.total() == 60 - finished == len(server.asked)
    assert len(server.asked.keys() & first) <= 2 * 4, "only what was in flight is asked again"
    server.asked.clear()
    subprocess.run(command, env=environment, check=True)
    assert server.asked.total() == 0


def test_the_server_of_this_process_is_one_like_any_other(monkeypatch):
    assert local_weights("smollm2-135m"), "set-up fetches the weights: make weights PRESET=smoke"
    inside = open_llm("smollm2-135m", context=256, parallel=2)
    monkeypatch.setenv("OPENAI_BASE_URL", str(inside.client.base_url))
    outside = open_llm("openai:smollm2-135m", parallel=2)
    chats = [chat("Name a colour."), chat("Name an animal."), chat("word " * 400)]
    answers = [dict(model.answers(chats, {**SAMPLING, "max_tokens": 12})) for model in (inside, outside)]
    assert answers[0][2] == answers[1][2] == Failure("400 refusal", final=True)
    for index in (0, 1):
        one, other = (given[index] for given in answers)
        assert one.text and one.prompt_tokens == other.prompt_tokens > 5 and 0 < one.output_tokens <= 48
    texts = ["Name a colour.", "", "word " * 50]
    counts = inside.count_tokens(texts)
    assert counts == outside.count_tokens(texts) and counts[1] == 0 and counts[2] in range(50, 53)

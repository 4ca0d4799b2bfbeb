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
HOSTILE = ["x;touch ran", "$(shell touch ran)", "`touch ran`", "$$(touch ran)", 'x"; touch ran; "', "a\ntouch ran"]
HOSTILE += ["x' ; touch ran #"]
TARGETS = {"RAW": "data", "LAB": "lab", "PYTHON": "env", "FRESH": "profiles"}
TARGETS |= {"LLM": "bench-llm", "SIZES": "bench-umap", "FORCE": "data", "FROM": "new"}
NOW = time.time_ns()


def touch(path, later=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, ns=(NOW + later * 10**9,) * 2)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """The project's Makefile over tools that print what they are given."""
    house = tmp_path_factory.mktemp("make")
    shutil.copy(ROOT / "Makefile", house)
    names = [
        "lib/requirements.lock",
        "lib/requirements.hashes",
        "lib/pyproject.toml",
        "lib/tools/env.py",
        ".venv/ready",
    ]
    for peer in ("rectools", "replay"):
        names += [f"lib/benchmarks/peers/{peer}.txt", f"build/peers/{peer}/ready"]
    for name in [*names, "notebooks/presets/default.yaml"]:
        touch(house / name)
    for tool in (house / ".venv" / "bin" / name for name in ("python", "jupyter")):
        touch(tool)
        tool.write_text('#!/bin/sh\nfor word in "$@"; do echo "<$word>"; done\n')
        tool.chmod(0o755)
    return house


def make(house, *arguments, **variables):
    call, env = ["make", *arguments], os.environ | variables
    result = subprocess.run(call, cwd=house, env=env, capture_output=True, text=True, timeout=60)
    assert not (house / "ran").exists()
    return result


@pytest.mark.parametrize(("name", "value"), [*product(NAMES, [*HOSTILE, "../../x", "/tmp", "a/b c", "."])])
def test_a_name_is_checked_before_a_shell_sees_it(house, name, value):
    for result in (make(house, "help", f"{name}={value}"), make(house, "help", **{name: value})):
        assert result.returncode == 2 and f"{name}= is no name" in result.stderr


@pytest.mark.parametrize(("name", "value"), [*product(TARGETS, HOSTILE), ("PEERS", HOSTILE[0])])
def test_other_settings_reach_the_tools_as_they_are(house, name, value):
    printed = {"LLM": f"<{value}>", "SIZES": f"<{value.split()[0]}>"}
    printed |= {"RAW": f"<--raw>\n<{value}>", "FROM": f"<mine>\n<{value}>"}
    for arguments, variables in (([f"{name}={value}"], {}), ([], {name: value})):
        touch(house / ".venv" / "ready")
        if name in ("PYTHON", "PEERS"):  # else make has nothing to run
            (house / {"PYTHON": ".venv/ready", "PEERS": "build/peers/rectools/ready"}[name]).unlink(missing_ok=True)
            variables = {"PYTHON": str(house / ".venv" / "bin" / "python")} | variables  # no peer is installed
        result = make(house, TARGETS.get(name, "bench-student"), "DATASET=mine", *arguments, **variables)
        assert printed.get(name, "") in result.stdout


def test_processes_keep_their_bytecode_whatever_the_caller_says(house):
    rule = "--eval=seen: ; @echo [$$PYTHONDONTWRITEBYTECODE]"
    assert make(house, "--no-print-directory", rule, "seen", PYTHONDONTWRITEBYTECODE="1").stdout == "[]\n"


def test_options_of_jupyterlab_are_several_arguments(house):
    assert "<--no-browser>\n<--port>\n<9000>\n" in make(house, "lab", "LAB=--no-browser --port 9000").stdout


def test_a_chapter_is_executed_again_where_its_own_section_has_changed(house):
    outputs, chapters = house / "outputs" / "default", ["01-data", "02-profiles", "03-embeddings", "04-distillation"]
    touch(house / ".venv" / "ready")
    for chapter in chapters:
        touch(house / "notebooks" / "text" / f"{chapter}.py")
        touch(outputs / f"{chapter}.ipynb")

    def planned(section_of=""):
        for name in ["sections", *(f"{chapter}.{kind}" for chapter in chapters for kind in ("section", "done"))]:
            later = 2 * name.endswith(".done") + 4 * (name == f"{section_of}.section") + 1
            touch(outputs / "artifacts" / name, later)
        said = make(house, "-n", "reproduce").stdout
        return [chapter for chapter in chapters if f"execute {chapter}" in said]

    assert planned() == []
    assert planned("03-embeddings") == ["03-embeddings", "04-distillation"]
    assert planned("04-distillation") == ["04-distillation"]


@pytest.mark.parametrize("said", ["dataset: 2024", 'dataset: "2024"', "{minimum: 5, dataset: '2024'}"])
def test_the_files_of_a_presets_data_set_are_watched_however_its_name_is_quoted(house, said):
    preset = house / "notebooks" / "presets" / "quoted.yaml"
    preset.write_text(f"01-data: {said}\n")
    assert "\ndataset := 2024\n" in make(house, "-pn", "help", "PRESET=quoted").stdout
    preset.unlink()


def test_a_section_is_touched_where_the_preset_says_something_else_of_it(home):
    folder, times = home / "outputs" / "mine" / "artifacts", []
    folder.mkdir(parents=True)
    for text in ('"01-data": {minimum: 5}\n', "01-data:\n  minimum: 5\n04-distillation: {seeds: [1]}\n"):
        (home / "presets" / "mine.yaml").write_text(text)
        presets.write_sections("mine")
        times.append([(folder / f"{name}.section").stat().st_mtime_ns for name in ("01-data", "04-distillation")])
        time.sleep(0.02)
    assert times[0][0] == times[1][0] and times[0][1] < times[1][1]

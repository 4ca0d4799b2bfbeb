"""`make nbval`: every chapter is checked, after those it reads, and no failure passes."""

from pathlib import Path
from types import SimpleNamespace

import check_notebooks
import pytest
from presets import chapters

FAILING = {"": (0, 10), "04-distillation": (1, 5), "06-cold-start": (-9, 9), "08-results": (2, 10)}


@pytest.mark.parametrize("failing", FAILING)
def test_every_chapter_is_checked_once_and_one_that_fails_or_is_killed_stops_later_waves(
    failing, tmp_path, monkeypatch
):
    monkeypatch.setattr(check_notebooks, "ROOT", tmp_path)
    (code, checked), ran = FAILING[failing], []

    def run(command, **settings):
        ran.extend(Path(word).stem for word in command if word.endswith(".ipynb"))
        bad = failing and any(failing in word for word in command)
        return SimpleNamespace(returncode=code if bad else 0, stdout="", stderr="")

    monkeypatch.setattr(check_notebooks.subprocess, "run", run)
    assert check_notebooks.nbval("smoke") == int(bool(failing)) and len(ran) == checked
    assert failing or sorted(ran) == chapters()


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_kernel_that_dies_at_its_start_is_given_a_second_one(deaths, tmp_path, monkeypatch):
    monkeypatch.setattr(check_notebooks, "ROOT", tmp_path)
    monkeypatch.setattr(check_notebooks, "WAVES", [[["00"]]])
    died = [SimpleNamespace(returncode=1, stdout="Kernel died before replying to kernel_info", stderr="")] * deaths
    runs = [*died, SimpleNamespace(returncode=0, stdout="", stderr="")]
    monkeypatch.setattr(check_notebooks.subprocess, "run", lambda *_, **__: runs.pop(0))
    assert check_notebooks.nbval("smoke") == deaths - 1

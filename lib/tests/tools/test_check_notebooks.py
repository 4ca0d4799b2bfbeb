"""`make nbval`: every chapter is checked, after those it reads, and no failure passes."""

from itertools import chain
from types import SimpleNamespace

import check_notebooks
import pytest
from presets import chapters


def test_every_chapter_stands_in_one_wave():
    numbers = [*chain.from_iterable(chain.from_iterable(check_notebooks.WAVES))]
    assert sorted(numbers) == [chapter[:2] for chapter in chapters()]


FAILING = {
    "": (0, 10),
    "04-distillation": (1, 5),
    "06-cold-start": (-9, 9),
    "08-results": (2, 10),
}  # code, chapters run


@pytest.mark.parametrize("failing", FAILING)
def test_a_chapter_that_fails_or_is_killed_stops_the_waves_after_it(failing, tmp_path, monkeypatch):
    monkeypatch.setattr(check_notebooks, "ROOT", tmp_path)
    (code, chapters_run), ran = FAILING[failing], []

    def run(command, **settings):
        ran.extend(word for word in command if word.endswith(".ipynb"))
        bad = failing and any(failing in word for word in command)
        return SimpleNamespace(returncode=code if bad else 0, stdout="", stderr="")

    monkeypatch.setattr(check_notebooks.subprocess, "run", run)
    assert check_notebooks.nbval("smoke") == int(bool(failing))
    assert len(ran) == chapters_run

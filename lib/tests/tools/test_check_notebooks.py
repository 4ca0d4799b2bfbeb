"""`make nbval`: every chapter is checked, after those it reads, and no failure passes."""

from itertools import chain
from types import SimpleNamespace

import check_notebooks
import pytest
from presets import chapters


def test_every_chapter_stands_in_one_wave():
    numbers = [*chain.from_iterable(chain.from_iterable(check_notebooks.WAVES))]
    assert sorted(numbers) == [chapter[:2] for chapter in chapters()]


@pytest.mark.parametrize(
    ("failing", "code"), [("", 0), ("04-distillation", 1), ("06-cold-start", -9), ("08-results", 2)]
)
def test_a_chapter_that_fails_or_is_killed_stops_the_waves_after_it(failing, code, tmp_path, monkeypatch):
    monkeypatch.setattr(check_notebooks, "ROOT", tmp_path)
    ran = []

    def run(command, **settings):
        ran.extend(word for word in command if word.endswith(".ipynb"))
        bad = failing and any(failing in word for word in command)
        return SimpleNamespace(returncode=code if bad else 0, stdout="", stderr="")

    monkeypatch.setattr(check_notebooks.subprocess, "run", run)
    assert check_notebooks.nbval("smoke") == int(bool(failing))
    assert len(ran) == {"": 10, "04-distillation": 5, "06-cold-start": 9, "08-results": 10}[failing]

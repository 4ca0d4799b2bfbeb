"""What the README, and the pages that it sends to, tell their reader to type works."""

import re
import shlex
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from seqdistill.io import ROOT

PAGES = [ROOT / "README.md", ROOT / "data" / "README.md", ROOT / "lib" / "site" / "servers.md"]
README = "\n".join(page.read_text() for page in PAGES)
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.S)
TYPED = [line for kind, block in BLOCKS if not kind for line in block.splitlines()]
TYPED += re.findall(r"`(make [^`]+)`", README)
MAKES = sorted({line.split("#")[0].strip() for line in TYPED if line.startswith("make ")})


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """What make looks at, with the reader's own preset beside the others."""
    home = tmp_path_factory.mktemp("house")
    shutil.copy(ROOT / "Makefile", home)
    for folder in ("notebooks", "lib"):
        shutil.copytree(ROOT / folder, home / folder, ignore=shutil.ignore_patterns("__pycache__", "*.ipynb"))
    (home / "notebooks" / "presets" / "mine.yaml").write_text("01-data: {dataset: mine}\n")
    return home


def test_the_readme_names_the_commands_that_a_reader_needs():
    targets = {line.split()[1] for line in MAKES}
    assert {
        "reproduce",
        "test",
        "help",
        "lab",
        "book",
        "verify",
        "publish",
        "data",
        "data-check",
        "profiles",
    } <= targets


@pytest.mark.parametrize("line", MAKES)
def test_every_make_command_is_one(house, line):
    done = subprocess.run(
        ["make", "-n", *shlex.split(line)[1:]], cwd=house, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_student_is_trained_on_ones_own_arrays_in_five_lines_and_served_in_four(tmp_path, monkeypatch):
    train, serve = (block for kind, block in BLOCKS if kind == "python")
    for code, lines in ((train, 5), (serve, 4)):
        assert len([line for line in code.splitlines() if line and not line.startswith(("import", "from"))]) == lines
    rng = np.random.default_rng(0)
    ids = ["318", "296", "593", *"abcdefghijk"]
    given = {
        "users": np.repeat(np.arange(30), 8),
        "items": rng.integers(1, 15, 240),
        "times": np.tile(np.arange(8), 30),
        "catalogue": pd.DataFrame({"item": range(1, 15), "item_id": ids, "title": [f"title {one}" for one in ids]}),
    }
    monkeypatch.chdir(tmp_path)
    exec(train.replace("epochs=20", "epochs=1"), given)
    assert 0 <= given["found"]["test"]["excluded"]["ndcg@10"] <= 1
    exec(serve.replace("serving.top", "found = serving.top"), given)
    assert len(given["found"]) == 10 and not set(given["found"]["item_id"]) & {"318", "296", "593"}


@pytest.mark.parametrize("line", [line for line in TYPED if line.startswith("accelerate launch")])
def test_every_launch_is_one_that_accelerate_understands(line):
    from accelerate.commands.launch import launch_command_parser

    words = shlex.split(line.split("#")[0].replace("\\", ""))[2:]
    words += [] if words[-1].endswith(".py") else ["train_mine.py"]
    parsed = launch_command_parser().parse_args(words)
    assert parsed.training_script == "train_mine.py" and parsed.num_processes in (2, 4, 8, None)

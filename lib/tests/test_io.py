"""Artifacts are written whole or not at all, and nothing damaged or stale is half used."""

import json
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file
from seqdistill import io
from seqdistill.cache import Cache
from seqdistill.embeddings.reducers import load_reducer, save_reducer
from seqdistill.io import UserError
from seqdistill.training.train import load_teacher


def test_progress_says_done_rate_and_time_left_even_before_anything_is_done(monkeypatch, capsys):
    monkeypatch.setattr(io, "LINE_EVERY", 0.05)
    monkeypatch.setenv("SEQDISTILL_HEADLESS", "1")
    with io.progress("texts", 2000) as done:
        time.sleep(0.12)
        done(500)
        time.sleep(0.12)
    said = capsys.readouterr().err
    assert "texts: 0 of 2,000" in said and re.search(r"texts: 500 of 2,000 .*[\d.e+]+ a second, \d+ s left", said)
    time.sleep(0.12)
    assert "texts" not in capsys.readouterr().err, "the lines end with the work"


def test_digests_follow_content_alone(tmp_path, events):
    assert io.digest({"a": 1, "b": [2]}) == io.digest({"b": [2], "a": 1}) != io.digest({"a": 1, "b": [3]})
    assert io.content_digest(events) == io.content_digest(events.set_axis(events.index + 7))
    assert io.content_digest(events) != io.content_digest(events[::-1])
    (tmp_path / "x").write_bytes(b"abc")
    assert io.file_digest(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_write_that_fails_leaves_the_former_file(tmp_path):
    io.save_json({"a": 1}, tmp_path / "x.json")
    with pytest.raises(ZeroDivisionError), io.atomic_write(tmp_path / "x.json") as temporary:
        temporary.write_text("half")
        1 / 0  # noqa: B018
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1} and len([*tmp_path.iterdir()]) == 1


@pytest.fixture
def outputs(tmp_path, events):
    """A preset's outputs: its artifacts, metrics.json, and the stamps by which `make` takes them for whole."""
    folder = tmp_path / "artifacts"
    io.save_table(events, folder / "events.parquet", "key")
    save_reducer(folder / "reducer.safetensors", np.eye(4, dtype=np.float32), {"kind": "none"})
    save_file({"teacher": np.eye(4, dtype=np.float32)}, folder / "teacher.safetensors", {"events": "key"})
    io.save_json({"01-data": {"users": 40}}, tmp_path / "metrics.json")
    for chapter in ("01-data", "02-profiles"):
        (folder / f"{chapter}.done").touch()
    return tmp_path


READERS = [
    ("artifacts/events.parquet", io.load_table),
    ("artifacts/events.parquet", io.table_key),
    ("artifacts/reducer.safetensors", load_reducer),
    ("artifacts/teacher.safetensors", partial(load_teacher, key="key")),
    ("metrics.json", io.load_json),
]


@pytest.mark.parametrize("harm", ["cut", "garbage", "empty"])
@pytest.mark.parametrize(("name", "read"), READERS)
def test_a_damaged_artifact_is_named_and_its_chapter_executed_again(outputs, name, read, harm):
    path = outputs / name
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "garbage": b"\x00garbage" * 99, "empty": b""}[harm])
    with pytest.raises(UserError, match=rf"{path.name}: damaged.*remove it.*run `make reproduce` or the notebook"):
        read(path)
    assert not list(outputs.rglob("*.done")), "make would take it for whole"


def test_a_table_comes_back_and_a_stale_one_and_a_missing_file_are_named(outputs, events):
    path = outputs / "artifacts" / "events.parquet"
    pd.testing.assert_frame_equal(io.load_table(path, "key"), events)
    with pytest.raises(UserError, match=r"events\.parquet: stale, made from other inputs; run `make reproduce` or the"):
        io.load_table(path, "another key")
    with pytest.raises(UserError, match=r"none\.json: no such file"):
        io.load_json(outputs / "none.json")


def test_a_damaged_cache_is_named(tmp_path):
    path = tmp_path / "answers.sqlite"
    path.write_bytes(b"garbage " * 999)
    with pytest.raises(UserError, match=r"answers\.sqlite: file is not a database. Stop what uses it, remove it"):
        Cache(path, "answers").get(["key"])
    assert path.exists()


def test_threads_write_while_one_of_them_fails(tmp_path):
    cache, values = Cache(tmp_path / "answers.sqlite", "answers"), [{str(number): "x"} for number in range(300)]
    with ThreadPoolExecutor(3) as pool:
        done = [pool.submit(cache.put, value) for one in values for value in ({"key": None}, one)]
    assert {type(future.exception()) for future in done[::2]} == {UserError}
    assert not any(future.exception() for future in done[1::2])
    assert len(cache.get(map(str, range(300)))) == 300


@pytest.fixture
def volume(tmp_path):
    """A file system of a quarter of a megabyte, where this machine lets the test make one."""
    (home := tmp_path / "volume").mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", home], capture_output=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("a small file system can be mounted by root only")
    yield home
    subprocess.run(["umount", home], check=True)


WRITERS = {
    "table.parquet": lambda path, size: io.save_table(pd.DataFrame({"x": np.random.default_rng(0).random(size)}), path),
    "values.json": lambda path, size: io.save_json(list(range(size)), path),
    "vectors.safetensors": lambda path, size: io.save_with(partial(save_file, {"x": np.zeros(size, np.float32)}), path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_every_file_as_it_was(volume, name):
    path = volume / name
    WRITERS[name](path, 2000)
    before = path.read_bytes()
    with pytest.raises(UserError, match=rf"{name}: .*(No space left|disk is full)"):
        WRITERS[name](path, 2_000_000)
    assert path.read_bytes() == before and list(volume.iterdir()) == [path]

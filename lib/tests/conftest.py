import subprocess

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import settings
from seqdistill.data.splits import leave_last_k
from seqdistill.training.train import training_data

settings.register_profile("book", deadline=None, derandomize=True)
settings.load_profile("book")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """A tiny data set of books, valid in every file: data/books/raw/*.csv."""
    monkeypatch.setenv("SEQDISTILL_DATA", str(tmp_path))
    folder = tmp_path / "books" / "raw"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = [(u, i, t) for u in range(8) for t, i in enumerate(rng.permutation(12)[:9])]
    events = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]).assign(rating=4)
    events.to_csv(folder / "interactions.csv", index=False)
    pd.DataFrame({"user_id": range(8)}).to_csv(folder / "users.csv", index=False)
    items = pd.DataFrame({"item_id": range(12)})
    items["title"], items["categories"] = [f"Book {i}" for i in range(12)], "Fantasy|Classics"
    items.to_csv(folder / "items.csv", index=False)
    return folder


@pytest.fixture
def events():
    """40 users walking round a circle of 30 items: what comes next can be learned."""
    rng = np.random.default_rng(1)
    rows = []
    for user in range(40):
        at = rng.integers(30)
        for time in range(rng.integers(8, 25)):
            at = (at + rng.choice([1, 1, 1, 2])) % 30
            rows.append((user, at + 1, time, 4.0))
    frame = pd.DataFrame(rows, columns=["user", "item", "time", "value"])
    return frame.assign(split=leave_last_k(frame, 2))


@pytest.fixture
def data(events):
    teacher = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    teacher[3] = torch.nan
    return training_data(events, 30, teacher)


@pytest.fixture
def given(data):
    """Another name of `data`, beside hypothesis's `given`."""
    return data


@pytest.fixture
def volume(tmp_path):
    """A file system of a quarter of a megabyte, where this machine lets the test make one."""
    home = tmp_path / "volume"
    home.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(home)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False).returncode
    except FileNotFoundError:
        done = 1
    if done:
        pytest.skip("a small file system can be mounted by root only")
    yield home
    subprocess.run(["umount", str(home)], check=True)

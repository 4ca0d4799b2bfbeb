import numpy as np
import pandas as pd
import pytest
import torch
from circle import circle
from hypothesis import settings
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
    items = pd.DataFrame({"item_id": range(12), "title": [f"Book {i}" for i in range(12)]})
    items = items.assign(categories="Fantasy|Classics")
    for name, table in {"interactions": events, "users": pd.DataFrame({"user_id": range(8)}), "items": items}.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    return folder


@pytest.fixture
def events():
    return circle()


@pytest.fixture
def data(events):
    teacher = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    teacher[3] = torch.nan
    return training_data(events, 30, teacher)


@pytest.fixture
def given(data):
    """Another name of `data`, beside hypothesis's `given`."""
    return data

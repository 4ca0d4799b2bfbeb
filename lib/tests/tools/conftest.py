import shutil

import presets
import pytest
from seqdistill.io import ROOT


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Data, outputs and (copied) presets of a test's own, and an empty folder `own`."""
    for name in ("data", "outputs"):
        monkeypatch.setenv(f"SEQDISTILL_{name.upper()}", str(tmp_path / name))
    monkeypatch.setattr(presets, "PRESETS", shutil.copytree(ROOT / "notebooks" / "presets", tmp_path / "presets"))
    (tmp_path / "own").mkdir()
    return tmp_path

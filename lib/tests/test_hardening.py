"""Nothing is unpickled or executed, nothing damaged is half used."""

import ast

import numpy as np
import presets
import pytest
from seqdistill.config import ModelConfig, TrainConfig
from seqdistill.io import ROOT, UserError
from seqdistill.training.sweep import plan, ranks, results, run_folder, sweep
from seqdistill.training.train import load_model, probe_run

SMALL = TrainConfig(ModelConfig(dim=8, blocks=1, heads=1, length=10), epochs=2, batch=16)
PICKLING = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "read_pickle", "to_pickle"}
STORING = {"torch.save", "torch.load", "joblib.dump", "joblib.load", "np.load", "np.save", "numpy.load", "numpy.save"}
EXECUTING = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load", "pd.eval"}


def sources():
    paths = [
        *(ROOT / "lib" / "seqdistill").rglob("*.py"),
        *presets.TEXT.glob("*.py"),
        *(ROOT / "lib" / "tools").glob("*.py"),
    ]
    return {path: ast.parse(path.read_text()) for path in [*paths, *(ROOT / "lib" / "site").glob("*.py")]}


def named(node):
    """A dotted name, as it stands in the code; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    return f"{named(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) and named(node.value) else ""


def test_no_pickle_is_read_or_written():
    for path, tree in sources().items():
        for node in ast.walk(tree):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            imported += [getattr(node, "module", None) or ""] if isinstance(node, ast.ImportFrom) else []
            used = {*imported, named(node), getattr(node, "attr", "")}
            assert not used & (PICKLING | STORING), f"{path.name}, line {getattr(node, 'lineno', 0)}"


def test_no_committed_or_computed_file_is_a_pickle():
    paths = [path for path in (ROOT / "outputs").rglob("*") if path.is_file() and "checkpoint" not in path.parts]
    assert len(paths) > 50
    for path in paths:
        with path.open("rb") as handle:
            assert handle.read(2) not in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), path
        assert path.suffix not in (".pkl", ".pickle", ".pt", ".pth", ".npy", ".npz", ".joblib"), path


def test_no_text_is_executed():
    """Calls that execute text are not there at all; a query of a table is one that the code itself spells out."""
    for path, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                where = f"{path.name}, line {node.lineno}"
                assert named(node.func) not in EXECUTING, where
                assert not any(given.arg == "shell" for given in node.keywords), where
                if getattr(node.func, "attr", "") == "query":
                    assert all(isinstance(given, ast.Constant) for given in node.args), where


@pytest.mark.parametrize(("name", "read"), [("metrics.json", results), ("ranks.parquet", ranks)])
def test_a_damaged_run_is_named(given, tmp_path, name, read):
    jobs = plan({"plain": SMALL}, [0], given)
    sweep(jobs, tmp_path, workers=1)
    path = run_folder(jobs["plain", 0], tmp_path) / name
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match=f"{name}: damaged"):
        read(jobs, tmp_path)


def test_a_run_that_is_recorded_without_its_weights_counts_as_finished(given, tmp_path):
    jobs = plan({"plain": SMALL}, [0], given)
    sweep(jobs, tmp_path, workers=1)
    folder = run_folder(jobs["plain", 0], tmp_path)
    assert np.isfinite(probe_run(folder, given))
    (folder / "model.safetensors").unlink()
    before = (folder / "metrics.json").stat().st_mtime_ns
    sweep(jobs, tmp_path, workers=1)
    assert (folder / "metrics.json").stat().st_mtime_ns == before and np.isnan(probe_run(folder, given))
    with pytest.raises(UserError, match="recorded without its weights; remove the folder to train it anew"):
        load_model(folder)

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
PICKLED = {".pkl", ".pickle", ".pt", ".pth", ".npy", ".npz", ".joblib"}


def nodes():
    """Where each node of our code stands, and the node."""
    paths = [*(ROOT / "lib" / "seqdistill").rglob("*.py"), *presets.TEXT.glob("*.py")]
    paths += [path for folder in ("tools", "site") for path in (ROOT / "lib" / folder).glob("*.py")]
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            yield f"{path.name}, line {getattr(node, 'lineno', 0)}", node


def named(node):
    """A dotted name, as it stands in the code; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    return f"{named(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) and named(node.value) else ""


def test_no_pickle_is_read_or_written():
    for where, node in nodes():
        used = {named(node), getattr(node, "attr", ""), getattr(node, "module", "")}
        if isinstance(node, ast.Import | ast.ImportFrom):
            used |= {alias.name for alias in node.names}
        assert not used & (PICKLING | STORING), where


def test_no_committed_or_computed_file_is_a_pickle():
    paths = [path for path in (ROOT / "outputs").rglob("*") if path.is_file() and "checkpoint" not in path.parts]
    assert len(paths) > 50
    for path in paths:
        with path.open("rb") as handle:
            assert handle.read(2) not in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), path
        assert path.suffix not in PICKLED, path


def test_no_text_is_executed():
    """Calls that execute text are not there at all; a query of a table is one that the code itself spells out."""
    for where, node in nodes():
        if isinstance(node, ast.Call):
            assert named(node.func) not in EXECUTING and not any(given.arg == "shell" for given in node.keywords), where
            if getattr(node.func, "attr", "") == "query":
                assert all(isinstance(given, ast.Constant) for given in node.args), where


def test_a_damaged_run_is_named_and_one_without_its_weights_counts_as_finished(given, tmp_path):
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
    for name, read in {"ranks.parquet": ranks, "metrics.json": results}.items():
        (folder / name).write_bytes((folder / name).read_bytes()[:40])
        with pytest.raises(UserError, match=f"{name}: damaged"):
            read(jobs, tmp_path)

"""A fresh run beside the committed numbers: what moved, and did it move further than other seeds would move it?"""

import io
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import book
import numpy as np
import pandas as pd
import written
from presets import chapters
from scipy import stats
from seqdistill.io import ROOT, UserError, display_path, load_json, outputs_dir

LEVEL = 0.05  # chance that any trained number is called out where nothing but the seeds differs
METRICS = ["recall@10", "ndcg@10"]
DELTAS = ["delta_ndcg@10", "control_delta_ndcg@10"]  # of two students
TRAINED = METRICS + DELTAS
GROUP = ["model", "protocol", "seen"]
MEASURED = re.compile(r"(^|_)(s|ms|mb|seconds)(_|$)")  # columns of time and memory: another machine, another value


def seed_spread(main: pd.DataFrame) -> pd.DataFrame:
    """Relative standard deviation over seeds of each metric, pooled over the students of a group, and its df."""
    rows = main[main["seeds"] > 1]
    squares = pd.DataFrame({name: (rows["seeds"] - 1) * (rows[f"{name}_std"] / rows[name]) ** 2 for name in METRICS})
    sums = pd.concat([rows[GROUP], squares, (rows["seeds"] - 1).rename("df")], axis=1).groupby(GROUP).sum()
    return sums[METRICS].div(sums["df"], axis=0).pow(0.5).assign(df=sums["df"])


def allowed(table: pd.DataFrame, column: str, spread: pd.DataFrame, cells: int) -> np.ndarray:
    """How far the values of a column may move: 0 for texts, counts and baselines, NaN where nothing is judged.

    Two means over n seeds differ by up to t s sqrt(2 / n) at LEVEL for all cells; a difference of two students by as
    much as both of them, taken as independent. A limit that lets the metric fall to 0 judges nothing.
    """
    exact = table[column].dtype.kind != "f" and not MEASURED.search(column)
    if column not in TRAINED or not {*GROUP, "seeds", "ndcg@10"} <= set(table):
        return np.full(len(table), 0.0 if exact else np.nan)
    metric = column if column in METRICS else "ndcg@10"
    groups = spread.reindex(pd.MultiIndex.from_frame(table[GROUP])).reset_index(drop=True)
    quantile = pd.Series(stats.t.ppf(1 - LEVEL / (2 * cells), groups["df"]))
    relative = quantile * groups[metric] * (2 / table["seeds"]) ** 0.5  # of the metric
    if column in METRICS:
        limit = relative * table[metric]
        return limit.where(relative < 1).mask(table["model"] == "baseline", 1e-6 * table[metric]).to_numpy()
    return (relative * np.hypot(table[metric], table[metric] - table[column])).where(relative < 1).to_numpy()


def moved(name: str, old: pd.DataFrame, new: pd.DataFrame, spread: pd.DataFrame, cells: int) -> list[str]:
    """What moved in a table: names, counts and baselines must be equal, metrics stay within the spread over seeds."""
    if list(old) != list(new) or len(old) != len(new):
        return [f"MOVED {name}: the columns or the number of rows changed"]
    lines = []
    for column in old:
        a, b, limit = old[column], new[column], allowed(old, column, spread, cells)
        same = a.eq(b) | (a.isna() & b.isna()) | np.isnan(limit)
        if column in TRAINED:
            same |= (b - a).abs() <= limit
        kind = "VERDICT" if "verdict" in column else "MOVED"
        for row in old.index[~same]:
            bound = f" (seeds move it by {limit[row]:.4f})" if limit[row] else ""
            lines.append(f"{kind} {name}, row {row}, {column}: {a[row]} -> {b[row]}{bound}")
    return lines


def compare(stored: Path, fresh: Path) -> list[str]:
    """What moved in metrics.json and every table of two folders; a verdict that flips is named and is no error."""
    names = sorted(path.name for path in (stored / "tables").glob("*.csv"))
    old = {name: pd.read_csv(stored / "tables" / name) for name in names}
    new = {name: pd.read_csv(fresh / "tables" / name) for name in names if (fresh / "tables" / name).exists()}
    spread = seed_spread(old["main.csv"])
    cells = sum(int(old[name][metric].notna().sum()) for name in new for metric in TRAINED if metric in old[name])
    lines = [f"MOVED {name}: not written" for name in names if name not in new]
    lines += [line for name in new for line in moved(name, old[name], new[name], spread, cells)]
    metrics = [load_json(home / "metrics.json") for home in (stored, fresh)]
    for chapter, values in metrics[0].items():
        for name, value in values.items():
            other = metrics[1].get(chapter, {}).get(name)
            if other is None or (isinstance(value, int | str) and other != value):
                lines.append(f"MOVED metrics.json {chapter}, {name}: {value} -> {other}")
    return lines


def committed(preset: str, folder: Path) -> Path:
    """Unpack the committed metrics and tables of a preset into a folder, and return where they stand."""
    names = [f"outputs/{preset}/metrics.json", f"outputs/{preset}/tables"]
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", "HEAD", *names], capture_output=True, check=False)
    if archive.returncode:
        raise UserError(f"verify: git has no committed outputs/{preset} to compare with.")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder / "outputs" / preset


def run(preset: str) -> int:
    """Execute every chapter anew and compare; a killed run resumes, one that was compared starts afresh."""
    home = outputs_dir(preset)
    stored, report = committed(preset, home.parent / "committed"), home / "moved.txt"
    if report.exists():
        shutil.rmtree(home / "runs", ignore_errors=True)
        report.unlink()
    for chapter in chapters():
        print(f"{chapter} ({preset}), anew", flush=True)
        if chapter.startswith("02"):
            try:
                written.weights(preset)
            except UserError as error:
                print(f"{error} The book goes on without them.", flush=True)
        book.execute(chapter, preset)
    lines = compare(stored, home)
    report.write_text("\n".join(lines) + "\n")
    print(*lines, f"{len(lines)} differences: {display_path(report)}", sep="\n", flush=True)
    return int(any(line.startswith("MOVED") for line in lines))


def verify(preset: str) -> int:
    """Verify a preset in build/verify; 1 if anything moved."""
    os.environ["SEQDISTILL_OUTPUTS"] = str(ROOT / "build" / "verify")
    with book.alone(preset):
        return run(preset)

"""A fresh run beside the committed numbers: what moved, and did it move further than other seeds would move it?"""

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import book
import numpy as np
import pandas as pd
from presets import chapters, check_preset
from scipy import stats
from seqdistill.io import ROOT, UserError, display_path, load_json, outputs_dir, save_csv

LEVEL = 0.05  # chance that anything at all is called out where nothing but the seeds differs
TRAINED = ("recall@10", "ndcg@10")
GROUP = ["model", "protocol", "seen"]
MEASURED = re.compile(
    r"(^|_)(s|ms|mb|seconds)(_|$)"
)  # columns in units of time and memory: another machine, another value
EXACT = 1e-6  # relative difference that rounding alone makes


def spreads(main: pd.DataFrame) -> pd.DataFrame:
    """Pool the spread over seeds of main.csv: relative standard deviation of each metric, and degrees of freedom.

    Returns:
        One row per model, protocol and seen; columns recall@10, ndcg@10 and df.
    """
    rows = main[main["seeds"] > 1]
    freedom = rows["seeds"] - 1
    table = rows[GROUP].assign(df=freedom)
    for metric in TRAINED:
        table[metric] = freedom * (rows[f"{metric}_std"] / rows[metric]) ** 2
    pooled = table.groupby(GROUP).sum()
    for metric in TRAINED:
        pooled[metric] = np.sqrt(pooled[metric] / pooled["df"])
    return pooled


def allowed(row: dict, column: str, spread: pd.DataFrame, cells: int) -> float:
    """How far a trained number may move between two draws of as many seeds, at `LEVEL` for all cells together.

    The difference of two means over n seeds has the standard deviation s sqrt(2 / n); delta_ndcg@10 is a difference of
    two such means. Where main.csv has no such students the answer is NaN: unknown.
    """
    metric = "ndcg@10" if column == "delta_ndcg@10" else column
    key = tuple(row.get(name) for name in GROUP)
    if metric not in TRAINED or key not in spread.index:
        return np.nan
    known = spread.loc[key]
    size = row[metric] if column == metric else np.hypot(row[metric], row[metric] - row["delta_ndcg@10"])
    quantile = stats.t.ppf(1 - LEVEL / (2 * cells), known["df"])
    limit = float(quantile * known[metric] * size * np.sqrt(2 / row["seeds"]))
    return limit if limit < row[metric] else np.nan


def same(a: object, b: object) -> bool:
    """Say whether two values of a table agree up to rounding; two missing ones do."""
    if pd.isna(a) or pd.isna(b):
        return bool(pd.isna(a) and pd.isna(b))
    if isinstance(a, str) or isinstance(b, str):
        return a == b
    return bool(np.isclose(a, b, rtol=EXACT, atol=0))


def compared(stored: Path, fresh: Path) -> pd.DataFrame:
    """Compare metrics.json and every table of two folders of outputs.

    Returns:
        What moved, one row each: where, column, stored, fresh, allowed, judged: "within" or "beyond" the spread over
        seeds, "changed" what must be equal, "unjudged" where no spread over seeds is known. `attrs` holds how many
        cells were compared.
    """
    names = sorted(path.name for path in (stored / "tables").glob("*.csv"))
    tables = {
        name: [pd.read_csv(home / "tables" / name) for home in (stored, fresh)]
        for name in names
        if (fresh / "tables" / name).exists()
    }
    spread = spreads(tables["main.csv"][0])
    cells = sum(table[column].notna().sum() for table, _ in tables.values() for column in TRAINED if column in table)
    found = [moved(name, *pair, spread, cells) for name, pair in tables.items()]
    found.append(pd.DataFrame({"where": sorted(set(names) - set(tables)), "column": "", "judged": "changed"}))
    pair = [load_json(home / "metrics.json") for home in (stored, fresh)]
    rows = [
        {
            "where": f"metrics.json {chapter}",
            "column": name,
            "stored": value,
            "fresh": pair[1].get(chapter, {}).get(name),
        }
        for chapter, values in pair[0].items()
        for name, value in values.items()
        if not isinstance(value, dict)
    ]
    rows = [
        row | {"judged": "changed" if isinstance(row["stored"], int) or row["fresh"] is None else "unjudged"}
        for row in rows
        if row["fresh"] is None or not same(row["stored"], row["fresh"])
    ]
    table = pd.concat([*found, pd.DataFrame(rows)], ignore_index=True)
    table.attrs["cells"] = sum(table.size for table, _ in tables.values())
    return table


def moved(name: str, stored: pd.DataFrame, fresh: pd.DataFrame, spread: pd.DataFrame, cells: int) -> pd.DataFrame:
    """List what moved in one table; see `compared`."""
    if list(stored.columns) != list(fresh.columns) or len(stored) != len(fresh):
        return pd.DataFrame([{"where": name, "column": "columns or rows", "judged": "changed"}])
    words = [column for column in stored if stored[column].dtype.kind not in "fiub" and "verdict" not in column]
    rows = []
    for old, new in zip(stored.to_dict("records"), fresh.to_dict("records"), strict=True):
        label = " ".join(str(old[column]) for column in words if not pd.isna(old[column]))
        for column in stored:
            if same(old[column], new[column]):
                continue
            limit = allowed(old, column, spread, cells)
            judged = "unjudged"
            if not np.isnan(limit):
                judged = "within" if abs(new[column] - old[column]) <= limit else "beyond"
            elif not MEASURED.search(column) and must_be_equal(old, column, stored[column]):
                judged = "changed"
            told = {"stored": old[column], "fresh": new[column], "allowed": limit, "judged": judged}
            rows.append({"where": f"{name} {label}", "column": column, **told})
    return pd.DataFrame(rows)


def must_be_equal(row: dict, column: str, values: pd.Series) -> bool:
    """Say whether a cell is a count, a name, or a score of a baseline, which no seed and no rounding may move."""
    counted = row.get("model") == "baseline" and column in TRAINED
    return counted or (values.dtype.kind not in "fc" and "verdict" not in column)


def report(table: pd.DataFrame) -> list[str]:
    """Say what moved: everything that should not have, every verdict, and how far the rest went."""
    lines = [f"{table.attrs['cells']:,} cells compared, {len(table):,} moved."]
    kinds = {"changed": "must be equal and is not", "beyond": "moved further than other seeds would move it"}
    for kind, words in kinds.items():
        for row in table[table["judged"] == kind].to_dict("records"):
            limit = f", allowed ±{row['allowed']:.4f}" if kind == "beyond" else ""
            lines.append(f"{row['where']}, {row['column']}: {row.get('stored')} -> {row.get('fresh')} ({words}{limit})")
    for row in table[table["column"].str.contains("verdict")].to_dict("records"):
        lines.append(f"{row['where']}, {row['column']}: {row['stored']} -> {row['fresh']}")
    near = table[table["judged"] == "within"]
    if len(near):
        share = ((near["fresh"] - near["stored"]).abs().astype(float) / near["allowed"].astype(float)).max()
        lines.append(f"{len(near):,} trained numbers moved within the spread over seeds, by at most {share:.0%} of it.")
    rest = table[(table["judged"] == "unjudged") & ~table["column"].str.contains("verdict")]
    if len(rest):
        lines.append(f"{len(rest):,} numbers moved whose spread over seeds is not known.")
    return lines


def committed(preset: str, folder: Path) -> Path:
    """Unpack the committed metrics and tables of a preset into a folder, and return where they stand.

    Raises:
        UserError: nothing of the preset is committed, or this is no git checkout.
    """
    names = [f"outputs/{preset}/metrics.json", f"outputs/{preset}/tables"]
    done = subprocess.run(["git", "-C", str(ROOT), "archive", "HEAD", *names], capture_output=True, check=False)
    if done.returncode:
        raise UserError(f"verify: git has no committed outputs/{preset} to compare with.")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder / "outputs" / preset


def run(preset: str) -> int:
    """Execute every chapter anew and compare; 0 where nothing moved that should not.

    A killed run goes on with the students that it has trained; one that has been compared is thrown away.
    """
    home = outputs_dir(preset)
    stored = committed(preset, home.parent / "committed")
    if (home / "moved.csv").exists():
        shutil.rmtree(home / "runs", ignore_errors=True)
        (home / "moved.csv").unlink()
    for chapter in chapters():
        print(f"{chapter} ({preset}), anew", flush=True)
        if chapter.startswith("02"):
            try:
                book.weights(preset)
            except UserError as error:
                print(f"{error} The book goes on without them.", flush=True)
        book.execute(chapter, preset)
    table = save_csv(compared(stored, home), home / "moved.csv")
    print(*report(table), f"All of it: {display_path(home / 'moved.csv')}", sep="\n", flush=True)
    return int(table["judged"].isin(["changed", "beyond"]).any())


def main() -> None:
    """Command line: verify a preset."""
    parser = argparse.ArgumentParser(prog="python lib/tools/verify.py")
    parser.add_argument("--preset", default="default")
    os.environ["SEQDISTILL_OUTPUTS"] = str(ROOT / "build" / "verify")
    given = parser.parse_args()
    try:
        check_preset(given.preset)
        with book.alone(given.preset):
            sys.exit(run(given.preset))
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

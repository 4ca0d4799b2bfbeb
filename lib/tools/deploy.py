"""Which student of 04's table to deploy, and that student as ONNX with a script that serves it: `make export`."""

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
from pages import read_main
from seqbook.ablation import setups
from seqdistill.config import gru4rec
from seqdistill.io import load_json, load_table, outputs_dir, save_json, table_key
from seqdistill.serving.export import save_onnx
from seqdistill.training.sweep import Job, Jobs, plan, results, run_folder
from seqdistill.training.train import load_model, load_training_data, taught_by

GAIN = "significant gain"


def taught(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the taught students, which have a control."""
    return table[table["control_verdict"].notna()] if "control_verdict" in table else table[:0]


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the taught students that rank significantly better than both plain and their control."""
    rows = taught(table)
    return rows[(rows[["verdict", "control_verdict"]] == GAIN).all(axis=1)] if len(rows) else rows


def taught_shares(home: Path, rows: pd.DataFrame) -> dict[str, float]:
    """Share of the users in training whom a teacher taught, by variant."""
    shares = {}
    for student, variant in rows[["model", "variant"]].itertuples(index=False):
        data = next(iter(jobs_of(home, student, variant).values())).data
        shares[variant] = float((~data.teacher.isnan().any(1))[data.train.users].float().mean())
    return shares


def jobs_of(home: Path, student: str, variant: str, baseline: str = "") -> Jobs:
    """The runs of a row of 04's table, one per seed; GRU4Rec has the settings of the student in `baseline`."""
    data, artifacts = load_training_data(home / "artifacts"), home / "artifacts"
    seeds = load_json(artifacts / "student.json")["seeds"]
    setup, *_ = setups(home, data, baseline.split()[0] if student == "GRU4Rec" else student, seeds, "loky", {})
    if student == "GRU4Rec":
        return plan({f"{student} {variant}": gru4rec(setup.alone)}, seeds, data)
    if variant not in setup.runs:
        path, key = artifacts / f"teacher-{variant}.safetensors", table_key(artifacts / "events.parquet")
        data = taught_by(data, path, key)
    run = setup.runs.get(variant, replace(setup.alone, distillation=setup.taught))
    return plan({f"{student} {variant}": Job(run, data)}, seeds, data)


def chosen(preset: str) -> tuple[str, Job]:
    """Name and run of the best by validation of: students that gain significantly, else plain ones; and GRU4Rec."""
    home, table = outputs_dir(preset), read_main(preset, "excluded")
    students = [*load_json(home / "artifacts" / "student.json")["students"]]
    alone, rival = table["variant"] == "plain", table["model"] == "GRU4Rec"
    rows = gains(table) if len(gains(table)) else table[alone & table["model"].isin(students)]
    jobs = {}
    for row in pd.concat([rows, table[rival]])[["model", "variant", "baseline"]].itertuples(index=False):
        jobs |= jobs_of(home, *row)
    valid = pd.Series({name: run["valid_ndcg@10"] for name, run in results(jobs, home / "runs").items()})
    best = valid.groupby(level=0).mean().idxmax()
    return best, jobs[best, valid[best].idxmax()]


def export(preset: str) -> tuple[str, Path]:
    """Write the chosen student into outputs/<preset>/export: its name, and the path of the ONNX file."""
    home, (name, job) = outputs_dir(preset), chosen(preset)
    model, folder = load_model(run_folder(job, home / "runs")), home / "export"
    path = save_onnx(model, folder / "student.onnx")
    items = load_table(home / "artifacts" / "items.parquet").sort_values("item")
    about = {"student": name, "max_history": model.max_history, "item_ids": items["item_id"].astype(str).tolist()}
    save_json(about, folder / "student.json")
    shutil.copyfile(Path(__file__).with_name("serve.py"), folder / "serve.py")
    return name, path

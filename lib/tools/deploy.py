"""Which system of 04's table to deploy (last lines of `make reproduce`), and its student as ONNX (`make export`)."""

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
from pages import read_main
from seqbook.ablation import setups
from seqdistill.config import gru4rec
from seqdistill.io import display_path, load_json, load_table, outputs_dir, save_json, table_key
from seqdistill.serving.export import save_onnx
from seqdistill.training.sweep import Job, Jobs, plan, results, run_folder
from seqdistill.training.train import load_model, load_training_data, taught_by
from times import times

GAIN = "significant gain"


def taught(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the taught students, which have a control."""
    return table[table["control_verdict"].notna()] if "control_verdict" in table else table[:0]


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the taught students that rank significantly better than both plain and their control."""
    rows = taught(table)
    return rows[rows["verdict"].eq(GAIN) & rows["control_verdict"].eq(GAIN)] if len(rows) else rows


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


def better_rival(table: pd.DataFrame, best: str) -> pd.Series | None:
    """Best of the rivals whose interval over the plain student is above zero and that rank better than `best`."""
    student = (table["model"] + " " + table["variant"]) == best
    rivals = table[table["model"] == "baseline"]
    over = rivals[(rivals["ci_low"] > 0) & (rivals["ndcg@10"] > table.loc[student, "ndcg@10"].max())]
    return None if over.empty else over.loc[over["ndcg@10"].idxmax()]


def answer(table: pd.DataFrame, best: str, shares: dict[str, float]) -> str:
    """Say which system of a main table to deploy, which taught students gain, and what could have been seen.

    best: the student that `chosen` names. shares: of the users that a teacher taught, by variant.
    """
    first, better = f"deploy {best}: ", better_rival(table, best)
    if len(rivals := table[table["model"] == "baseline"]):
        rival = rivals.loc[rivals["ndcg@10"].idxmax()] if better is None else better
        name, student = rival["variant"], rival["baseline"]
        over = f"{rival['delta_ndcg@10']:+.4f} [{rival['ci_low']:+.4f}, {rival['ci_high']:+.4f}]"
        first = f"deploy {best} (the best rival without training is {name}: {over} over {student}): "
        if better is not None:
            first = f"deploy {name}, which ranks better than {student} ({over}); the best student is {best}: "
    students, gain = taught(table), gains(table)
    if students.empty:
        return f"{first}no student was taught."
    names = f" ({', '.join(gain['model'] + ' ' + gain['variant'])})" if len(gain) else ""
    plain = table[table["variant"] == "plain"].set_index("model")["ndcg@10"]
    detectable = students[["detectable", "control_detectable"]].max(axis=1)  # both of two tests must succeed
    least = (detectable / students["model"].map(plain)).min()
    heard = ", ".join(f"{variant} {share:.0%}" for variant, share in shares.items())
    return (
        f"{first}{len(gain)} of {len(students)} taught students rank significantly better than both plain and their "
        f"control{names}; a gain in NDCG@10 below {least:.0%} of plain would often be missed (seen items excluded); "
        f"users who were taught: {heard}."
    )


def exported(table: pd.DataFrame, best: str, path: Path) -> str:
    """Say which student `make export` writes, and which better rival it does not."""
    rival = better_rival(table, best)
    other = "" if rival is None else f"; {rival['variant']}, which ranks better, is not exported"
    return f"The best student, exported by make export: {display_path(path)} ({best}){other}"


def print_export(preset: str) -> None:
    """Write the student to deploy, and say which it is."""
    line = exported(read_main(preset, "excluded"), *export(preset))
    print(f"{line}; beside it serve.py, which answers with ten item ids", flush=True)


def print_summary(preset: str) -> None:
    """Print the answer, what to deploy, what to open, and how long the chapters took."""
    table, home, (best, path) = read_main(preset, "excluded"), outputs_dir(preset), export(preset)
    print(f"Answer: {answer(table, best, taught_shares(home, taught(table)))}")
    print(exported(table, best, path))
    history = " ".join(load_json(path.with_name("student.json"))["item_ids"][:3])
    print(f"To serve {best}: .venv/bin/python {display_path(path.with_name('serve.py'))} {history}")
    whole = (home / "08-results.html").exists()
    page, more = ("08-results", "make book") if whole else ("04-distillation", "make reproduce, then make book, with")
    print(f"To read: {display_path(home / f'{page}.html')}; all chapters: {more} PRESET={preset}")
    longest = sorted(times(preset).items(), key=lambda pair: -pair[1])
    parts = ", ".join(f"{name} {value / 60:.1f}" for name, value in longest[:3])
    print(f"Time: {sum(seconds for _, seconds in longest) / 60:.0f} minutes, most of them in {parts}")

"""What executing a preset takes, said before each chapter, and what it found: the last lines of `make reproduce`."""

import json
import os
import time
from pathlib import Path

import deploy
import numpy as np
import pandas as pd
from pages import read_main
from presets import chapters
from seqdistill.io import ROOT, UserError, display_path, load_json, outputs_dir, save_json

REFERENCES = ROOT / "outputs"  # committed times, whatever folder this execution writes to


def times(preset: str) -> dict[str, int]:
    """Seconds that chapters took here, by name; none if nothing is known."""
    path = outputs_dir(preset) / "artifacts" / "seconds.json"
    return json.loads(path.read_text()) if path.exists() else {}


def record(preset: str, chapter: str, seconds: float) -> None:
    """Keep how long a chapter took, in artifacts/seconds.json."""
    values = times(preset) | {chapter: round(seconds)}
    save_json(values, outputs_dir(preset) / "artifacts" / "seconds.json")


def calibration() -> float:
    """CPU seconds of a fixed workload on one thread, exponentials as in a softmax; used to compare machines."""
    logits, begun = np.ones((500, 4000), np.float32), time.process_time()
    for _ in range(100):
        np.exp(logits).sum()
    return time.process_time() - begun


def keep_times(preset: str) -> None:
    """Write outputs/<preset>/seconds.json, what the chapters took here, for `expected` on other machines.

    To be called after an execution from nothing: a chapter that finds its runs trained takes less.
    """
    known = {"calibration": calibration(), "cores": os.cpu_count(), "chapters": times(preset)}
    if left := [name for name in chapters() if name not in known["chapters"]]:
        raise UserError(f"times: {left[0]} has not been executed; run `make reproduce PRESET={preset}` first.")
    save_json(known, outputs_dir(preset) / "seconds.json")


def expected(preset: str, chapter: str) -> str:
    """Say how long a chapter took the last time, or would take from nothing by the speed of this machine."""
    if (seconds := times(preset).get(chapter)) is not None:
        return f"took {seconds} s here last time"
    reference = REFERENCES / preset / "seconds.json"
    known = load_json(reference) if reference.exists() else {"chapters": {}}
    if chapter not in known["chapters"]:
        return "first execution here"
    scale, cores = calibration() / known["calibration"], known["cores"]
    seconds, whole = (scale * part for part in (known["chapters"][chapter], sum(known["chapters"].values())))
    return f"about {seconds:.0f} s of {whole / 60:.0f} minutes for all chapters on {cores} cores, less on more"


def answer(table: pd.DataFrame, best: str = "", shares: dict[str, float] | None = None) -> str:
    """Say which system of a main table to deploy, which taught students gain, and what could have been seen.

    best: the student that `deploy.chosen` names. shares: of the users that a teacher taught, by variant.
    """
    plain = table[table["variant"] == "plain"].set_index("model")["ndcg@10"]
    taught, gains, first = deploy.taught(table), deploy.gains(table), f"deploy {best}: " if best else ""
    if best and (rival := better_rival(table, best)) is not None:
        span = f"{rival['delta_ndcg@10']:+.4f} [{rival['ci_low']:+.4f}, {rival['ci_high']:+.4f}]"
        first = f"deploy {rival['name']}, which ranks better than {rival['baseline']} ({span}); "
        first += f"the best student is {best}: "
    if taught.empty:
        return f"{first}no student was taught."
    names = f" ({', '.join(gains['model'] + ' ' + gains['variant'])})" if len(gains) else ""
    least = (taught["detectable"] / taught["model"].map(plain)).min()
    heard = ", ".join(f"{variant} {share:.0%}" for variant, share in (shares or {}).items())
    return (
        f"{first}{len(gains)} of {len(taught)} taught students rank significantly better than both plain and their "
        f"control{names}; a gain in NDCG@10 below {least:.0%} of plain could not have been shown"
        + f"; users who were taught: {heard}" * bool(heard)
        + "."
    )


def better_rival(table: pd.DataFrame, best: str) -> pd.Series | None:
    """Best of the rivals whose interval over the plain student is above zero and that rank better than `best`."""
    student = (table["model"] + " " + table["variant"]) == best
    rivals = table[table["model"].isin(["baseline", "GRU4Rec"])]
    over = rivals[(rivals["ci_low"] > 0) & (rivals["ndcg@10"] > table.loc[student, "ndcg@10"].max())]
    over = over.assign(name=over["variant"].where(over["model"] == "baseline", over["model"]))
    return None if over.empty else over.loc[over["ndcg@10"].idxmax()]


def exported(table: pd.DataFrame, best: str, path: Path) -> str:
    """Say which student `make export` writes, and which better rival it does not."""
    rival = better_rival(table, best)
    other = "" if rival is None else f"; {rival['name']}, which ranks better, is not exported"
    return f"The best student, exported by make export: {display_path(path)} ({best}){other}"


def print_summary(preset: str) -> None:
    """Print the answer, what to deploy, what to open, and how long the chapters took."""
    seconds, table, home = times(preset), read_main(preset, "excluded"), outputs_dir(preset)
    longest = sorted(((value, name) for name, value in seconds.items()), reverse=True)
    if not (home / "artifacts" / "student.json").exists():
        print(f"Answer: {answer(table)}")
    else:
        best, path = deploy.export(preset)
        print(f"Answer: {answer(table, best, deploy.taught_shares(home, deploy.taught(table)))}")
        print(exported(table, best, path))
        history = " ".join(load_json(path.with_name("student.json"))["item_ids"][:3])
        print(f"To serve: .venv/bin/python {display_path(path.with_name('serve.py'))} {history}")
    page = "08-results" if (home / "08-results.html").exists() else "04-distillation"
    print(f"To read: {display_path(home / f'{page}.html')}; all chapters: make book PRESET={preset}")
    parts = ", ".join(f"{name} {value / 60:.1f}" for value, name in longest[:3])
    print(f"Time: {sum(seconds.values()) / 60:.0f} minutes, most of them in {parts or 'no chapter'}")

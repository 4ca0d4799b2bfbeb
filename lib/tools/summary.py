"""What executing a preset takes, said before each chapter, and what it found: the last lines of `make reproduce`."""

import time

import pandas as pd
import torch
from pages import main_table
from seqdistill.io import display_path, load_json, outputs_dir, save_json


def calibration() -> float:
    """CPU seconds of a fixed piece of work like a training step's; chapters' times are carried over by it."""
    x = torch.ones(512, 512)
    begun = time.process_time()
    for _ in range(60):
        x = torch.softmax(x @ x, 1)
    return time.process_time() - begun


def record(preset: str, chapter: str, seconds: float) -> None:
    """Keep how long a chapter took, in artifacts/seconds.json."""
    path = outputs_dir(preset) / "artifacts" / "seconds.json"
    known = load_json(path) if path.exists() else {}
    save_json(known | {chapter: round(seconds), "calibration": calibration()}, path)


def expected(preset: str, chapter: str) -> str:
    """Say how long a chapter took here the last time or, scaled by `calibration`, where it was published."""
    here, published = (outputs_dir(preset) / part / "seconds.json" for part in ("artifacts", ""))
    if here.exists() and chapter in (seconds := load_json(here)):
        return f"took {seconds[chapter]} s here the last time, what it then trained included"
    if published.exists() and chapter in (seconds := load_json(published)):
        return f"about {seconds[chapter] * calibration() / seconds['calibration']:.0f} s, if all is trained"
    return "its time is not known yet"


def answer(table: pd.DataFrame) -> str:
    """Say which taught students of a main table gain over plain and their control, and what could have been seen."""
    plain = table[table["variant"] == "plain"].set_index("model")["ndcg@10"]
    taught = table[table["control_verdict"].notna()]
    gains = taught[(taught[["verdict", "control_verdict"]] == "significant gain").all(axis=1)]
    names = f" ({', '.join(gains['model'] + ' ' + gains['variant'])})" if len(gains) else ""
    least = (taught["detectable"] / taught["model"].map(plain)).min()
    return (
        f"{len(gains)} of {len(taught)} taught students rank significantly better than plain and than their control"
        f"{names}; a gain in NDCG@10 below {least:.0%} of plain could not have been shown."
    )


def print_summary(preset: str) -> None:
    """Print the answer, what to open, and how long the chapters took."""
    seconds = load_json(outputs_dir(preset) / "artifacts" / "seconds.json")
    longest = sorted(((value, name) for name, value in seconds.items() if name != "calibration"), reverse=True)
    print(f"Answer: {answer(main_table(preset, 'excluded'))}")
    print(f"To read: {display_path(outputs_dir(preset) / '08-results.html')}; all chapters: make book PRESET={preset}")
    parts = ", ".join(f"{name} {value / 60:.1f}" for value, name in longest[:3])
    print(f"Time: {sum(value for value, _ in longest) / 60:.0f} minutes, most of them in {parts}")

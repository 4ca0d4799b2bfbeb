"""What executing a preset takes, said before each chapter, and what it found: the last lines of `make reproduce`."""

import json

import pandas as pd
from pages import main_table
from seqdistill.io import display_path, outputs_dir, save_json


def times(preset: str) -> dict[str, int]:
    """Seconds that chapters took here, by name; none if nothing is known."""
    path = outputs_dir(preset) / "artifacts" / "seconds.json"
    return json.loads(path.read_text()) if path.exists() else {}


def record(preset: str, chapter: str, seconds: float) -> None:
    """Keep how long a chapter took, in artifacts/seconds.json."""
    values = times(preset) | {chapter: round(seconds)}
    save_json(values, outputs_dir(preset) / "artifacts" / "seconds.json")


def expected(preset: str, chapter: str) -> str:
    """Say how long a chapter took the last time."""
    seconds = times(preset).get(chapter)
    return "first execution here" if seconds is None else f"took {seconds} s here last time, training included"


def answer(table: pd.DataFrame) -> str:
    """Say which taught students of a main table gain over plain and their control, and what could have been seen."""
    plain = table[table["variant"] == "plain"].set_index("model")["ndcg@10"]
    taught = table[table["control_verdict"].notna()] if "control_verdict" in table else table[:0]
    if taught.empty:
        return "no student was taught."
    gains = taught[(taught[["verdict", "control_verdict"]] == "significant gain").all(axis=1)]
    names = f" ({', '.join(gains['model'] + ' ' + gains['variant'])})" if len(gains) else ""
    least = (taught["detectable"] / taught["model"].map(plain)).min()
    return (
        f"{len(gains)} of {len(taught)} taught students rank significantly better than both plain and their control"
        f"{names}; a gain in NDCG@10 below {least:.0%} of plain could not have been shown."
    )


def print_summary(preset: str) -> None:
    """Print the answer, what to open, and how long the chapters took."""
    seconds = times(preset)
    longest = sorted(((value, name) for name, value in seconds.items()), reverse=True)
    print(f"Answer: {answer(main_table(preset, 'excluded'))}")
    print(f"To read: {display_path(outputs_dir(preset) / '08-results.html')}; all chapters: make book PRESET={preset}")
    parts = ", ".join(f"{name} {value / 60:.1f}" for value, name in longest[:3])
    print(f"Time: {sum(seconds.values()) / 60:.0f} minutes, most of them in {parts or 'no chapter'}")

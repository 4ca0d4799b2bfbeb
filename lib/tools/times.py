"""What executing a preset takes, said before each chapter, and kept."""

import json
import os

from presets import chapters
from seqdistill.io import ROOT, UserError, load_json, outputs_dir, save_json

REFERENCES = ROOT / "outputs"  # committed times, whatever folder this execution writes to


def times(preset: str) -> dict[str, int]:
    """Seconds that chapters took here, by name; none if nothing is known."""
    path = outputs_dir(preset) / "artifacts" / "seconds.json"
    return json.loads(path.read_text()) if path.exists() else {}


def record(preset: str, chapter: str, seconds: float) -> None:
    """Keep how long a chapter took, in artifacts/seconds.json."""
    values = times(preset) | {chapter: round(seconds)}
    save_json(values, outputs_dir(preset) / "artifacts" / "seconds.json")


def keep_times(preset: str) -> None:
    """Write outputs/<preset>/seconds.json, what the chapters took here, for `expected` on other machines.

    To be called after an execution from nothing: a chapter that finds its runs trained takes less.
    """
    if left := sorted({*chapters()} - {*times(preset)}):
        raise UserError(f"times: {left[0]} has not been executed; run `make reproduce PRESET={preset}` first.")
    save_json({"cores": os.cpu_count(), "chapters": times(preset)}, outputs_dir(preset) / "seconds.json")


def expected(preset: str, chapter: str) -> str:
    """Say how long a chapter took the last time, or took from nothing where the committed times were measured."""
    if (seconds := times(preset).get(chapter)) is not None:
        return f"took {seconds} s here last time"
    reference = REFERENCES / preset / "seconds.json"
    known = load_json(reference) if reference.exists() else {"chapters": {}}
    if chapter not in known["chapters"]:
        return "first execution here"
    seconds, whole = known["chapters"][chapter], sum(known["chapters"].values()) / 60
    return f"about {seconds} s of {whole:.0f} minutes for all chapters on {known['cores']} cores, less on more"

"""What executing a preset takes, said before each chapter, and kept."""

import json
import os
import time

import numpy as np
from presets import chapters
from seqdistill.io import ROOT, UserError, load_json, outputs_dir, save_json
from threadpoolctl import threadpool_limits

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
    """CPU seconds of a fixed workload on one thread, a softmax over items as in training; used to compare machines."""
    states, items = np.ones((128, 64), np.float32), np.ones((64, 9000), np.float32)
    with threadpool_limits(1):
        begun = time.process_time()
        for _ in range(20):
            np.exp(states @ items - 64) @ items.T
        return time.process_time() - begun


def keep_times(preset: str) -> None:
    """Write outputs/<preset>/seconds.json, what the chapters took here, for `expected` on other machines.

    To be called after an execution from nothing: a chapter that finds its runs trained takes less.
    """
    if left := sorted({*chapters()} - {*times(preset)}):
        raise UserError(f"times: {left[0]} has not been executed; run `make reproduce PRESET={preset}` first.")
    known = {"calibration": calibration(), "cores": os.cpu_count(), "chapters": times(preset)}
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

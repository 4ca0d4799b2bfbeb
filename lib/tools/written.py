"""What 02 wants of an LLM: weights, by hash, and answers that ship with the book."""

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from presets import values_of
from seqdistill.embeddings import encoders
from seqdistill.embeddings.teachers import raw_history
from seqdistill.io import data_dir, digest, display_path, outputs_dir
from seqdistill.profiles import answers as store
from seqdistill.profiles import generate as profiles
from seqdistill.profiles.chat import Answer, Failure
from seqdistill.profiles.hf import model_folder
from seqdistill.profiles.llm import open_llm, parts_of
from seqdistill.profiles.prompts import FROM_FACTS
from weights import fetch_weights


def profile_task(preset: str, values: dict) -> tuple[Path, profiles.Task]:
    """Profiles that a preset wants, and where the shipped ones stand."""
    opened = cache(lambda: open_llm(values["llm"], values["context"], values["parallel"]))
    settings = (values[name] for name in ("llm", "style", "strategy", "context", "sample"))
    dataset, task = profiles.task_of(outputs_dir(preset) / "artifacts", *settings, opened)
    return profiles.shipped_path(dataset, values["llm"], values["style"], values["strategy"]), task


def weights(preset: str) -> None:
    """Fetch the weights that 02-profiles asks: live, and (once 01-data is there) for users without a profile.

    A model of the hub is always fetched: notebooks run with HF_HUB_OFFLINE, and the keys of answers need its files.
    """
    values = values_of(preset, "02-profiles")
    kind, model = parts_of(values["llm"])
    if kind == "transformers":
        print(f"{values['llm']}: {display_path(model_folder(model))}", flush=True)
    names = {values["live_llm"]} if values["live_users"] else set()
    if (outputs_dir(preset) / "artifacts" / "users.parquet").exists() and needs_model(preset, values):
        names.add(values["llm"])
    for name in sorted(name for name in names if parts_of(name)[0] == "gguf"):
        print(f"{name}: {display_path(fetch_weights(name))} has the right sha256", flush=True)


def needs_model(preset: str, values: dict) -> bool:
    """Whether 02 opens the model: to count the tokens of histories, or for answers that are nowhere yet."""
    if values["style"] not in FROM_FACTS:
        return True
    target, task = profile_task(preset, values)
    asked = task.first_questions()
    known = store.shipped(store.read_shipped(target), asked)
    known |= store.Store(data_dir() / "cache" / "answers.sqlite").get(question.key for question in asked)
    return any(question.key not in known for question in asked)


def write_profiles(preset: str, fresh: bool | str = "") -> None:
    """Answer 02's questions and ship the answers.

    `fresh` asks all of them again, into a store of its own that lives until all answers are shipped: a run that was
    killed, or in which users failed, resumes.
    """
    values = values_of(preset, "02-profiles")
    if parts_of(values["llm"])[0] == "gguf":
        fetch_weights(values["llm"])
    target, task = profile_task(preset, values)
    folder = data_dir() / "cache"
    opened = cache(lambda: open_llm(values["llm"], values["context"], values["parallel"]))
    own = folder / f"fresh-{digest([question.key for question in task.first_questions()])[:16]}.sqlite"
    kept, known = store.Store(own if fresh else folder / "answers.sqlite"), {} if fresh else store.read_shipped(target)
    ask, asked = profiles.asker(opened, kept, known), []

    def noted(questions: list[store.Question]) -> dict[str, Answer | Failure]:
        asked.extend(questions)
        return ask(questions)

    outcomes = profiles.write(task, noted)
    again = f"run `make profiles PRESET={preset}{' FRESH=1' if fresh else ''}`"
    if lost := profiles.failures_sentence(outcomes, again):
        print(lost, flush=True)
    old = store.shipped(known, asked)
    new = {key: answer for key, answer in kept.get(question.key for question in asked).items() if key not in old}
    table = store.ship(target, asked, old | new)
    if fresh and not lost:
        own.unlink()
    if preset == "default":  # what 03 of the default book would wait for
        ship_vectors(preset, target.parent, table, task)
    print(f"{display_path(target)}: {len(table)} answers, {len(new)} of them new", flush=True)


def ship_vectors(preset: str, folder: Path, table: pd.DataFrame, task: profiles.Task) -> None:
    """Ship the vectors of the profiles, and (in half precision) of the raw histories."""
    book, texts = values_of(preset, "03-embeddings"), store.latest(table, task.strategy)["text"].tolist()
    raw = [raw_history(history, book["latest"]) for history in task.histories.values()]
    for encoder, lines, name, dtype in (
        (book["encoder"], texts, "", np.float32), (book["source_encoder"], raw, "-raw-history", np.float16)
    ):  # fmt: skip
        if encoder in encoders.PACKAGED:
            encoders.ship(lines, encoder, folder / f"vectors-{encoder}{name}.safetensors", dtype)

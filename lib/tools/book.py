"""The book's machinery: execute a chapter (jupytext -> papermill -> nbconvert), weights, profiles, publish."""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TextIO

import deploy
import jupytext
import nbformat
import pages
import papermill
import presets
import summary
from command import one_line
from filelock import FileLock, Timeout
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from papermill.exceptions import PapermillExecutionError
from presets import chapters, check_preset, parameters, preset_values, values_of
from seqdistill.config import did_you_mean
from seqdistill.embeddings import encoders
from seqdistill.io import ROOT, UserError, atomic_write, data_dir, digest, display_path, outputs_dir
from seqdistill.profiles import answers as store
from seqdistill.profiles import generate as profiles
from seqdistill.profiles.chat import Answer, Failure
from seqdistill.profiles.hf import model_folder
from seqdistill.profiles.llm import open_llm, parts_of
from seqdistill.profiles.prompts import FROM_FACTS
from weights import fetch_weights

# One set of switches for every headless execution, papermill's and nbval's alike.
HEADLESS = {
    "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONHASHSEED": "0",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # with ipywidgets at hand, a model that loads draws into its cell
    "GOMP_SPINCOUNT": "0",  # idle threads of llama.cpp must not take the cores from those that work
}  # fmt: skip

METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def normalised(notebook: nbformat.NotebookNode, chapter: str) -> nbformat.NotebookNode:
    """Drop what differs between equal executions: times, versions, ids, where streams were cut, reports of progress."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{chapter}-{number:02}"
        cell.metadata = {"tags": cell.metadata.tags} if cell.metadata.get("tags") else {}
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return CoalesceStreamsPreprocessor().preprocess(notebook, {})[0]


@contextmanager
def terminal() -> Iterator[TextIO]:
    """Yield stderr, which leads nowhere for new processes: papermill passes on what a kernel and its workers print."""
    with os.fdopen(os.dup(2), "w") as stderr, open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield stderr
        finally:
            os.dup2(stderr.fileno(), 2)


def execute(chapter: str, preset: str) -> None:
    """Execute one chapter into outputs/<preset>; a failure leaves the former notebook and puts the failed one apart."""
    if chapter not in chapters():
        raise UserError(f'"{chapter}" is not a notebook{did_you_mean(chapter, chapters())}.')
    source = jupytext.read(presets.TEXT / f"{chapter}.py")
    values = preset_values(preset, chapter, parameters(source))
    os.environ.update({**HEADLESS, "SEQDISTILL_HEADLESS": "1"})
    target = outputs_dir(preset) / f"{chapter}.ipynb"
    failed = target.parent / "failed" / target.name
    source.metadata = nbformat.from_dict(METADATA)
    with tempfile.TemporaryDirectory() as folder, terminal() as stderr:
        before, after = f"{folder}/before.ipynb", f"{folder}/after.ipynb"
        nbformat.write(source, before)
        try:
            papermill.execute_notebook(
                before, after, values, kernel_name="python3", progress_bar=False, stderr_file=stderr,
                cwd=str(presets.TEXT.parent), extra_arguments=["--log-level=40"],
            )  # fmt: skip
        except PapermillExecutionError as error:
            failed.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(after, failed)
            what = error.evalue if error.ename == "UserError" else f"{error.ename}: {error.evalue}"
            raise UserError(f"{chapter}: {what} (the failed notebook is {display_path(failed)})") from None
        except (DeadKernelError, RuntimeError):  # the latter where it dies before its first answer
            raise UserError(f"{chapter}: its kernel died, most often for want of memory; run it again.") from None
        notebook = normalised(nbformat.read(after, as_version=4), chapter)
    with atomic_write(target) as temporary:
        nbformat.write(notebook, temporary)
    resources = {"metadata": {"name": notebook.cells[0].source.splitlines()[0].lstrip("# ")}}
    with atomic_write(target.with_suffix(".html")) as temporary:
        temporary.write_text(HTMLExporter().from_notebook_node(notebook, resources)[0])
    failed.unlink(missing_ok=True)


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


def write_profiles(preset: str, fresh: bool) -> None:
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
    if (encoder := values_of(preset, "03-embeddings")["encoder"]) in encoders.PACKAGED:
        texts = store.latest(table, values["strategy"])["text"].tolist()
        encoders.ship(texts, encoder, target.parent / f"vectors-{encoder}.safetensors")
    print(f"{display_path(target)}: {len(table)} answers, {len(new)} of them new", flush=True)


@contextmanager
def alone(preset: str) -> Iterator[None]:
    """Lock a preset's outputs, or stop where another process is at work there."""
    path = outputs_dir(preset) / "artifacts" / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=0):
            yield
    except Timeout:
        where = display_path(path.parents[1])
        raise UserError(f"{where}: another `make` is at work there; run this again when it is done.") from None


def main() -> None:
    """Command line: execute a chapter, publish, render the book, fetch weights, write profiles."""
    parser = argparse.ArgumentParser(prog="python lib/tools/book.py")
    parser.add_argument(
        "action",
        choices=["execute", "publish", "pages", "weights", "profiles", "summary", "times", "sections", "export"],
    )
    parser.add_argument("chapter", nargs="?", default="")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--fresh", action="store_true")
    options = parser.parse_args()
    chapter, preset = options.chapter, options.preset
    with one_line(chapter or options.action):
        check_preset(preset)
        with alone(preset):
            match options.action:
                case "execute":
                    (outputs_dir(preset) / "artifacts" / "started").touch()  # as old as `make` takes the chapter to be
                    start = time.monotonic()
                    print(f"{chapter} ({preset}): {summary.expected(preset, chapter)}", flush=True)
                    execute(chapter, preset)
                    summary.record(preset, chapter, time.monotonic() - start)
                    print(f"{chapter}: {time.monotonic() - start:.0f} s", flush=True)
                case "publish":
                    pages.publish(preset)
                case "pages":
                    pages.build(preset, ROOT / "build" / "book")
                    print("build/book/index.html", flush=True)
                case "weights":
                    weights(preset)
                case "profiles":
                    write_profiles(preset, options.fresh)
                case "sections":
                    presets.write_sections(preset, outputs_dir(preset) / "artifacts")
                case "export":
                    said = summary.exported(pages.read_main(preset, "excluded"), *deploy.export(preset))
                    print(f"{said}; beside it serve.py, which answers with ten item ids", flush=True)
                case "summary":
                    summary.print_summary(preset)
                case "times":
                    summary.keep_times(preset)


if __name__ == "__main__":
    main()

"""The book's machinery: execute a chapter (jupytext -> papermill -> nbconvert), and the commands around it.

What only another command needs is imported there: every chapter starts this module, and torch alone takes seconds.
"""

import argparse
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib import import_module
from typing import TextIO

import jupytext
import nbformat
import papermill
import presets
import psutil
import times
from command import one_line
from filelock import FileLock, Timeout
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from papermill.exceptions import PapermillExecutionError
from presets import chapters, check_preset, parameters, preset_values
from seqdistill.config import did_you_mean
from seqdistill.io import UserError, atomic_write, display_path, outputs_dir

ACTIONS = {  # what `make` asks for, beside "execute" -> the module and the function that do it
    "publish": ("pages", "publish"),
    "pages": ("pages", "build"),
    "weights": ("written", "weights"),
    "profiles": ("written", "write_profiles"),
    "sections": ("presets", "write_sections"),
    "export": ("deploy", "print_export"),
    "summary": ("deploy", "print_summary"),
    "times": ("times", "keep_times"),
    "tables": ("tables", "print_tables"),
    "power": ("tables", "print_power"),
    "estimate": ("estimate", "print_estimate"),
    "nbval": ("check_notebooks", "nbval"),
    "verify": ("verify", "verify"),
}
UNLOCKED = ("power", "estimate", "verify")  # they write nothing into the preset's outputs

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


def stop(*_: object) -> None:
    """End the kernel and its workers at once, without their tracebacks, when this process is asked to end."""
    logging.getLogger("asyncio").disabled = True  # it tells of a kernel that died before the loop ended
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    raise KeyboardInterrupt


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


def run_chapter(preset: str, chapter: str) -> None:
    """Execute a chapter; say before what it may take, and keep what it took."""
    for asked in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(asked) != signal.SIG_IGN:
            signal.signal(asked, stop)
    (outputs_dir(preset) / "artifacts" / "started").touch()  # as old as `make` takes the chapter to be
    start = time.monotonic()
    print(f"{chapter} ({preset}): {times.expected(preset, chapter)}", flush=True)
    execute(chapter, preset)
    times.record(preset, chapter, time.monotonic() - start)
    print(f"{chapter}: {time.monotonic() - start:.0f} s", flush=True)


def main() -> None:
    """Command line: an action, the words that it takes (a chapter to execute, a number of users, ...), a preset."""
    parser = argparse.ArgumentParser(prog="python lib/tools/book.py")
    parser.add_argument("action", choices=["execute", *ACTIONS])
    parser.add_argument("words", nargs="*")
    parser.add_argument("--preset", default="default")
    options = parser.parse_args()
    action, preset = options.action, options.preset
    with one_line(action):
        if action != "execute":  # `make` has its sections written first, so that the preset is checked once
            check_preset(preset)
        with nullcontext() if action in UNLOCKED else alone(preset):
            if action == "execute":
                run_chapter(preset, *options.words)
            else:
                module, function = ACTIONS[action]
                sys.exit(getattr(import_module(module), function)(preset, *options.words))


if __name__ == "__main__":
    main()

"""Executed notebooks, tables and docstrings -> what is read: published notebooks, and a site that needs no network."""

import ast
import re
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import jupytext
import nbformat
import pandas as pd
from pybtex.database import parse_file

from seqdistill import report
from seqdistill.artifacts import ROOT, BookError, outputs_dir, shown, writing
from seqdistill.presets import TEXT, chapters

SITE = ROOT / "lib" / "site"
BESIDE = "amazon-beauty-5core"  # the preset whose table README.md shows as well
LONG = 12  # lines beyond which a cell's code is folded
COLUMNS = ["variant", "model", "seeds", "cases", "recall@10", "ndcg@10", "delta_ndcg@10", "p_holm", "verdict"]
COLUMNS += ["control_verdict"]
SHORT = ["variant", "verdict", "ndcg@10", "delta_ndcg@10"]  # of the front page, which phones open too


def headline(home: Path, seen: str = "kept") -> pd.DataFrame:
    """Take the rows of main.csv that the book is about: all targets, seen items kept (or "filtered").

    Raises:
        BookError: there is no such table.
    """
    path = home / "tables" / "main.csv"
    if not path.exists():
        raise BookError(f"{shown(path)}: no such file; run `make reproduce PRESET={home.name}` first.")
    main = pd.read_csv(path).fillna({"verdict": ""})
    return main[main["protocol"].str.endswith("/all") & (main["seen"] == seen)]


def executed(preset: str, chapter: str) -> nbformat.NotebookNode:
    """Read a chapter as a preset executed it; the default preset's are also those that are published.

    Raises:
        BookError: it has not been executed.
    """
    places = [outputs_dir(preset) / f"{chapter}.ipynb"]
    places += [ROOT / "notebooks" / f"{chapter}.ipynb"] if preset == "default" else []
    for path in places:
        if path.exists():
            return nbformat.read(path, as_version=4)
    raise BookError(f"{shown(places[0])}: no such file; run `make reproduce PRESET={preset}` first.")


def publish(preset: str) -> None:
    """Copy a preset's executed notebooks to notebooks/, where they are read, and its main table to README.md.

    README.md also shows the main table that stands in outputs/ for Beauty, seen items left out, and reads both aloud.

    Raises:
        BookError: a chapter was not executed, or its text has changed since.
    """
    notebooks = {}
    for chapter in chapters():
        path = outputs_dir(preset) / f"{chapter}.ipynb"
        if not path.exists():
            raise BookError(f"{shown(path)}: no such file; run `make reproduce PRESET={preset}` first.")
        notebook = nbformat.read(path, as_version=4)
        text = jupytext.read(TEXT / f"{chapter}.py")
        if [cell.source for cell in notebook.cells] != [cell.source for cell in text.cells]:
            raise BookError(f"{shown(path)}: {chapter}.py has changed since; run `make reproduce PRESET={preset}`.")
        notebooks[chapter] = notebook
    for chapter, notebook in notebooks.items():
        with writing(ROOT / "notebooks" / f"{chapter}.ipynb") as temporary:
            nbformat.write(notebook, temporary)
    readme = (ROOT / "README.md").read_text()
    tables = {"main": headline(outputs_dir(preset)), "Beauty": headline(outputs_dir(BESIDE), "filtered")}
    for name, rows in tables.items():
        mark, end = f"<!-- {name} table -->", f"<!-- end of {name} table -->"
        before, rest = readme.split(mark)
        said = answer(rows.assign(variant=rows["model"] + " " + rows["variant"]))
        table = report.markdown(report.formatted(rows, COLUMNS))
        readme = f"{before}{mark}\n{said}\n\n{table}\n{end}{rest.split(end)[1]}"
    with writing(ROOT / "README.md") as temporary:
        temporary.write_text(readme)


@cache
def citations() -> list[re.Pattern]:
    """How each entry of the bibliography is cited in prose."""
    found = []
    for entry in parse_file(str(SITE / "references.bib")).entries.values():
        names = [" ".join(person.last_names).replace(r"{\'e}", "é") for person in entry.persons["author"]]
        said = {1: names[0], 2: rf"{names[0]}\s+(?:&|and)\s+{names[-1]}"}.get(len(names), rf"{names[0]}\s+et\s+al\.")
        year = entry.fields["year"]
        found.append(re.compile(rf"{said}(?:\s+\({year}\)|,\s+(?:ECIR\s+)?{year})"))
    return found


def cited(text: str) -> str:
    """Link citations in Markdown to the bibliography."""
    for pattern in citations():
        text = pattern.sub(lambda match: f"[{match[0]}](bibliography.md)", text)
    return text


def drawing(source: str) -> tuple[str, dict[str, str]]:
    """Read off the code of a figure its title and the labels of its axes, as far as they are written there."""
    title, labels = "", {}
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        words = [item.value for item in call.args if isinstance(item, ast.Constant) and isinstance(item.value, str)]
        if name in ("set_title", "suptitle", "forest", "drawn") and words:
            title = words[-1]
        if name in ("set_xlabel", "set_ylabel") and words:
            labels[name[4:]] = words[0]
        for given in call.keywords:
            if isinstance(given.value, ast.Constant) and isinstance(given.value.value, str):
                if given.arg == "title" and given.value.value:
                    title = given.value.value
                elif given.arg in ("xlabel", "ylabel"):
                    labels[given.arg] = given.value.value
    return title, labels


def prose(markdown: str) -> str:
    """Take the marks of Markdown off a text: it becomes an alternative text."""
    return " ".join(re.sub(r"[`*$\\]|^#+ ", "", markdown, flags=re.M).split())


def numbered(cell: nbformat.NotebookNode, name: str, heading: str, before: str) -> None:
    """Make the image that a cell shows a numbered figure with a caption and an alternative text."""
    image = next(output for output in cell.outputs if "image/png" in output.get("data", {}))
    told = image.metadata.get("image/png", {}).get("alt", "")
    title, labels = drawing(cell.source)
    title = title or heading
    axes = {"xlabel": "horizontal axis", "ylabel": "vertical axis"}
    seen = "; ".join(f"{axes[side]}: {label}" for side, label in sorted(labels.items()))
    alt = ". ".join(part for part in (title, seen, told or prose(before)) if part)
    said = f"{report.escaped(title)}. {report.escaped(told)}" if told else report.escaped(title)
    cell.metadata["mystnb"] = {"figure": {"caption": said, "name": name}, "image": {"alt": alt}}
    repeated = f"*{report.escaped(told)}*"
    cell.outputs = [output for output in cell.outputs if output.get("data", {}).get("text/markdown") != repeated]


def page(notebook: nbformat.NotebookNode, chapter: str) -> nbformat.NotebookNode:
    """Prepare an executed chapter for the book: figures numbered, citations linked, long and drawing code folded."""
    heading = before = ""
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            heads = re.findall(r"^#+ (.+)", cell.source, re.M)
            heading = re.sub(r"^\d+\W+", "", heads[-1]) if heads else heading
            before = cell.source.split("\n\n")[-1]
            cell.source = cited(cell.source)
            continue
        images = sum("image/png" in output.get("data", {}) for output in cell.outputs)
        if images > 1:
            raise BookError(f"{chapter}, cell {number}: {images} images; a cell shows one, so that it has its caption.")
        if images:
            numbered(cell, f"{chapter}-{number}", heading, before)
        if images or cell.source.count("\n") >= LONG or cell.source.startswith(("import ", "from ")):
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input"]
    return notebook


def answer(table: pd.DataFrame) -> str:
    """Say in words what the main table shows."""
    taught = table[table["control_verdict"].notna() & (table["model"] != "baseline")]
    gains = taught[taught["verdict"] == "gain shown"]
    both = gains[gains["control_verdict"] == "gain shown"]
    lost = taught[taught["verdict"] == "loss shown"]

    def named(rows: pd.DataFrame) -> str:
        return f" ({', '.join(rows['variant'])})" if len(rows) else ""

    return (
        f"On {report.escaped(table['dataset'].iloc[0])}, with {table['cases'].iloc[0]:,} test cases, {len(gains)} of "
        f"{len(taught)} taught students{named(gains)} are shown to rank better than the plain one, and {len(lost)}"
        f"{named(lost)} worse; **{len(both)}**{named(both)} also gain over the shuffled control, which is what a "
        "transfer of knowledge asks for."
    )


def opening(chapter: str, notebook: nbformat.NotebookNode) -> str:
    """One line of the contents: a chapter's title, linked, and its first paragraph."""
    title, paragraph = notebook.cells[0].source.split("\n\n")[:2]
    return f"* [{title.lstrip('# ')}]({chapter}.ipynb) {' '.join(paragraph.split())}"


def front(preset: str, notebooks: dict[str, nbformat.NotebookNode], text: str) -> str:
    """Fill the front page from the tables."""
    home = outputs_dir(preset)
    table = headline(home)
    table = table.assign(variant=table["model"] + " " + table["variant"])
    said = report.caption(table[table["model"] != "baseline"])
    figure = f"```{{figure}} main.png\n:alt: {said}\n:name: answer\n\nGain over the plain student\n```"
    parts = {
        "answer": answer(table),
        "figure": figure,
        "table": report.markdown(report.formatted(table, SHORT)),
        "chapters": "\n".join(opening(chapter, notebook) for chapter, notebook in notebooks.items()),
        "toctree": "\n".join(notebooks),
    }
    for name, part in parts.items():
        text = text.replace(f"<!-- {name} -->", part)
    return cited(text)


def api() -> dict[str, str]:
    """Pages of the library, file name -> text: one a module, and their list."""
    package = ROOT / "lib" / "seqdistill"
    names = [path.relative_to(package.parent).with_suffix("") for path in sorted(package.rglob("[!_]*.py"))]
    modules = [".".join(name.parts) for name in names]
    shown_as = "# {short}\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```\n"
    made = {f"{name}.md": shown_as.format(name=name, short=name.removeprefix("seqdistill.")) for name in modules}
    listed = "```{toctree}\n\n" + "\n".join(modules) + "\n```\n"
    made["index.md"] = f"# The library\n\nEvery module of `seqdistill`, from its source.\n\n{listed}"
    return made


def build(preset: str, target: Path) -> None:
    """Render the book of a preset into `target`, in place of what stood there.

    Raises:
        BookError: a chapter or the main table is missing, or Sphinx found something wrong.
    """
    notebooks = {chapter: executed(preset, chapter) for chapter in chapters()}
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "source", Path(folder) / "book"
        shutil.copytree(SITE, source)
        (source / "index.md").write_text(front(preset, notebooks, (SITE / "index.md").read_text()))
        shutil.copy(outputs_dir(preset) / "figures" / "main.png", source)
        for chapter, notebook in notebooks.items():
            nbformat.write(page(notebook, chapter), source / f"{chapter}.ipynb")
        (source / "api").mkdir()
        for name, text in api().items():
            (source / "api" / name).write_text(text)
        command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", f"{folder}/doctrees", source, made]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.replace(str(source), "").strip().splitlines()
            raise BookError("book: Sphinx refused:\n" + "\n".join(said[:10]))
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(made, target)

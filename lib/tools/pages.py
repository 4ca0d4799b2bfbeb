"""Executed notebooks, tables and docstrings -> what is read: published notebooks, and a site that needs no network."""

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
from presets import TEXT, chapters
from pybtex.database import parse_file
from seqdistill.io import ROOT, UserError, atomic_write, display_path, outputs_dir
from seqdistill.reporting import report

SITE = ROOT / "lib" / "site"
BESIDE = "amazon-beauty-5core"  # the preset whose table README.md shows as well
LONG = 12  # lines beyond which a cell's code is folded
COLUMNS = ["variant", "model", "seeds", "recall@10", "ndcg@10", "delta_ndcg@10", "p_holm", "verdict"]
COLUMNS += ["control_delta_ndcg@10", "control_verdict"]
SHORT = ["variant", "verdict", "ndcg@10", "delta_ndcg@10"]  # of the front page, which phones open too


def not_executed(path: Path, preset: str) -> UserError:
    """Name a file that a preset has not left yet."""
    return UserError(f"{display_path(path)}: no such file; run `make reproduce PRESET={preset}` first.")


def headline(home: Path, seen: str = "included") -> pd.DataFrame:
    """Take the rows of main.csv that the book is about: all targets, seen items kept (or "excluded").

    Raises:
        UserError: there is no such table.
    """
    path = home / "tables" / "main.csv"
    if not path.exists():
        raise not_executed(path, home.name)
    main = pd.read_csv(path).fillna({"verdict": ""})
    return main[main["protocol"].str.endswith("/all") & (main["seen"] == seen)]


def executed(preset: str, chapter: str) -> nbformat.NotebookNode:
    """Read a chapter as a preset executed it; the default preset's are also those that are published.

    Raises:
        UserError: it has not been executed.
    """
    places = [outputs_dir(preset) / f"{chapter}.ipynb"]
    places += [ROOT / "notebooks" / f"{chapter}.ipynb"] if preset == "default" else []
    for path in places:
        if path.exists():
            return nbformat.read(path, as_version=4)
    raise not_executed(places[0], preset)


def publish(preset: str) -> None:
    """Copy a preset's executed notebooks to notebooks/, where they are read, and its results to README.md.

    Raises:
        UserError: a chapter was not executed, or its text has changed since.
    """
    notebooks = {}
    for chapter in chapters():
        path = outputs_dir(preset) / f"{chapter}.ipynb"
        if not path.exists():
            raise UserError(f"{display_path(path)}: no such file; run `make reproduce PRESET={preset}` first.")
        notebook = nbformat.read(path, as_version=4)
        text = jupytext.read(TEXT / f"{chapter}.py")
        if [cell.source for cell in notebook.cells] != [cell.source for cell in text.cells]:
            raise UserError(
                f"{display_path(path)}: {chapter}.py has changed since; run `make reproduce PRESET={preset}`."
            )
        notebooks[chapter] = notebook
    for chapter, notebook in notebooks.items():
        with atomic_write(ROOT / "notebooks" / f"{chapter}.ipynb") as temporary:
            nbformat.write(notebook, temporary)
    readme = (ROOT / "README.md").read_text()
    for name, part in readme_parts(preset).items():
        mark, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, rest = readme.split(mark)
        readme = f"{before}{mark}\n{part}\n{end}{rest.split(end)[1]}"
    with atomic_write(ROOT / "README.md") as temporary:
        temporary.write_text(readme)


def readme_parts(preset: str) -> dict[str, str]:
    """Write what README.md shows of the results: a preset's main table, Beauty's, and the best student taught there."""
    tables = {"main table": (outputs_dir(preset), "included"), "Beauty table": (outputs_dir(BESIDE), "excluded")}
    return {name: read_aloud(*table) for name, table in tables.items()} | {"best taught": best_taught()}


def read_aloud(home: Path, seen: str) -> str:
    """Write a preset's main table for the README, below what it says in words."""
    rows = headline(home, seen)
    return f"{answer(home, rows['seen'].iloc[0])}\n\n{report.markdown(report.format_table(rows, COLUMNS))}"


def best_taught() -> str:
    """Say what `make bench-transfer` found of the best taught student, with the seeds that chose nothing."""
    table, said = pd.read_csv(outputs_dir("bench") / "transfer.csv"), []
    table = table[table["tested"] == table["tested"].iloc[-1]]
    name = table.loc[table["control"].notna(), "variant"].iloc[0]
    for seen, found in table[table["variant"] == name].groupby("seen", sort=False):
        rows = [rows for _, rows in found.groupby("baseline", sort=False)]
        recall, ndcg = report.format_table(rows[0], ["variant", "recall@10", "ndcg@10"]).iloc[0]
        seeds = rows[0]["seeds"].iloc[0]
        said += ["", f"With {READINGS[seen]}, over {seeds} seeds: Recall@10 {recall}, NDCG@10 {ndcg}.", ""]
        said += [f"* {report.sentence(row, name)}" for row in rows]
        said += [f"* {report.sentence(rows[0], name, 'control')}"]
    return "\n".join(said[1:])


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


def numbered(cell: nbformat.NotebookNode, name: str, heading: str) -> None:
    """Make the image that a cell shows a numbered figure with a caption and an alternative text."""
    image = next(output for output in cell.outputs if "image/png" in output.get("data", {}))
    told = image.metadata.get("image/png", {}).get("alt", "")
    parts = [part for part in (heading, told) if part]
    alt, said = ". ".join(parts), ". ".join(map(report.escaped, parts))
    cell.metadata["mystnb"] = {"figure": {"caption": said, "name": name}, "image": {"alt": alt}}
    repeated = f"*{report.escaped(told)}*"
    cell.outputs = [output for output in cell.outputs if output.get("data", {}).get("text/markdown") != repeated]


def page(notebook: nbformat.NotebookNode, chapter: str) -> nbformat.NotebookNode:
    """Prepare an executed chapter for the book: figures numbered, citations linked, long and drawing code folded."""
    heading = ""
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            heads = re.findall(r"^#+ (.+)", cell.source, re.M)
            heading = re.sub(r"^\d+\W+", "", heads[-1]) if heads else heading
            cell.source = cited(cell.source)
            continue
        images = sum("image/png" in output.get("data", {}) for output in cell.outputs)
        if images > 1:
            raise UserError(f"{chapter}, cell {number}: {images} images; a cell shows one, so that it has its caption.")
        if images:
            numbered(cell, f"{chapter}-{number}", heading)
        if images or cell.source.count("\n") >= LONG or cell.source.startswith(("import ", "from ")):
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input"]
    return notebook


READINGS = {"included": "seen items kept", "excluded": "seen items left out"}


def answer(home: Path, seen: str) -> str:
    """Say in words what the main table of a preset shows: the reading `seen` first, then the other one."""
    other = next(it for it in READINGS if it != seen)
    table = headline(home, seen)
    dataset, cases = report.escaped(table["dataset"].iloc[0]), table["cases"].iloc[0]
    return (
        f"On {dataset}, with {cases:,} test cases and {READINGS[seen]} (the table below), {verdicts(table)} With "
        f"{READINGS[other]}, {verdicts(headline(home, other))} A gain over the shuffled control as well is what a "
        "transfer of knowledge asks for."
    )


def verdicts(table: pd.DataFrame) -> str:
    """Count the taught students of a main table that gain or lose."""
    table = table.assign(variant=table["model"] + " " + table["variant"])
    taught = table[table["control_verdict"].notna() & (table["model"] != "baseline")]
    gains = taught[taught["verdict"] == "significant gain"]
    both = gains[gains["control_verdict"] == "significant gain"]
    llm = both["variant"].str.contains("distilled").sum()
    lost = taught[taught["verdict"] == "significant loss"]

    def named(rows: pd.DataFrame) -> str:
        return f" ({', '.join(rows['variant'])})" if len(rows) else ""

    return (
        f"{len(gains)} of {len(taught)} taught students{named(gains)} are shown to rank better than the plain one and "
        f"{len(lost)}{named(lost)} worse; **{len(both)}**{named(both)} also gain over the shuffled control, "
        f"{llm} of them taught by the LLM's profiles."
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
        "answer": answer(home, "included"),
        "figure": figure,
        "table": report.markdown(report.format_table(table, SHORT)),
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
        UserError: a chapter or the main table is missing, or Sphinx found something wrong.
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
            raise UserError("book: Sphinx refused:\n" + "\n".join(said[:10]))
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(made, target)

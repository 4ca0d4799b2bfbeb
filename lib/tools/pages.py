"""Executed notebooks, tables and docstrings -> what is read: published notebooks, and a site that needs no network."""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import jupytext
import nbformat
import pandas as pd
import yaml
from presets import TEXT, chapters
from seqbook.reporting import report
from seqbook.reporting.main_tables import reading
from seqdistill.io import ROOT, UserError, atomic_write, display_path, outputs_dir

TEMPLATES = Path(__file__).parent / "templates"
SITE, README = ROOT / "lib" / "site", ROOT / "README.md"
INJECTED = "injected-parameters"  # tag of the cell with a preset's own parameters
LONG = 12  # lines beyond which a cell's code is folded
BEAUTY = "amazon-beauty-5core"
ON_BEAUTY = ["03-embeddings", "04-distillation"]  # committed as executed


def read_main(preset: str, seen: str) -> pd.DataFrame:
    """Rows of a preset's main.csv over all targets, with seen items "included" or "excluded"."""
    return reading(pd.read_csv(executed(preset, "tables/main.csv")).fillna({"verdict": ""}), seen)


def executed(preset: str, name: str) -> Path:
    """Path of what executing a preset wrote; of the default preset, the published notebook where there is no other."""
    paths = [outputs_dir(preset) / name, *([ROOT / "notebooks" / name] if preset == "default" else [])]
    if not (path := next(filter(Path.exists, paths), None)):
        raise UserError(f"{display_path(paths[0])}: no such file; run `make reproduce PRESET={preset}` first.")
    return path


def readme_rows(name: str) -> pd.DataFrame:
    """What templates/readme.yaml says of one of README.md's tables, beside the row of outputs/ that it names."""
    rows = []
    for said in yaml.safe_load((TEMPLATES / "readme.yaml").read_text())[name]:
        table = pd.read_csv(executed(*said["table"].split("/", 1)))
        table = table[(table[[*said["row"]]] == pd.Series(said["row"])).all(axis=1)]
        if "protocol" in table:
            table = table[table["protocol"].str.endswith("/all")]
        rows.append(table.assign(**{column: text for column, text in said.items() if isinstance(text, str)}))
    joined = pd.concat(rows, ignore_index=True)
    return joined.assign(plain=joined["ndcg@10"] - joined["delta_ndcg@10"])


def results_table() -> str:
    """README.md's table: taught students against plain and against their control, seen items excluded."""
    rows = readme_rows("results").fillna({"model": "SASRec"})
    alone = (rows["verdict"] == "significant gain") & (rows["control_verdict"] != "significant gain")
    rows.loc[alone, "verdict"] = "inconclusive"  # benchmarks test against plain alone
    rows["at most"] = (rows["ci_high"] / rows["plain"]).map("{:+.1%} of plain".format)
    rows["student (plain)"] = rows["model"] + rows["plain"].map(" ({:.4f})".format)
    columns = ["data", "verdict", "student (plain)", "teacher", "delta_ndcg@10", "at most"]
    table = report.format_table(rows, [*columns, "control_verdict", "control_delta_ndcg@10"])
    table["over its control"] = table.pop("control_verdict") + ", " + table.pop("control_delta_ndcg@10")
    return report.markdown(table.rename(columns={"delta_ndcg@10": "Δ NDCG@10 [95 %]"}))


def decision_table() -> str:
    """README.md's decisions: what a situation asks for, what it gains over plain SASRec, what it costs."""
    overhead = pd.read_csv(executed("bench", "overhead.csv"))[["distilled_cpu_s", "plain_cpu_s"]].sum()
    llm = pd.read_csv(executed("bench", "llm.csv")).iloc[0]
    more, seconds = overhead["distilled_cpu_s"] / overhead["plain_cpu_s"] - 1, llm["cpu_s"] / llm["users"]
    rows = readme_rows("decisions")
    rows["cost"] = [cost.format(overhead=f"{more:+.0%}", seconds=f"{seconds:.0f}") for cost in rows["cost"]]
    table = report.format_table(rows, ["situation", "what to do", "delta_ndcg@10", "plain", "cost", "advice"])
    return report.markdown(table.rename(columns={"delta_ndcg@10": "gain in NDCG@10 [95 %]", "plain": "plain NDCG@10"}))


def current(preset: str, chapter: str) -> nbformat.NotebookNode:
    """Read a chapter that a preset executed; UserError if there is none, or if its text has changed since."""
    path, text = executed(preset, f"{chapter}.ipynb"), jupytext.read(TEXT / f"{chapter}.py")
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if INJECTED not in cell.metadata.get("tags", [])]
    if [cell.source for cell in cells] != [cell.source for cell in text.cells]:
        raise UserError(f"{display_path(path)}: {chapter}.py has changed since; run `make reproduce PRESET={preset}`.")
    return notebook


def publish(preset: str) -> None:
    """Copy a preset's executed notebooks to notebooks/, where they are read, and the results to README.md."""
    notebooks = {chapter: current(preset, chapter) for chapter in chapters()}
    if any(INJECTED in cell.metadata.get("tags", []) for notebook in notebooks.values() for cell in notebook.cells):
        raise UserError(f"publish: {preset} has parameters of its own; notebooks with those of the text are published.")
    for chapter, notebook in notebooks.items():
        with atomic_write(ROOT / "notebooks" / f"{chapter}.ipynb") as temporary:
            nbformat.write(notebook, temporary)
    text = README.read_text()
    for name, table in {"results": results_table(), "decisions": decision_table()}.items():
        parts = f"<!-- {name} -->", f"<!-- end of {name} -->"
        text = re.sub(".*".join(parts), lambda _, block=table, ends=parts: f"\n{block}\n".join(ends), text, flags=re.S)
    with atomic_write(README) as temporary:
        temporary.write_text(text)


def page(notebook: nbformat.NotebookNode, chapter: str) -> nbformat.NotebookNode:
    """Prepare an executed chapter for the site: figures numbered and captioned, long and drawing code folded."""
    heading = ""
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            headings = re.findall(r"^#+ (.+)", cell.source, re.M)
            heading = re.sub(r"^\d+\W+", "", headings[-1]) if headings else heading
            continue
        images = [output for output in cell.outputs if "image/png" in output.get("data", {})]
        for image in images:
            drawn = image.metadata.get("image/png", {})
            text, size = drawn.get("alt", ""), {"width": f"{drawn['width']}px"} if "width" in drawn else {}
            parts = [part for part in (heading, text) if part]
            figure = {"caption": ". ".join(map(report.escaped, parts)), "name": f"{chapter}-{number}"}
            cell.metadata["mystnb"] = {"figure": figure, "image": {"alt": ". ".join(parts), **size}}
            below = f"*{report.escaped(text)}*"  # what the notebook shows below its figure is the site's caption
            cell.outputs = [output for output in cell.outputs if output.get("data", {}).get("text/markdown") != below]
        if images or cell.source.count("\n") >= LONG or cell.source.startswith(("import ", "from ")):
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), "hide-input"]
    return notebook


def beauty_chapters() -> dict[str, nbformat.NotebookNode]:
    """Chapters executed on Beauty 5-core that show none of its texts, as pages of their own; their titles name it."""
    notebooks = {}
    for chapter in ON_BEAUTY:
        notebooks[f"beauty-{chapter}"] = notebook = current(BEAUTY, chapter)
        notebook.cells[0].source = re.sub(r"\A(# .+)", r"\1 (Beauty 5-core)", notebook.cells[0].source)
    return notebooks


def front(preset: str, notebooks: dict[str, nbformat.NotebookNode]) -> str:
    """Fill the front page: figure and table of the preset, chapters with their first paragraphs."""
    table = read_main(preset, "excluded")
    table = table.assign(variant=table["model"] + " " + table["variant"])
    alt = report.caption(table[table["model"] != "baseline"])
    openings = {chapter: notebook.cells[0].source.split("\n\n") for chapter, notebook in notebooks.items()}
    parts = {
        "figure": f"```{{figure}} main.png\n:alt: {alt}\n:name: answer\n\nΔ NDCG@10 against the plain student\n```",
        "table": report.markdown(report.format_table(table, ["variant", "verdict", "ndcg@10", "delta_ndcg@10"])),
        "chapters": "\n".join(
            f"* [{title.lstrip('# ')}]({chapter}.ipynb) {' '.join(paragraph.split())}"
            for chapter, (title, paragraph, *_) in openings.items()
        ),
    }
    text = (SITE / "index.md").read_text()
    for name, part in parts.items():
        text = text.replace(f"<!-- {name} -->", part)
    return text


def build(preset: str, target: Path = ROOT / "build" / "book") -> None:
    """Render the book of a preset into `target`, in place of what stood there; Sphinx documents the library itself."""
    notebooks = {name: nbformat.read(executed(preset, f"{name}.ipynb"), as_version=4) for name in chapters()}
    with tempfile.TemporaryDirectory() as folder:
        source, site = Path(folder) / "source", Path(folder) / "site"
        shutil.copytree(SITE, source)
        (source / "index.md").write_text(front(preset, notebooks))
        shutil.copy(outputs_dir(preset) / "figures" / "main.png", source)
        for chapter, notebook in (notebooks | beauty_chapters()).items():
            nbformat.write(page(notebook, chapter), source / f"{chapter}.ipynb")
        command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", f"{folder}/doctrees", source, site]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            lines = result.stderr.replace(str(source), "").strip().splitlines()
            raise UserError("book: Sphinx refused:\n" + "\n".join(lines[:10]))
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(site, target)
    print(display_path(target / "index.html"), flush=True)

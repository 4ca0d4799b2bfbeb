"""Tables for the page, figures in one style, and the paper's own numbers (as data)."""

import io
import re
from importlib import resources
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import PIL.Image
import seaborn as sns
import yaml
from filelock import FileLock
from IPython.display import Image, Markdown, display
from matplotlib.figure import Figure
from matplotlib.text import Text
from seqdistill.io import UserError, display_path, load_csv, load_json, save_csv, save_json, save_with


def paper(table: str) -> pd.DataFrame:
    """One of the paper's tables, by its name in paper.yaml."""
    text = resources.files("seqbook.reporting").joinpath("paper.yaml").read_text("utf-8")
    return pd.DataFrame(yaml.safe_load(text)[table])


def read_table(name: str, *folders: Path) -> pd.DataFrame:
    """Read a CSV table, concatenated over the folders that hold it; missing texts become empty strings."""
    paths = [folder / f"{name}.csv" for folder in folders]
    parts = [load_csv(path) for path in paths if path.exists()]
    if not parts:
        by = "a benchmark (`make help` lists them)" if folders[0].name == "bench" else "an earlier chapter"
        raise UserError(f"{display_path(paths[0])}: no such file; {by} writes it.")
    table = pd.concat(parts, ignore_index=True)
    return table.fillna(dict.fromkeys(table.select_dtypes(["object", "str"]), ""))


def format_table(table: pd.DataFrame, columns: list[str] | None = None) -> pd.DataFrame:
    """Format columns (default: all) as text: four decimals, intervals, ±, thousands separators."""

    def cell(row: dict, column: str) -> str:
        value = row[column]
        if column.endswith("delta_ndcg@10") and not np.isnan(value):
            low, high = (row[column.replace("delta_ndcg@10", end)] for end in ("ci_low", "ci_high"))
            return f"{value:+.4f} [{low:+.4f}, {high:+.4f}]"
        if isinstance(value, float):
            spread = row.get(f"{column}_std", np.nan)
            return "" if np.isnan(value) else f"{value:.4f}" + ("" if np.isnan(spread) else f" ± {spread:.4f}")
        return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)

    columns = columns or list(table.columns)
    texts = [[cell(row, column) for column in columns] for row in table.to_dict("records")]
    return pd.DataFrame(texts, columns=columns).set_index(columns[0])


def escaped(text: str) -> str:
    """Escape an external text (a title, a genre, a profile) so that Markdown shows it as it is, on one line."""
    return re.sub(r"[\\`*_<>&$|~#]|\](?=[(\[:])", r"\\\g<0>", " ".join(str(text).split()))


def markdown(table: pd.DataFrame) -> str:
    """Write a formatted table as Markdown."""
    rows = [[table.index.name, *table.columns], ["---"] * (1 + table.shape[1])]
    rows += [[index, *row] for index, row in zip(table.index, table.to_numpy(), strict=True)]
    return "\n".join("| " + " | ".join(escaped(cell) for cell in row) + " |" for row in rows)


def caption(table: pd.DataFrame, by: str = "") -> str:
    """Summarise a comparison (of each group `by`): the highest row, and which rows gain, lose or beat their control."""
    if by:
        return " ".join(f"{group}: {caption(rows)}" for group, rows in table.groupby(by, sort=False))
    rows = table.dropna(subset="delta_ndcg@10")
    if rows.empty:
        return "There is nothing to compare here."
    best = rows.loc[rows["delta_ndcg@10"].idxmax()]
    interval = f"{best['delta_ndcg@10']:+.4f} [{best['ci_low']:+.4f}, {best['ci_high']:+.4f}]"
    parts = [f"Highest of {len(rows)} is {best['variant']}, ΔNDCG@10 {interval}"]
    if set(rows["verdict"].dropna()) == {"one seed"}:
        return f"{parts[0]}; one seed a row, so that no row has a verdict."
    gain, loss = (rows["verdict"] == f"significant {word}" for word in ("gain", "loss"))
    marked = {"significant gain": gain, "significant loss": loss}
    if "control_verdict" in rows:
        marked["gain over the control as well"] = gain & (rows["control_verdict"] == "significant gain")
    parts += [f"{words}: {', '.join(rows.loc[mark, 'variant']) or 'none'}" for words, mark in marked.items()]
    return "; ".join(parts) + "."


def style() -> None:
    """Set the common style of all figures and tables."""
    pd.set_option("display.html.use_mathjax", False)  # dollars in titles and profiles are no formulas
    sns.set_theme(style="whitegrid", palette="colorblind", font_scale=0.9)
    sizes = {"figure.figsize": (6.4, 3.6), "figure.dpi": 100, "savefig.dpi": 200}
    plt.rcParams.update({**sizes, "date.converter": "concise"})


def save_figure(figure: Figure, data: pd.DataFrame, path: Path) -> None:
    """Write a figure as PNG of 64 colours, twice as large as it is shown, and its numbers as CSV beside it."""
    # The formulas of logarithmic axes stay formulas; other dollar signs are from names in the data.
    for text in figure.findobj(lambda part: isinstance(part, Text) and "$" in part.get_text()):
        text.set_parse_math("\\mathdefault" in text.get_text())
    figure.tight_layout()
    drawing = io.BytesIO()
    figure.savefig(drawing, format="png", bbox_inches="tight")
    few = PIL.Image.open(drawing).convert("RGB").quantize(64)
    save_with(lambda temporary: few.save(temporary, format="png", optimize=True), path)
    save_csv(data, path.with_suffix(".csv"))
    plt.close(figure)


def show_figure(figure: Figure, table: pd.DataFrame, path: Path, text: str = "") -> None:
    """Save a figure and its table, and show it; `text` (default: `caption`) becomes its caption and alt text."""
    save_figure(figure, table, path)
    text = text or caption(table)
    with PIL.Image.open(path) as drawn:
        width = drawn.width // 2
    display(Image(path, alt=text, width=width), Markdown(f"*{escaped(text)}*"))


def record_metrics(home: Path, chapter: str, values: dict) -> None:
    """Put a chapter's numbers into the preset's metrics.json, beside those of the others."""
    path = home / "metrics.json"
    with FileLock(home / "artifacts" / "metrics.lock"):  # chapters may run side by side
        save_json((load_json(path) if path.exists() else {}) | {chapter: values}, path)

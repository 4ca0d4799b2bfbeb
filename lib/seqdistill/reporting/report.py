"""Tables for the page, figures in one style, and the paper's own numbers (as data)."""

import io
import re
import time
from importlib import resources
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import PIL.Image
import seaborn as sns
import yaml
from IPython.display import Image, Markdown, display
from matplotlib.figure import Figure
from matplotlib.text import Text

from seqdistill.io import load_json, save_csv, save_json, save_with
from seqdistill.reporting.figures import FIGURES


def paper(table: str) -> pd.DataFrame:
    """One of the paper's tables, by its name in paper.yaml."""
    text = resources.files("seqdistill.reporting").joinpath("paper.yaml").read_text("utf-8")
    return pd.DataFrame(yaml.safe_load(text)[table])


def tables(homes: list[Path], name: str) -> pd.DataFrame:
    """Put a table of several presets, each in its folder, one under the other; empty where none has it."""
    paths = [home / "tables" / f"{name}.csv" for home in homes]
    found = [pd.read_csv(path) for path in paths if path.exists()]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def formatted(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Write chosen columns as text for the page: trained numbers with four decimals, counts with separators."""

    def cell(row: dict, column: str) -> str:
        value = row[column]
        if column.endswith("delta_ndcg@10") and not np.isnan(value):
            low, high = (row[column.replace("delta_ndcg@10", end)] for end in ("ci_low", "ci_high"))
            return f"{value:+.4f} [{low:+.4f}, {high:+.4f}]"
        if isinstance(value, float):
            spread, sign = row.get(f"{column}_std", np.nan), "+" if column == "effect" else ""
            return "" if np.isnan(value) else f"{value:{sign}.4f}" + ("" if np.isnan(spread) else f" ± {spread:.4f}")
        return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)

    texts = [[cell(row, column) for column in columns] for row in table.to_dict("records")]
    return pd.DataFrame(texts, columns=columns).set_index(columns[0])


def escaped(text: str) -> str:
    """Write a text from outside (a title, a genre, a profile) so that Markdown shows it as it is, on one line."""
    return re.sub(r"[\\`*_<>&$|~#]|\](?=[(\[:])", r"\\\g<0>", " ".join(str(text).split()))


def markdown(table: pd.DataFrame) -> str:
    """Write a formatted table as Markdown."""
    rows = [[table.index.name, *table.columns], ["---"] * (1 + table.shape[1])]
    rows += [[index, *row] for index, row in zip(table.index, table.to_numpy(), strict=True)]
    return "\n".join("| " + " | ".join(escaped(cell) for cell in row) + " |" for row in rows)


def sentence(table: pd.DataFrame, variant: str, against: str = "baseline") -> str:
    """Read one row of a comparison aloud, against the baseline or against the row's own "control"."""
    row, prefix = table.set_index("variant").loc[variant], "" if against == "baseline" else f"{against}_"
    delta, low, high, p = (row[f"{prefix}{name}"] for name in ("delta_ndcg@10", "ci_low", "ci_high", "p_holm"))
    return (
        f"**{variant}** against {row[against]}: NDCG@10 {delta:+.4f} "
        f"(95 % interval {low:+.4f} to {high:+.4f}, Holm-adjusted p = {p:.4f}): *{row[f'{prefix}verdict']}*."
    )


def style() -> None:
    """Set the one look of all figures."""
    sns.set_theme(style="whitegrid", palette="colorblind", font_scale=0.9)
    plt.rcParams.update({"figure.figsize": (6.4, 3.6), "figure.dpi": 100, "savefig.dpi": 100, "svg.hashsalt": "0"})


def save_figure(figure: Figure, data: pd.DataFrame, path: Path) -> Figure:
    """Write a figure as PNG of 64 colours and the numbers behind it as CSV beside it; return the figure.

    Dollars in names of the data stand for themselves; the formulas of logarithmic axes stay formulas.
    """
    for text in figure.findobj(lambda part: isinstance(part, Text) and "$" in part.get_text()):
        text.set_parse_math("\\mathdefault" in text.get_text())
    figure.tight_layout()
    drawing = io.BytesIO()
    figure.savefig(drawing, format="png", bbox_inches="tight")
    few = PIL.Image.open(drawing).convert("RGB").quantize(64)
    save_with(lambda temporary: few.save(temporary, format="png", optimize=True), path)
    save_csv(data, path.with_suffix(".csv"))
    plt.close(figure)
    return figure


def caption(table: pd.DataFrame) -> str:
    """Read a comparison aloud: its ends, which rows gain or lose, and which gains beat their control, too."""
    cells = table.dropna(subset="delta_ndcg@10").sort_values("delta_ndcg@10", ascending=False, kind="stable")
    models = set(cells["model"]) if "model" in cells else set()
    whose = f"{models.pop()}: of" if len(models) == 1 else "Of"
    ends = [
        f"{row['variant']} is {end}, NDCG@10 {row['delta_ndcg@10']:+.4f} [{row['ci_low']:+.4f}, {row['ci_high']:+.4f}]"
        for end, row in (("highest", cells.iloc[0]), ("lowest", cells.iloc[-1]))
    ]
    said = [f"{whose} {len(cells)} rows {'; '.join(ends[: len(cells)])}"]
    if (cells["verdict"] == "one seed").all():
        return f"{said[0]}; one seed a row, so that no row has a verdict."
    cells = cells.sort_index()
    for word in ("significant gain", "significant loss"):
        names = cells.loc[cells["verdict"] == word, "variant"].tolist()
        said.append(f"{word}: {', '.join(names) or 'none'}")
    if "control_verdict" in cells:
        both = (cells["verdict"] == "significant gain") & (cells["control_verdict"] == "significant gain")
        said.append(f"a gain over the control as well: {', '.join(cells.loc[both, 'variant']) or 'none'}")
    return "; ".join(said) + "."


def drawn(table: pd.DataFrame, path: Path, said: str = "") -> None:
    """Draw the figure that a path names from a table, write both, and show it with its caption.

    The caption, which is also the alternative text, is computed: `said`, or what `caption` reads from a comparison.
    """
    save_figure(FIGURES[path.stem](table), table, path)
    said = said or caption(table)
    display(Image(path, alt=said), Markdown(f"*{escaped(said)}*"))


def record(home: Path, chapter: str, values: dict) -> None:
    """Put a chapter's numbers into the preset's metrics.json; the other chapters' stay."""
    path = home / "metrics.json"
    save_json({**(load_json(path) if path.exists() else {}), chapter: values}, path)


def cost() -> str:
    """Say what this process has taken so far; what was finished before it started is not counted."""
    return f"{time.process_time() / 60:.1f} CPU minutes for this execution"

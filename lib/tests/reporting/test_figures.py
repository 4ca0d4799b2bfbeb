"""Every committed figure is what its function draws from the table beside it, and can be read on a narrow page."""

import warnings

import numpy as np
import pandas as pd
import PIL.Image
import pytest
from matplotlib.text import Text
from seqdistill.io import ROOT
from seqdistill.reporting import report
from seqdistill.reporting.figures import FIGURES

PICTURES = sorted(
    path
    for preset in ("default", "smoke", "amazon-beauty-5core")
    for path in (ROOT / "outputs" / preset / "figures").glob("*.png")
)


def grey(path):
    return np.asarray(PIL.Image.open(path).convert("L"), dtype=float)


def test_there_is_one_function_for_every_picture_and_no_other():
    assert {path.stem for path in PICTURES} == set(FIGURES)


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_a_picture_is_drawn_again_from_its_table(path, tmp_path):
    report.style()
    again = tmp_path / path.name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure = FIGURES[path.stem](pd.read_csv(path.with_suffix(".csv")))
    sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
    report.save_figure(figure, pd.read_csv(path.with_suffix(".csv")), again)
    stored, drawn = grey(path), grey(again)
    assert stored.shape == drawn.shape, f"{path.name} was drawn from another table"
    assert (abs(stored - drawn) > 64).mean() < 0.002
    shown = min(1, 600 / stored.shape[1])
    assert min(sizes) * shown >= 5.5, f"letters of {min(sizes) * shown:.1f} points at 600 pixels"


def test_another_table_is_another_picture(tmp_path):
    table = pd.DataFrame({"variant": ["a", "b"], "delta_ndcg@10": [0.1, -0.1]})
    table["ci_low"], table["ci_high"] = table["delta_ndcg@10"] - 0.05, table["delta_ndcg@10"] + 0.05
    for name, data in {"one": table, "two": table.assign(**{"delta_ndcg@10": [0.06, -0.14]})}.items():
        report.save_figure(FIGURES["main"](data), data, tmp_path / f"{name}.png")
    assert (abs(grey(tmp_path / "one.png") - grey(tmp_path / "two.png")) > 64).mean() > 0.002

"""Published numbers and pages: the README holds what the tables say, figures have their captions, gaps are named."""

import shutil

import nbformat
import pages
import pandas as pd
import pytest
from seqbook.reporting import report
from seqdistill.io import ROOT, UserError


def gain(row):
    return f"{row['delta_ndcg@10']:+.4f} [{row['ci_low']:+.4f}, {row['ci_high']:+.4f}]"


def test_the_readme_holds_the_tables_that_the_results_render():
    cells = {}
    for name, table in {"results": pages.results_table(), "decisions": pages.decision_table()}.items():
        assert f"<!-- {name} -->\n{table}\n<!-- end of {name} -->" in pages.README.read_text()
        cells[name] = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    results, decisions = cells.values()
    assert [len(row) for row in results] == [7] * 6 and [len(row) for row in decisions] == [6] * 5
    one = pages.read_main("full", "excluded").query("model == 'SASRec' and variant == 'distilled-student'").iloc[0]
    plain = one["ndcg@10"] - one["delta_ndcg@10"]
    most, student = f"{one['ci_high'] / plain:+.1%} of plain", f"SASRec ({plain:.4f})"
    assert results[0][:6] == ["MovieLens small", one["verdict"], student, "LLM profile", gain(one), most]
    again, rivals = (pd.read_csv(ROOT / "outputs" / "bench" / f"form-again{name}.csv") for name in ("", "-rivals"))
    profile, facts = (
        again.query(f"variant == '{name}' and seen == 'excluded'").iloc[0] for name in ("profile", "facts")
    )
    beauty = pages.read_main(pages.BEAUTY, "excluded").query("model == 'SASRec' and variant == 'item-text'")
    assert decisions[0][5].startswith("use it") and beauty["verdict"].tolist() == ["significant gain"]
    assert [row[4] for row in results[4:]] == [gain(profile), gain(facts)] and decisions[3][2] == gain(profile)
    texts = pd.read_csv(ROOT / "outputs" / "bench" / "little-baselines.csv")
    texts = texts.query("model == 'SASRec' and trained_on == 1500 and variant == 'text-kNN' and seen == 'excluded'")
    assert decisions[1][2] == gain(texts.iloc[0]) and decisions[1][5].startswith("use it")
    assert texts["ci_low"].item() > profile["ci_high"] > facts["ci_high"]
    assert {*profile[["verdict", "control_verdict"]], *facts[["verdict", "control_verdict"]]} == {"significant gain"}
    assert set(rivals["verdict"]) == {"inconclusive"}


@pytest.mark.parametrize(
    ("alt", "caption"),
    [("", "How many users?"), ("Of 3 rows *plain* is highest", r"How many users?. Of 3 rows \*plain\* is highest")],
)
def test_a_figure_is_captioned_by_its_section_and_text_and_the_text_is_not_repeated(alt, caption):
    metadata = {"image/png": {"alt": alt}} if alt else {}
    image = nbformat.v4.new_output("display_data", {"image/png": "iVBORw0KGgo="}, metadata=metadata)
    below = nbformat.v4.new_output("display_data", {"text/markdown": f"*{report.escaped(alt)}*"})
    cells = [nbformat.v4.new_markdown_cell("## 9. How many users?\n\nFew.")]
    cells += [nbformat.v4.new_code_cell("draw()", outputs=[image, below])]
    cell = pages.page(nbformat.v4.new_notebook(cells=cells), "05").cells[1]
    assert cell.metadata["mystnb"]["figure"] == {"caption": caption, "name": "05-1"}
    assert len(cell.outputs) == 1 and "hide-input" in cell.metadata["tags"]


def test_what_was_not_executed_is_named(home):
    for act in (pages.publish, lambda preset: pages.build(preset, home / "book")):
        with pytest.raises(UserError, match=r"00-method\.ipynb: no such file; run `make reproduce PRESET=smoke` first"):
            act("smoke")
    with pytest.raises(UserError, match=r"main\.csv: no such file"):
        pages.read_main("smoke", "included")


def test_a_chapter_on_beauty_is_a_page_of_its_own_as_long_as_its_text_has_not_changed(home):
    skip = shutil.ignore_patterns("runs")
    stored = shutil.copytree(ROOT / "outputs" / pages.BEAUTY, home / "outputs" / pages.BEAUTY, ignore=skip)
    title = pages.beauty_chapters()["beauty-04-distillation"].cells[0].source.splitlines()[0]
    assert title == "# 4 · Does a student learn from the teacher? (Beauty 5-core)"
    path = stored / "04-distillation.ipynb"
    path.write_text(path.read_text().replace("Does a student learn", "Did a student learn", 1))
    with pytest.raises(UserError, match=r"04-distillation\.py has changed since"):
        pages.beauty_chapters()


def test_notebooks_with_parameters_of_their_own_are_not_published():
    with pytest.raises(UserError, match="smoke has parameters of its own"):
        pages.publish("smoke")

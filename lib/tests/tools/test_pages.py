"""Published numbers and pages: the README holds what the tables say, figures have their captions, gaps are named."""

import nbformat
import pages
import pandas as pd
import pytest
from seqbook.reporting import report
from seqdistill.io import ROOT, UserError


def image(alt=""):
    metadata = {"image/png": {"alt": alt}} if alt else {}
    return nbformat.v4.new_output("display_data", {"image/png": "iVBORw0KGgo="}, metadata=metadata)


def chapter(*cells):
    return nbformat.v4.new_notebook(cells=list(cells))


def test_the_readme_holds_the_tables_that_the_results_render():
    rendered = {"results": pages.results_table(), "decisions": pages.decision_table()}
    for name, table in rendered.items():
        assert f"<!-- {name} -->\n{table}\n<!-- end of {name} -->" in pages.README.read_text()
    results, decisions = (
        [line.strip("| ").split(" | ") for line in table.splitlines()[2:]] for table in rendered.values()
    )
    assert [len(row) for row in results] == [7] * 6 and [len(row) for row in decisions] == [6] * 5
    one = pages.read_main("full", "excluded").query("model == 'SASRec' and variant == 'distilled-student'").iloc[0]
    gain = f"{one['delta_ndcg@10']:+.4f} [{one['ci_low']:+.4f}, {one['ci_high']:+.4f}]"
    plain = one["ndcg@10"] - one["delta_ndcg@10"]
    most, student = f"{one['ci_high'] / plain:+.1%} of plain", f"SASRec ({plain:.4f})"
    assert results[0][:6] == ["MovieLens small", one["verdict"], student, "LLM profile", gain, most]
    settings = "model == 'SASRec' and trained_on == 1500 and settings == 'batch 32'"
    little, searched = (pd.read_csv(ROOT / "outputs" / "bench" / f"little-{name}.csv") for name in ("data", "search"))
    few = little.query(f"{settings} and variant == 'item-text' and seen == 'excluded'").squeeze(axis=0)
    gain = f"{few['delta_ndcg@10']:+.4f} [{few['ci_low']:+.4f}, {few['ci_high']:+.4f}]"
    assert searched.query(settings)["chosen"].all()
    beauty = pages.read_main(pages.BEAUTY, "excluded").query("model == 'SASRec' and variant == 'item-text'")
    assert decisions[0][5].startswith("use it") and beauty["verdict"].tolist() == ["significant gain"]
    assert decisions[1][2] == gain and "no gain over its control" in decisions[1][5]
    assert few["verdict"] == "inconclusive"


@pytest.mark.parametrize(
    ("alt", "caption"),
    [("", "How many users?"), ("Of 3 rows *plain* is highest", r"How many users?. Of 3 rows \*plain\* is highest")],
)
def test_a_figure_is_captioned_by_its_section_and_text_and_the_text_is_not_repeated(alt, caption):
    heading = nbformat.v4.new_markdown_cell("## 9. How many users?\n\nFew.")
    below = nbformat.v4.new_output("display_data", {"text/markdown": f"*{report.escaped(alt)}*"})
    cell = pages.page(chapter(heading, nbformat.v4.new_code_cell("draw()", outputs=[image(alt), below])), "05").cells[1]
    assert cell.metadata["mystnb"]["figure"] == {"caption": caption, "name": "05-1"}
    assert len(cell.outputs) == 1 and "hide-input" in cell.metadata["tags"]


def test_what_was_not_executed_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQDISTILL_OUTPUTS", str(tmp_path))
    for act in (pages.publish, lambda preset: pages.build(preset, tmp_path / "book")):
        with pytest.raises(UserError, match=r"00-method\.ipynb: no such file; run `make reproduce PRESET=smoke` first"):
            act("smoke")
    with pytest.raises(UserError, match=r"main\.csv: no such file"):
        pages.read_main("smoke", "included")


def test_a_chapter_on_beauty_is_a_page_of_its_own_as_long_as_its_text_has_not_changed(tmp_path, monkeypatch):
    page = pages.beauty_chapters()["beauty-04-distillation"]
    title = page.cells[0].source.splitlines()[0]
    assert title == "# 4 · Does a student learn from the teacher? (Beauty 5-core)"
    monkeypatch.setenv("SEQDISTILL_OUTPUTS", str(tmp_path))
    (tmp_path / pages.BEAUTY).mkdir()
    for chapter in pages.ON_BEAUTY:
        stored = nbformat.read(ROOT / "outputs" / pages.BEAUTY / f"{chapter}.ipynb", as_version=4)
        stored.cells[-2].source += " Old." * (chapter == "04-distillation")
        nbformat.write(stored, tmp_path / pages.BEAUTY / f"{chapter}.ipynb")
    with pytest.raises(UserError, match=r"04-distillation\.py has changed since"):
        pages.beauty_chapters()


def test_notebooks_with_parameters_of_their_own_are_not_published():
    with pytest.raises(UserError, match="smoke has parameters of its own"):
        pages.publish("smoke")

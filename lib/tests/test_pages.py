import nbformat
import pandas as pd
import pytest
from seqdistill import pages, report
from seqdistill.artifacts import BookError


def image(alt=""):
    told = {"image/png": {"alt": alt}} if alt else {}
    return nbformat.v4.new_output("display_data", {"image/png": "iVBORw0KGgo="}, metadata=told)


def chapter(*cells):
    return nbformat.v4.new_notebook(cells=list(cells))


def test_a_figure_gets_caption_and_alternative_text_from_its_code_and_the_text_before():
    text = nbformat.v4.new_markdown_cell("## 3. Long tails\n\nA few users choose *much*.")
    code = nbformat.v4.new_code_cell(
        'axes.set(xlabel="rank", ylabel="events", title="Events per user")', outputs=[image()]
    )
    shown = pages.page(chapter(text, code), "01-data").cells[1].metadata
    assert shown["mystnb"]["figure"] == {"caption": "Events per user", "name": "01-data-1"}
    told = "Events per user. horizontal axis: rank; vertical axis: events. A few users choose much."
    assert shown["mystnb"]["image"]["alt"] == told and "hide-input" in shown["tags"]


def test_a_figure_without_a_title_is_named_by_its_section():
    text = nbformat.v4.new_markdown_cell("## 9. How many users?\n\nFew.")
    code = nbformat.v4.new_code_cell("draw()", outputs=[image()])
    caption = pages.page(chapter(text, code), "05").cells[1].metadata["mystnb"]["figure"]["caption"]
    assert caption == "How many users?"


def test_a_caption_that_was_shown_below_the_figure_is_not_repeated():
    told = "Of 3 rows *plain* is highest"
    below = nbformat.v4.new_output("display_data", {"text/markdown": f"*{report.escaped(told)}*"})
    code = nbformat.v4.new_code_cell('report.drawn(table, path, "Weights")', outputs=[image(told), below])
    cell = pages.page(chapter(code), "05").cells[0]
    assert len(cell.outputs) == 1
    assert cell.metadata["mystnb"]["figure"]["caption"] == r"Weights. Of 3 rows \*plain\* is highest"


def test_two_images_in_a_cell_are_refused():
    code = nbformat.v4.new_code_cell("draw()", outputs=[image(), image()])
    with pytest.raises(BookError, match="05-ablations, cell 0: 2 images"):
        pages.page(chapter(code), "05-ablations")


@pytest.mark.parametrize(
    "said", ["Kang & McAuley, 2018", "Roy and Vetterli (2007)", "Severin et al., ECIR 2026", "Severin et al. (2026)"]
)
def test_citations_lead_to_the_bibliography(said):
    assert pages.cited(f"As in {said}, so here") == f"As in [{said}](bibliography.md), so here"


@pytest.mark.parametrize("said", ["Kang & McAuley, 2019", "Nobody (2018)"])
def test_what_is_not_in_the_bibliography_is_left_alone(said):
    assert pages.cited(said) == said


def test_the_answer_counts_what_gains_over_plain_and_over_the_control():
    rows = [
        ("baseline", "popularity", "loss shown", "loss shown"),
        ("SASRec", "plain", "", None),
        ("SASRec", "distilled", "gain shown", "not shown"),
        ("SASRec", "own", "gain shown", "gain shown"),
        ("SASRec", "bad", "loss shown", "not shown"),
        ("SASRec", "shuffled", "gain shown", None),
    ]
    table = pd.DataFrame(rows, columns=["model", "variant", "verdict", "control_verdict"])
    said = pages.answer(table.assign(dataset="<i>ml</i>", cases=6710, variant=table["model"] + " " + table["variant"]))
    assert said.startswith(
        r"On \<i\>ml\</i\>, with 6,710 test cases, 2 of 3 taught students (SASRec distilled, SASRec own)"
    )
    assert "1 (SASRec bad) worse; **1** (SASRec own) also gain over the shuffled control" in said


def test_what_was_not_executed_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQDISTILL_OUTPUTS", str(tmp_path))
    with pytest.raises(BookError, match=r"01-data\.ipynb: no such file; run `make reproduce PRESET=smoke` first"):
        pages.executed("smoke", "01-data")
    with pytest.raises(BookError, match=r"main\.csv: no such file"):
        pages.headline(tmp_path / "smoke")


@pytest.mark.parametrize(
    "text", ["*a* _b_ `c` <b>d</b> &amp; $x$ | # e ~~f~~", "![x](http://a/b) [y]: z", "a\n\n\n# b"]
)
def test_escaped_text_is_shown_as_it_is(text):
    from markdown_it import MarkdownIt

    shown = MarkdownIt("commonmark").enable(["strikethrough", "table"]).render(report.escaped(text))
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert shown == f"<p>{plain}</p>\n"

import nbformat
import pages
import pandas as pd
import pytest
from seqdistill.io import ROOT, UserError, save_csv
from seqdistill.reporting import report


def image(alt=""):
    told = {"image/png": {"alt": alt}} if alt else {}
    return nbformat.v4.new_output("display_data", {"image/png": "iVBORw0KGgo="}, metadata=told)


def chapter(*cells):
    return nbformat.v4.new_notebook(cells=list(cells))


def test_numbers_are_written_with_their_spread_interval_and_sign():
    rows = {
        "variant": ["plain", "taught"],
        "cases": 22_363,
        "ndcg@10": [0.05, 0.061],
        "ndcg@10_std": [float("nan"), 0.002],
    }
    rows |= {"delta_ndcg@10": [float("nan"), 0.011], "ci_low": -0.001, "ci_high": 0.02, "effect": [-0.5, 0.04]}
    table = report.format_table(pd.DataFrame(rows), ["variant", "cases", "ndcg@10", "delta_ndcg@10", "effect"])
    assert table.loc["plain"].tolist() == ["22,363", "0.0500", "", "-0.5000"]
    assert table.loc["taught"].tolist() == ["22,363", "0.0610 ± 0.0020", "+0.0110 [-0.0010, +0.0200]", "+0.0400"]


def test_a_figure_without_a_title_is_named_by_its_section():
    text = nbformat.v4.new_markdown_cell("## 9. How many users?\n\nFew.")
    code = nbformat.v4.new_code_cell("draw()", outputs=[image()])
    shown = pages.page(chapter(text, code), "05").cells[1].metadata
    assert shown["mystnb"]["figure"] == {"caption": "How many users?", "name": "05-1"}
    assert shown["mystnb"]["image"]["alt"] == "How many users?" and "hide-input" in shown["tags"]


def test_a_caption_that_was_shown_below_the_figure_is_not_repeated():
    told = "Of 3 rows *plain* is highest"
    below = nbformat.v4.new_output("display_data", {"text/markdown": f"*{report.escaped(told)}*"})
    text = nbformat.v4.new_markdown_cell("## 1. Weights\n\nHow much?")
    code = nbformat.v4.new_code_cell("report.show_figure(table, path)", outputs=[image(told), below])
    cell = pages.page(chapter(text, code), "05").cells[1]
    assert len(cell.outputs) == 1
    assert cell.metadata["mystnb"]["figure"]["caption"] == r"Weights. Of 3 rows \*plain\* is highest"


def test_two_images_in_a_cell_are_refused():
    code = nbformat.v4.new_code_cell("draw()", outputs=[image(), image()])
    with pytest.raises(UserError, match="05-ablations, cell 0: 2 images"):
        pages.page(chapter(code), "05-ablations")


@pytest.mark.parametrize(
    "said", ["Kang & McAuley, 2018", "Roy and Vetterli (2007)", "Severin et al., ECIR 2026", "Severin et al. (2026)"]
)
def test_citations_lead_to_the_bibliography(said):
    assert pages.cited(f"As in {said}, so here") == f"As in [{said}](bibliography.md), so here"


@pytest.mark.parametrize("said", ["Kang & McAuley, 2019", "Nobody (2018)"])
def test_what_is_not_in_the_bibliography_is_left_alone(said):
    assert pages.cited(said) == said


def test_the_answer_counts_what_gains_over_plain_and_over_the_control(tmp_path):
    rows = [
        ("baseline", "popularity", "significant loss", "significant loss"),
        ("SASRec", "plain", "", None),
        ("SASRec", "distilled", "significant gain", "inconclusive"),
        ("SASRec", "own", "significant gain", "significant gain"),
        ("SASRec", "bad", "significant loss", "inconclusive"),
        ("SASRec", "shuffled", "significant gain", None),
    ]
    table = pd.DataFrame(rows, columns=["model", "variant", "verdict", "control_verdict"])
    table = table.assign(dataset="<i>ml</i>", cases=6710, protocol="leave_one_out/all")
    other = table.assign(seen="excluded", verdict="inconclusive")
    save_csv(pd.concat([table.assign(seen="included"), other]), tmp_path / "tables" / "main.csv")
    said = pages.answer(tmp_path, "included")
    assert said.startswith(
        r"On \<i\>ml\</i\>, with 6,710 test cases and seen items kept (the table below), 2 of 3 taught"
    )
    assert "(SASRec distilled, SASRec own) are shown to rank better than the plain one and 1 (SASRec bad) worse" in said
    assert (
        "**1** (SASRec own) also gain over the shuffled control, 0 of them taught by the LLM's profiles. With seen items left out, 0 of 3"
        in said
    )


def test_what_was_not_executed_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQDISTILL_OUTPUTS", str(tmp_path))
    with pytest.raises(UserError, match=r"01-data\.ipynb: no such file; run `make reproduce PRESET=smoke` first"):
        pages.executed("smoke", "01-data")
    with pytest.raises(UserError, match=r"main\.csv: no such file"):
        pages.headline(tmp_path / "smoke")


@pytest.mark.parametrize(
    "text", ["*a* _b_ `c` <b>d</b> &amp; $x$ | # e ~~f~~", "![x](http://a/b) [y]: z", "a\n\n\n# b"]
)
def test_escaped_text_is_shown_as_it_is(text):
    from markdown_it import MarkdownIt

    shown = MarkdownIt("commonmark").enable(["strikethrough", "table"]).render(report.escaped(text))
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert shown == f"<p>{plain}</p>\n"


@pytest.mark.parametrize("name", ["main table", "Beauty table", "best taught"])
def test_the_readme_shows_the_results_that_stand_in_outputs(name):
    readme = (ROOT / "README.md").read_text()
    assert f"<!-- {name} -->\n{pages.readme_parts('default')[name]}\n<!-- end of {name} -->" in readme


def test_the_best_taught_student_is_told_with_the_seeds_that_chose_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQDISTILL_OUTPUTS", str(tmp_path))
    row = {"variant": "reads", "seen": "excluded", "seeds": 5, "tested": "2 3", "recall@10": 0.1, "ndcg@10": 0.06}
    row |= {"baseline": "plain", "delta_ndcg@10": 0.002, "ci_low": 0.001, "ci_high": 0.003, "p_holm": 0.01}
    row |= {"verdict": "significant gain", "control": None}
    taught = row | {"variant": "taught", "control": "shuffled", "control_delta_ndcg@10": 0.004, "control_p_holm": 0.5}
    taught |= {"control_ci_low": -0.001, "control_ci_high": 0.009, "control_verdict": "inconclusive"}
    chose = [it | {"tested": "0 1", "ndcg@10": 0.9, "delta_ndcg@10": 0.8} for it in (row, taught)]
    save_csv(pd.DataFrame([*chose, row, taught]), tmp_path / "bench" / "transfer.csv")
    assert pages.best_taught().splitlines() == [
        "With seen items left out, over 5 seeds: Recall@10 0.1000, NDCG@10 0.0600.",
        "",
        "* **taught** against plain: NDCG@10 +0.0020 (95 % interval +0.0010 to +0.0030, Holm-adjusted p = 0.0100): "
        "*significant gain*.",
        "* **taught** against shuffled: NDCG@10 +0.0040 (95 % interval -0.0010 to +0.0090, Holm-adjusted p = 0.5000): "
        "*inconclusive*.",
    ]

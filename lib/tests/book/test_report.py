"""Tables and figures: what a comparison within groups means, what a caption claims, what a figure holds."""

import json
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import PIL.Image
import pytest
from markdown_it import MarkdownIt
from seqbook.cold import GROUPS
from seqbook.reporting import cold_tables, figures, report
from seqbook.reporting.hover import svg_scatter
from seqdistill.io import UserError


def ranked(rank_all):
    return pd.DataFrame({"user": [0, 0, 1], "item": [1, 2, 3], "position": [0, 1, 0], "rank_all": rank_all})


def test_groups_and_distribution_by_hand():
    draw, frames = (pd.DataFrame(), np.array([1]), np.array([2])), [ranked([1, 5, 10])]
    groups = cold_tables.target_groups(frames, [draw])
    marked = [[True, False, False], [False, True, False], [True, True, False], [False, False, True]]
    assert {group: masks[0].tolist() for group, masks in groups.items()} == dict(zip(GROUPS, marked, strict=True))
    curve = cold_tables.distribution({"x a": frames}, groups["affected"], 10).set_index("percentile")
    assert curve["median"].iloc[0] == pytest.approx(0.3)
    assert curve["share"].iloc[[0, 10, 49, 50, 100]].tolist() == [0, 0.5, 0.5, 1, 1]
    table = cold_tables.compare_groups({"x a": frames, "x b": [ranked([1, 1, 1])]}, [draw], {"x b": "x a"})
    assert table[["group", "model", "variant", "cases"]].to_numpy().tolist() == [
        [group, "x", variant, sum(mask)] for group, mask in zip(GROUPS, marked, strict=True) for variant in "ab"
    ]
    nothing = (pd.DataFrame(), np.array([7]), np.array([8]))
    with pytest.raises(UserError, match="no test case of any seed"):
        cold_tables.compare_groups({"x a": frames}, [nothing], {})


def test_bins_have_the_named_bounds():
    groups = cold_tables.bins([np.array([0, 1, 2, 3, 5, 6, 9, 10, 20, 21])], [-1, 0, 2, 5, 9, 20, 30])
    sizes = {"0": 1, "1-2": 2, "3-5": 2, "6-9": 2, "10-20": 2, "21-30": 1}
    assert {name: int(masks[0].sum()) for name, masks in groups.items()} == sizes
    assert list(cold_tables.bins([np.array([1, 11])], [0, 2, 10])) == ["1-2", "11+"]


@pytest.fixture
def comparison():
    table = pd.DataFrame({"variant": ["plain", "a", "b"], "delta_ndcg@10": [np.nan, 0.1, -0.1], "group": "g"})
    table["ci_low"], table["ci_high"] = table["delta_ndcg@10"] - 0.05, table["delta_ndcg@10"] + 0.05
    table["verdict"] = ["", "significant gain", "inconclusive"]
    return table.assign(control_verdict=["", "inconclusive", ""])


def test_a_caption_names_what_is_significant_and_what_beats_its_control(comparison):
    text = report.caption(comparison)
    assert text.startswith("Highest of 2 is a, ΔNDCG@10 +0.1000 [+0.0500, +0.1500]; significant gain: a;")
    assert text.endswith("significant loss: none; gain over the control as well: none.")
    assert report.caption(comparison, "group") == f"g: {text}"
    assert report.caption(comparison.assign(verdict="one seed")).endswith("no row has a verdict.")
    partly = comparison.assign(verdict=[None, "one seed", None])  # a control has no verdict
    assert report.caption(partly).endswith("no row has a verdict.")


def test_numbers_are_formatted_with_interval_and_spread_and_text_is_escaped(comparison):
    cells = report.format_table(comparison.assign(seeds=1_000, seeds_std=np.nan, x=0.5, x_std=0.1))
    row = cells.loc["a", ["delta_ndcg@10", "seeds", "x"]]
    assert row.tolist() == ["+0.1000 [+0.0500, +0.1500]", "1,000", "0.5000 ± 0.1000"]
    assert cells.loc["plain", "delta_ndcg@10"] == ""
    written = report.markdown(pd.DataFrame({"a|b": ["*x*\ny"]}, index=pd.Index(["<b>"], name="n")))
    assert written.splitlines() == [r"| n | a\|b |", "| --- | --- |", r"| \<b\> | \*x\* y |"]


def test_tables_of_several_folders_are_put_together_and_a_missing_one_is_named(tmp_path, comparison):
    comparison.to_csv(tmp_path / "main.csv", index=False)
    table = report.read_table("main", tmp_path, tmp_path / "nowhere", tmp_path)
    assert len(table) == 6 and table["verdict"].iloc[0] == "" and np.isnan(table["delta_ndcg@10"].iloc[0])
    with pytest.raises(UserError, match=r"latency\.csv: no such file; a benchmark .* writes it"):
        report.read_table("latency", tmp_path / "bench")


@pytest.mark.parametrize("facet", ["", "group"])
@pytest.mark.parametrize("hue", ["", "variant"])
def test_a_forest_shows_each_interval_and_its_table_lies_beside_it(tmp_path, comparison, facet, hue):
    figure = figures.forest(comparison, "$t", facet=facet, hue=hue)
    ends = [segment[:, 0] for bar in figure.axes[0].collections for segment in bar.get_segments()]
    assert sorted(np.concatenate(ends).tolist()) == pytest.approx([-0.15, -0.05, 0.05, 0.15])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b"]
    report.save_figure(figure, comparison, tmp_path / "f.png")
    assert len(PIL.Image.open(tmp_path / "f.png").convert("RGB").getcolors(1 << 24)) <= 64
    assert pd.read_csv(tmp_path / "f.csv")["ci_low"].tolist()[1:] == pytest.approx([0.05, -0.15])


def test_a_forest_of_no_differences_is_empty(comparison):
    axes = figures.forest(comparison.assign(gain=np.nan), "t", value="gain").axes[0]
    assert axes.get_ylim() == (0.5, -0.5) and list(axes.get_yticklabels()) == []
    assert report.caption(comparison.assign(**{"delta_ndcg@10": np.nan})) == "There is nothing to compare here."


def test_metrics_of_all_chapters_stand_side_by_side(tmp_path):
    report.record_metrics(tmp_path, "01-data", {"users": 3})
    report.record_metrics(tmp_path, "02-profiles", {"words": 4})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"01-data": {"users": 3}, "02-profiles": {"words": 4}}


def test_dollars_and_links_in_titles_stay_text():
    report.style()
    page = report.format_table(pd.DataFrame({"title": ["$x$ <script>"], "n": [1]})).reset_index()._repr_html_()
    assert "mathjax_ignore" in page and "&lt;script&gt;" in page
    tokens = MarkdownIt().parseInline(report.escaped("[a](javascript:alert(1)) <javascript:b> $x$ ![c](http://d)"))
    assert {token.type for token in tokens[0].children} <= {"text", "text_special"}


def test_hostile_texts_leave_the_map_well_formed_and_are_shown_as_they_are():
    texts = ["]]>&<script>", "javascript:alert(1) $x$", "\U0001f600"]
    points = pd.DataFrame({"x": [0, 1, 2], "y": [2, 1, 0], "group": "a", "text": texts})
    page = ElementTree.fromstring(svg_scatter(points, {"a": "red"}))
    assert [title.text for title in page.iter() if "title" in title.tag] == [f"a: {text}" for text in texts]

"""What stands in prose cannot drift away from what was computed.

A number in a markdown cell is one of four things: part of a name, of code or of a formula; a reference (chapter, section,
phase, equation, the year of a citation); a value that stands in the notebook's own code; or a fact of the list below, a
setting or a count of published data. Anything else is a result, and results are rendered from tables.
"""

import ast
import re

import jupytext
import pages
import presets
import pytest
from seqdistill.io import ROOT

FACTS = {
    "01-data": {"more than 3 events": "the paper's published setting"},
    "02-profiles": {"1.5 billion parameters": "size of the default model"},
    "03-embeddings": {"95 % interval": "level", "600, 6,000 and 20,000 users": "sizes of make bench-umap"},
    "04-distillation": {"below .05": "level"},
    "05-ablations": {"has 22,363": "users of Beauty 5-core"},
    "07-efficiency": {
        "batches of 256 and one": "setting of make bench",
        "100,000 items": "size of its catalogues",
        "64 histories of width 64, 50 events": "setting of make bench",
        "batches of 256 and sessions": "setting of make bench",
        "32 at a time": "setting of make bench",
        "of 50 requests": "setting of make bench",
    },
    "08-results": {
        "22,363 users, 12,101 items": "size of Beauty 5-core",
        "d 64, 2 blocks, 2 heads, length 100": "setting of make bench-student",
        "6,000 users": "size of its synthetic data",
        "and 6 on": "epochs of make bench-student",
        "and 3):": "epochs of make bench-student",
        "334,060 items, batch 128, length 50": "size of Amazon-M2, setting of make bench-student",
        "top 10": "cut-off",
        "reaches .20 on `synth` and .05 on `ml`": "setting of make bench-student",
        "256 drawn": "setting of make bench-student",
    },
}
CODE = re.compile(r"`[^`]*`|\$\$.*?\$\$|\$[^$]*\$", re.S)
REFERENCE = re.compile(
    r"^#+ \d+|\b(?:chapters?|sections?|phase|equations?)\s+\d+(?:\.\d+)?(?:\s+(?:and|to)\s+\d+(?:\.\d+)?)?|\b0[1-9]\b",
    re.M | re.I,
)
NUMBER = re.compile(r"(?<![\w@.,-])\.?\d[\d,]*(?:\.\d+)?%?(?![\w-])")


def literals(notebook):
    """Numbers in a notebook's code."""
    trees = [ast.parse(cell.source) for cell in notebook.cells if cell.cell_type == "code"]
    values = [node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return {float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)}


def typed(notebook, facts):
    """Numbers in a notebook's prose that are none of the four things."""
    known, found = literals(notebook), []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            text = " ".join(cell.source.split(" "))
            for fact in facts:
                text = re.sub(r"\s+".join(map(re.escape, fact.split())), "", text)
            text = REFERENCE.sub("", CODE.sub("", text))
            for pattern in pages.citations():
                text = pattern.sub("", text)
            numbers = [number.rstrip(",.") for number in NUMBER.findall(text)]
            found += [number for number in numbers if "%" in number or float(number.replace(",", "")) not in known]
    return found


@pytest.mark.parametrize("chapter", presets.chapters())
def test_no_result_is_typed_into_prose(chapter):
    notebook, facts = jupytext.read(presets.TEXT / f"{chapter}.py"), FACTS.get(chapter, {})
    assert typed(notebook, facts) == []
    prose = " ".join(" ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown").split())
    assert [fact for fact in facts if fact not in prose] == [], "facts that no text states any more"


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("NDCG@10 rises to 0.0468.", ["0.0468"]),
        ("A gain of .0468 or 12 %", [".0468", "12"]),
        ("On 671 users and 6,710 cases", ["671", "6,710"]),
        ("It gains 3%.", ["3%"]),
        ("See section 3.2, chapter 4, phase 1, 05 and equations 6 and 10; Kang & McAuley (2018)", []),
        ("SASRec on ML-20M, 5-core, BERT4Rec, NDCG@10, `recall 0.5`, $\\alpha = 0.4$", []),
        ("# 3 · From words\n\nalpha is 0.4 here", []),
    ],
)
def test_the_rule_by_example(text, numbers):
    cells = [jupytext.reads("# %% [markdown]\n" + "\n".join(f"# {line}" for line in text.splitlines()), "py:percent")]
    cells += [jupytext.reads("# %%\nalpha = 0.4", "py:percent")]
    cells[0].cells += cells[1].cells
    assert typed(cells[0], {}) == numbers


def test_what_is_cited_stands_in_the_bibliography():
    texts = [path.read_text() for path in [*presets.TEXT.glob("*.py"), *(ROOT / "lib" / "seqdistill").rglob("*.py")]]
    text = re.sub(r"\n# ", " ", "\n".join(texts))
    named = r"[A-Z][\w-]+(?:\s+(?:&|and)\s+[A-Z][\w-]+|\s+et\s+al\.)?"
    cited = re.findall(rf"{named}(?:\s+\((?:19|20)\d\d\)|,\s+(?:[A-Z]+\s+)?(?:19|20)\d\d\b)", text)
    cited = [said for said in cited if re.search(r"&| and | et\s+al|^Holm", said)]
    assert len(cited) > 15
    assert [said for said in cited if not any(pattern.search(said) for pattern in pages.citations())] == []

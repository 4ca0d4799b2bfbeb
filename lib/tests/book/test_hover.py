from xml.etree import ElementTree

import pandas as pd
from seqbook.reporting.hover import svg_scatter


def test_hostile_texts_leave_the_map_well_formed_and_are_shown_as_they_are():
    texts = ["]]>&<script>", "javascript:alert(1) $x$", "\U0001f600"]
    points = pd.DataFrame({"x": [0, 1, 2], "y": [2, 1, 0], "group": "a", "text": texts})
    page = ElementTree.fromstring(svg_scatter(points, {"a": "red"}))
    titles = [title.text for title in page.iter() if "title" in title.tag]
    assert titles == ["a: ]]>&<script>", "a: javascript:alert(1) $x$", "a: \U0001f600"]

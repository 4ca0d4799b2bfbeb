"""A map of texts as one page without scripts: pointing at a dot shows its text."""

from xml.sax.saxutils import escape

import pandas as pd

SIZE, EDGE = 640, 20


def svg_scatter(points: pd.DataFrame, colors: dict[str, str]) -> str:
    """Draw points as SVG.

    Args:
        points: columns x, y, group, text.
        colors: group -> colour.
    """
    low, high = points[["x", "y"]].min(), points[["x", "y"]].max()
    place = (points[["x", "y"]] - low) / (high - low) * (SIZE - 2 * EDGE) + EDGE
    dots = [
        f'<circle cx="{x:.1f}" cy="{SIZE - y:.1f}" r="5" fill="{colors[group]}" fill-opacity="0.75">'
        f"<title>{escape(f'{group}: {text}')}</title></circle>"
        for x, y, group, text in zip(place["x"], place["y"], points["group"], points["text"], strict=True)
    ]
    legend = [
        f'<text x="{EDGE}" y="{EDGE + 16 * row}" font-size="12" fill="{color}">{escape(group)}</text>'
        for row, (group, color) in enumerate(colors.items())
    ]
    body = "\n".join(dots + legend)
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{SIZE}" height="{SIZE}">\n{body}\n</svg>\n'

"""A map of texts as one page without scripts: pointing at a dot shows its text."""

from xml.sax.saxutils import escape

import pandas as pd

SIZE, EDGE = 640, 20  # pixels


def svg_scatter(points: pd.DataFrame, colors: dict[str, str]) -> str:
    """Draw points (columns x, y, group, text) as SVG; colors: group -> colour."""
    places = points[["x", "y"]]
    places = (places - places.min()) / (places.max() - places.min()) * (SIZE - 2 * EDGE) + EDGE
    body = [
        f'<circle cx="{x:.1f}" cy="{SIZE - y:.1f}" r="5" fill="{colors[group]}" fill-opacity="0.75">'
        f"<title>{escape(f'{group}: {text}')}</title></circle>"
        for x, y, group, text in zip(places["x"], places["y"], points["group"], points["text"], strict=True)
    ]
    body += [
        f'<text x="{EDGE}" y="{EDGE + 16 * row}" font-size="12" fill="{color}">{escape(group)}</text>'
        for row, (group, color) in enumerate(colors.items())
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{SIZE}" height="{SIZE}">'
    return "\n".join([head, *body, "</svg>\n"])

"""How Sphinx renders the book: nothing is executed, and nothing is asked of the network."""

import re
from importlib.util import find_spec
from pathlib import Path

here = Path(__file__).parent
mathjax = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static" / "mathjax" / "tex-svg.js"

project = "Sequential recommenders, taught by an LLM and served without it"
html_title = project
language = "en"
extensions = ["myst_nb", "sphinx.ext.apidoc", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxcontrib.bibtex"]
bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "plain"

packages = {"seqdistill": "api", "seqbook": "api-chapters"}  # -> folder of their pages
apidoc_modules = [
    {"path": Path(find_spec(name).origin).parent, "destination": pages, "separate_modules": True, "module_first": True}
    for name, pages in packages.items()
]

nb_execution_mode = "off"
nb_ipywidgets_js = {}
nb_mime_priority_overrides = [("html", "text/markdown", 25)]
myst_enable_extensions = ["amsmath", "dollarmath"]

numfig = True
numfig_format = {"figure": "Figure %s", "table": "Table %s"}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
napoleon_use_rtype = False
default_role = "literal"

html_theme = "sphinx_book_theme"
html_theme_options = {"show_toc_level": 2, "use_download_button": False, "use_fullscreen_button": False}
html_theme_options |= {"footer_content_items": [], "navbar_persistent": []}
html_context = {"default_mode": "auto"}
html_favicon = "book.svg"
html_static_path = ["book.css", str(mathjax)]
html_css_files = ["book.css"]
mathjax_path = "tex-svg.js"
html_domain_indices = False
html_scaled_image_link = False  # a figure is shown at half its pixels, not as a thumbnail
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False


def plain(app, what, name, thing, options, lines):
    """Keep what docstrings say in plain text from being read as reStructuredText: stars, bars and last underscores."""
    for number, line in enumerate(lines):
        parts = line.split("`")  # every second part stands between backticks
        parts[::2] = [re.sub(r"[*|]|_(?=\W|$)", r"\\\g<0>", part) for part in parts[::2]]
        lines[number] = "`".join(parts)


def setup(app):
    """Run `plain` before napoleon, whose own markup must stay."""
    app.connect("autodoc-process-docstring", plain, priority=1)

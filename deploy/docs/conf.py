"""Sphinx's settings for the documentation site and the man pages; build.py lays the sources out first."""

from __future__ import annotations

from sphinx.application import Sphinx

from dnsvip import __version__
from dnsvip.cli import COMMANDS

project = "dnsvip"
release = __version__
html_title = f"dnsvip {__version__}"
html_theme = "furo"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
extensions = ["myst_parser", "sphinx_click"]

smartquotes = False  # options begin with two hyphens
exclude_patterns = ["**/node_modules"]
# Pages link to each other's headings as on a repository's host.
myst_heading_anchors = 4
# Examples in other languages than Pygments knows stay plain.
highlight_language = "none"

man_pages = [(f"commands/{name}", f"dnsvip-{name}", says, "", 1) for name, (_, says) in COMMANDS.items()]
man_pages += [("commands/index", "dnsvip", "DNS that gives every client its own encoded address", "", 1)]


def setup(app: Sphinx) -> None:
    """Help is plain text: its stars are no emphasis, its addresses no links."""
    for part in ("description", "arguments", "options", "epilog"):
        app.connect(f"sphinx-click-process-{part}", _escape)


def _escape(app: Sphinx, context: object, lines: list[str]) -> None:
    lines[:] = [line.replace("*", r"\*").replace("https://", r"\https://") for line in lines]

"""The reference of the site file is generated from the declarations."""

from __future__ import annotations

from pathlib import Path

from dnsvip.site.reference import markdown
from dnsvip.site.registry import KINDS

PAGE = Path(__file__).parents[2] / "deploy" / "site.md"


def test_page_is_made_from_the_declarations() -> None:
    """deploy/site.md equals the output of `python -m dnsvip.site.reference`."""
    assert PAGE.read_text() == markdown(), "python -m dnsvip.site.reference > deploy/site.md"


def test_every_field_is_in_the_page() -> None:
    """Each field of each kind has a row with its help."""
    page = markdown()
    for kind in KINDS.values():
        for path, field in kind.walk():
            if field.model is None and path != "name":
                assert f"{path.split('.')[-1]}` |" in page, (kind.name, path)
                assert field.about.help in page

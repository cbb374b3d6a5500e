"""The table of settings: each has help, no help is stale, and deploy/node.md matches."""

from __future__ import annotations

from pathlib import Path

from dnsvip.node.settings import HELP, markdown, settings

PAGE = Path(__file__).parents[2] / "deploy" / "node.md"


def test_every_setting_has_help() -> None:
    """Every setting has help; the failure names those without."""
    assert [each.name for each in settings() if not each.help] == []


def test_no_help_for_what_is_gone() -> None:
    """Every help text belongs to an existing setting or table."""
    names = {each.name for each in settings()}
    assert [key for key in HELP if key not in names and not any(name.startswith(f"{key}.") for name in names)] == []


def test_the_page_is_up_to_date() -> None:
    """deploy/node.md equals the output of `python -m dnsvip.node.settings`."""
    assert PAGE.read_text() == markdown(), "python -m dnsvip.node.settings > deploy/node.md"


def test_types_and_defaults() -> None:
    """The table shows the defaults, bounds and choices of the classes."""
    found = {each.name: each for each in settings()}
    assert found["database"].default is None
    assert (found["dns.workers"].takes, found["dns.workers"].default) == ("whole number 1 to 256", "1")
    assert found["dispatch.mode"].takes == "user, xdp"
    assert found["metrics.allow"].takes == "list of networks"
    assert found["dns.listen[].address"].default is None

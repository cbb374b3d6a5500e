"""The table of settings: each is declared once, and deploy/node.md matches."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from dnsvip.node.settings import markdown, settings
from dnsvip.site.declare import declared
from dnsvip.site.node_decoder import DecoderNode
from dnsvip.site.node_file import NodeConfig

PAGE = Path(__file__).parents[2] / "deploy" / "node.md"


def test_every_setting_is_declared() -> None:
    """Every field of every table has a label, and a sentence of help."""
    tables: list[type] = [NodeConfig, DecoderNode]
    for table in tables:
        fields = declared(table)
        assert fields.keys() == {field.name for field in dataclasses.fields(table)}, table
        tables += [field.model for field in fields.values() if field.model is not None]
        for field in fields.values():
            assert re.fullmatch(r"[A-Z][\w -]{1,30}", field.about.label), (table, field.name)
            assert re.fullmatch(r"[A-Z].{8,}[.]", field.about.help), (table, field.name)
    assert len(tables) > 10


def test_the_page_is_up_to_date() -> None:
    """deploy/node.md equals the output of `python -m dnsvip.node.settings`."""
    assert PAGE.read_text() == markdown(), "python -m dnsvip.node.settings > deploy/node.md"


def test_types_and_defaults() -> None:
    """The table shows the defaults, bounds and choices of the classes."""
    found = {setting.name: setting for setting in settings()}
    assert found["database"].default is None
    assert (found["dns.workers"].takes, found["dns.workers"].default) == ("whole number 1 to 256", "1")
    assert found["dispatch.mode"].takes == "user, xdp"
    assert found["metrics.allow"].takes == "list of networks"
    assert found["dns.listen[].address"].default is None

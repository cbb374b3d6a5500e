"""What others wrote, on a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import pytest

from dnsvip.cli.database.changes import lines
from dnsvip.cli.shared.show import json_text
from dnsvip.printable import printable
from dnsvip.site import Client
from dnsvip.site.plan import Change
from tests.cli.terminal import on_terminal
from tests.node.serving import Node, node

SLY = "a\u202eb\x1b]0;title\x07\x9b31m\u2066\u2028\u200b\U000e0041c"
"""What would title the terminal, colour it, write from right to left, begin a line, or be seen by nobody."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with a client whose attributes are sly."""
    with node(tmp_path_factory.mktemp("show")) as server:
        server.apply()
        server.start("--token-file", "token")
        body = {"id": 4077, "tier": "gold", "match": [{"tls": SLY}], "attributes": {f"k{SLY}": f"v{SLY}"}}
        assert server.curl("PUT", "clients/sly", body)[0] == 201
        yield server


@pytest.mark.parametrize(
    "asked",
    [
        ["clients", "show", "sly"],
        ["clients", "show", "sly", "--json"],
        ["clients", "list", "--json"],
        ["clients", "history", "sly"],
        ["clients", "export"],
        ["clients", "export", "--format", "csv"],
        ["clients", "set", "sly", f"nothing{SLY}=1"],
        ["audit", "--limit", "3"],
        ["tiers", "add", SLY],
        ["search", "sly"],
    ],
    ids=lambda asked: " ".join(word for word in asked if word.isprintable()),
)
def test_what_a_terminal_shows_is_what_there_is(served: Node, asked: list[str]) -> None:
    """Names and values of attributes control no terminal, are all seen, and turn the direction of nothing."""
    where = ("--api", f"127.0.0.1:{served.api}", "--token-file", "token")
    shown = on_terminal(served.folder, {}, *asked, *where)
    assert "sly" in shown or "title" in shown
    assert shown.replace("\r\n", "").isprintable()


def test_an_export_to_a_file_or_program_is_as_it_is(served: Node, tmp_path: Path) -> None:
    """What no terminal shows is not changed."""
    assert SLY in json.loads(served.noun("clients", "export", "--prefix", "sly").stdout)["match"][0]["tls"]
    assert served.noun("clients", "export", "--output", str(tmp_path / "out")).returncode == 0
    assert "\u202e" in (tmp_path / "out").read_text()


def test_a_plan_shows_what_there_is() -> None:
    """A plan, too: the names of attributes, and values in any form."""
    client = Client(name="sly", id=1, tier="gold", attributes={f"k{SLY}": f"(v{SLY})", "w": SLY})
    changes = (
        Change("client", "sly", "+", None, client),
        Change("client", "sly", "~", client, replace(client, attributes={f"k{SLY}": "1"})),
        Change("client", f"sly{SLY}", "-", client, None),
    )
    for change in changes:
        shown = [click.unstyle(line) for line in lines(change)]
        assert shown
        assert all(line.isprintable() for line in shown)


def test_escapes() -> None:
    """What is printable, tabs and line ends stay; the rest is its bytes in text, and JSON of the same value in JSON."""
    assert printable("ä\t→\n") == "ä\t→\n"
    assert printable("\x1b\x9b\u202e\ud800") == "\\027\\194\\155\\226\\128\\174\\237\\160\\128"
    assert json.loads(json_text({SLY: ["ä", SLY]})) == {SLY: ["ä", SLY]}
    assert json_text(["ä", SLY]).isprintable()

"""`dnsvip search`: everything of the site that a text is in, or that an address leads to."""

from __future__ import annotations

import click

from dnsvip.cli.shared import show
from dnsvip.cli.shared.api import EPILOG, Api, with_api
from dnsvip.cli.shared.nouns import json_option

EXAMPLES = """
\b
Examples:
  dnsvip search acme
  dnsvip search 198.51.100.7
  dnsvip search mail.example.test --limit 50
"""

COLUMNS: show.Columns = {
    "KIND": lambda item: item["kind"].replace("_", " "),
    "NAME": lambda item: item["name"],
    "OF": lambda item: item["of"] or "",
    "WHAT": lambda item: item["detail"] or "",
}


@click.command(epilog=EXAMPLES + "\n" + EPILOG)
@click.argument("text")
@click.option("--limit", type=click.IntRange(1, 100), default=10, help="Most of each kind.", show_default=True)
@json_option
@with_api
def search(api: Api, text: str, limit: int, *, as_json: bool) -> None:
    """Find TEXT: part of a name or a record, an address of a client, of a server or of a cluster."""
    found = api.call("GET", "search", query={"q": text, "limit": limit})
    if as_json:
        click.echo(show.json_text(found, 2))
        return
    if found["items"]:
        show.rows(COLUMNS, found["items"], as_json=False)
    else:
        click.echo(f"Nothing has {text!r} in it that this token may see.")
    if found["more"]:
        click.echo(f"There are more of: {_kinds(found['more'])} (--limit).", err=True)
    if found["incomplete"]:
        click.echo(f"Not looked at to the end: {_kinds(found['incomplete'])}. Search for a longer text.", err=True)


def _kinds(kinds: list[str]) -> str:
    return ", ".join(kind.replace("_", " ") for kind in kinds)

"""`dnsvip classify`: in which order clients are told, and whose ECS counts."""

from __future__ import annotations

import click

from dnsvip.cli.shared import show
from dnsvip.cli.shared.api import EPILOG, Api, with_api
from dnsvip.cli.shared.nouns import PAIRS, assigned, json_option

EXAMPLES = """
\b
Examples:
  dnsvip classify show
  dnsvip classify set 'order=["tsig", "ecs", "source"]'
"""


@click.group(epilog=EXAMPLES + "\n" + EPILOG)
def classify() -> None:
    """In which order clients are told, and from which resolvers ECS counts."""


@classify.command("show", epilog=EPILOG)
@json_option
@with_api
def show_(api: Api, *, as_json: bool) -> None:
    """Show the settings."""
    show.item(api.get("classify"), as_json=as_json)


@classify.command("set", epilog=EPILOG)
@click.argument("pairs", nargs=-1, required=True, metavar=PAIRS)
@json_option
@with_api
def set_(api: Api, pairs: tuple[str, ...], *, as_json: bool) -> None:
    """Change settings; VALUE is JSON, KEY= goes back to the default."""
    show.item(api.call("PATCH", "classify", body=assigned(pairs)), as_json=as_json)

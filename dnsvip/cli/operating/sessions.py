"""`dnsvip sessions`: names that name a session of a service."""

from __future__ import annotations

import click

from dnsvip.cli.shared import show
from dnsvip.cli.shared.api import EPILOG, Api, with_api
from dnsvip.cli.shared.nouns import json_option


@click.group(epilog=EPILOG)
def sessions() -> None:
    """Names that name a session of a service: whoever opens one comes to the same server."""


@sessions.command(epilog=EPILOG)
@click.argument("service")
@json_option
@with_api
def create(api: Api, service: str, *, as_json: bool) -> None:
    """Make the name of a new session of SERVICE, a wildcard such as '*.s.app.example.test'."""
    made = api.call("POST", "sessions", body={"service": service})
    if as_json:
        show.item(made, as_json=True)
    else:
        click.echo(made["name"])

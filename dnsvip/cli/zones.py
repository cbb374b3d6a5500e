"""`dnsvip zones`: zones as zone files."""

from __future__ import annotations

from pathlib import Path

import click

from dnsvip.cli import show
from dnsvip.cli.api import EPILOG, Api, with_api
from dnsvip.cli.nouns import json_option, noun
from dnsvip.errors import ConfigError

zones = noun(
    "zones",
    "zone",
    {"NAME": lambda zone: zone["name"], "BYTES": lambda zone: zone["bytes"]},
    verbs="list delete",
)


@zones.command("show", epilog=EPILOG)
@click.argument("name")
@json_option
@with_api
def show_(api: Api, name: str, *, as_json: bool) -> None:
    """Print the zone file of NAME."""
    zone = api.get("zones", name)
    if as_json:
        show.item(zone, as_json=True)
    else:
        click.echo(zone["text"], nl=False)


@zones.command(epilog=EPILOG)
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@with_api
def load(api: Api, name: str, file: Path) -> None:
    """Make or replace zone NAME by the zone file FILE."""
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    api.call("PUT", "zones", name, body={"text": text})
    click.echo(f"zone {name} loaded")

"""`dnsvip zones`: zones as zone files."""

from __future__ import annotations

from pathlib import Path

import click

from dnsvip.cli.shared import show
from dnsvip.cli.shared.api import EPILOG, Api, with_api
from dnsvip.cli.shared.nouns import json_option, noun
from dnsvip.errors import ConfigError
from dnsvip.site.registry import KINDS

RECORDS: show.Columns = {
    "NAME": lambda records: records["name"],
    "TTL": lambda records: records["ttl"],
    "TYPE": lambda records: records["type"],
    "RECORDS": lambda records: [one["content"] for one in records["records"]],
}

zones = noun(KINDS["zone"], verbs="list set delete")


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
@click.option("--type", "rrset_type", metavar="TYPE", help="Only those of this type, such as MX.")
@click.option("--at", "rrset_name", metavar="NAME", help="Only those at this name, in full.")
@json_option
@with_api
def records(api: Api, name: str, rrset_name: str | None, *, as_json: bool, rrset_type: str | None) -> None:
    """List the record sets of zone NAME."""
    dotted = rrset_name and f"{rrset_name.rstrip('.')}."
    query = {"rrset_name": dotted, "rrset_type": rrset_type}
    zone = api.get("servers", "localhost", "zones", name, query=query)
    show.rows(RECORDS, zone["rrsets"], as_json=as_json)


@zones.command(epilog=EPILOG)
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@with_api
def load(api: Api, name: str, file: Path) -> None:
    """Create or replace zone NAME from the zone file FILE."""
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    api.call("PUT", "zones", name, body={"text": text})
    click.echo(f"zone {name} loaded")

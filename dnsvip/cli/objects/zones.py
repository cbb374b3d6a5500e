"""`dnsvip zones`: zones as zone files."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from dnsvip.cli.objects.records import list_ as list_records
from dnsvip.cli.shared import show
from dnsvip.cli.shared.api import EPILOG, Api, ApiError, with_api
from dnsvip.cli.shared.nouns import json_option, noun
from dnsvip.cli.shared.parameters import Choice
from dnsvip.dns.io.parents import check_parents
from dnsvip.errors import ConfigError
from dnsvip.printable import printable
from dnsvip.site.registry import KINDS
from dnsvip.site.values import parse_endpoint

KEYS: show.Columns = {
    "NUMBER": lambda key: key["number"],
    "ROLE": lambda key: key["role"],
    "STATE": lambda key: key["state"],
    "TAG": lambda key: key["tag"],
    "ALGORITHM": lambda key: key["algorithm"],
    "SINCE": lambda key: show.moment(key["since"]),
    "DS": lambda key: "at the parent" if key["at_parent"] else "",
}

NOT_FOUND = 404

zones = noun(KINDS["zone"], verbs="list set delete")
zones.add_command(list_records, "records")


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
        click.echo(printable(zone["text"]) if sys.stdout.isatty() else zone["text"], nl=False)


@zones.command(epilog=EPILOG)
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@with_api
def load(api: Api, name: str, file: Path) -> None:
    """Create or replace zone NAME from the zone file FILE."""
    api.call("PUT", "zones", name, body=_text(file))  # as text/dns: transfer and dnssec of the zone stay
    click.echo(f"zone {name} loaded")


@zones.command(epilog=EPILOG)
@click.argument("name")
@json_option
@with_api
def ds(api: Api, name: str, *, as_json: bool) -> None:
    """Print the DS records of signed zone NAME, for its parent."""
    answer = api.get("zones", name, "ds")
    if as_json:
        show.item(answer, as_json=True)
        return
    if not answer["records"]:
        raise ApiError(f"zone {name} has no keys; `dnsvip zones set {name} dnssec.enabled=true` makes them", NOT_FOUND)
    if not answer["signed"]:
        click.echo(f"warning: zone {name} is not signed now; with these records at the parent it fails", err=True)
    for record in answer["records"]:
        click.echo(record)


@zones.command(epilog=EPILOG)
@click.argument("name")
@json_option
@with_api
def keys(api: Api, name: str, *, as_json: bool) -> None:
    """List the keys that sign zone NAME. No secret is ever shown."""
    show.rows(KEYS, api.get("zones", name, "keys")["keys"], as_json=as_json)


@zones.command("roll-key", epilog=EPILOG)
@click.argument("name")
@click.argument("role", type=Choice(["ksk", "zsk"]))
@with_api
def roll_key(api: Api, name: str, role: str) -> None:
    """Roll a key of zone NAME: ksk, that of the DS record, which may sign all, or zsk."""
    api.call("POST", "zones", name, "keys", "roll", body={"role": role})
    click.echo(f"zone {name}: a new {role} is published; `dnsvip zones keys {name}` shows how far it is")


@zones.command("confirm-ds", epilog=EPILOG)
@click.argument("name")
@click.option("--parent", "parents", multiple=True, metavar="ADDRESS:PORT", help="A server of the parent to ask first.")
@with_api
def confirm_ds(api: Api, name: str, parents: tuple[str, ...]) -> None:
    """Confirm that the parent of zone NAME has the DS records of `zones ds`, and no others.

    Each --parent is asked for them first, and nothing is confirmed where one has not exactly these.
    """
    if parents:
        wanted = [record.partition(" IN DS ")[2] for record in api.get("zones", name, "ds")["records"]]
        asyncio.run(check_parents(name, wanted, [_server(parent) for parent in parents]))
    api.call("POST", "zones", name, "keys", "confirm")
    click.echo(f"zone {name}: the key before goes when caches have no DS of it")


@zones.command("import-key", epilog=EPILOG)
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@with_api
def import_key(api: Api, name: str, file: Path) -> None:
    """Import a key into zone NAME, before it is signed, from FILE.private and FILE.key, as BIND writes them."""
    base = file.with_suffix("") if file.suffix in (".private", ".key") else file
    texts = {field: _text(Path(f"{base}{suffix}")) for field, suffix in (("private", ".private"), ("public", ".key"))}
    api.call("POST", "zones", name, "keys", body=texts)
    click.echo(f"zone {name}: {base.name} imported")


@zones.command("remove-key", epilog=EPILOG)
@click.argument("name")
@click.argument("number", type=click.IntRange(min=1))
@with_api
def remove_key(api: Api, name: str, number: int) -> None:
    """Destroy key NUMBER of zone NAME, which it can do without."""
    api.call("DELETE", "zones", name, "keys", str(number))
    click.echo(f"zone {name}: key {number} removed")


def _server(text: str) -> tuple[str, int]:
    try:
        address, port = parse_endpoint(text)
        if not port:
            raise ValueError(port)
        return address, port
    except ValueError:
        form = "192.0.2.1:53 or [2001:db8::1]:53"
        raise ConfigError(f"--parent {text[:80]!r}: must be the address and port of a server, such as {form}") from None


def _text(file: Path) -> str:
    """What a file holds; raises ConfigError, which names it."""
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None

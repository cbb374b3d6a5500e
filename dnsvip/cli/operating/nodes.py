"""`dnsvip nodes`: the processes of the site, how far each is, draining nodes, and removing those that are gone."""

from __future__ import annotations

import sys
import time
from ipaddress import ip_address
from pathlib import Path
from shutil import get_terminal_size
from typing import Any

import click

from dnsvip.cli.shared import show
from dnsvip.cli.shared.api import EPILOG, Api, with_api
from dnsvip.cli.shared.nouns import json_option
from dnsvip.cli.shared.parameters import Choice
from dnsvip.site.plain import JsonObject


def _behind(node: JsonObject) -> str:
    return f"{node['behind']} ({node['lag_seconds']:.1f} s)" if node["behind"] else "0"


def _heard(node: JsonObject) -> str:
    return f"{show.duration(max(0.0, time.time() - node['seen_at']))} ago"


def _up(node: JsonObject) -> str:
    return "" if node["uptime_seconds"] is None else show.duration(node["uptime_seconds"])


def _state(node: JsonObject) -> str:
    state = "live" if node["live"] else "stopped" if node.get("stopped") else "silent"
    return f"{state}, drained" if node.get("drained_at") is not None else state


FOR_EVER = 0xFFFF_FFFF
"""Seconds of a router advertisement that does not end (RFC 9463 section 6.1)."""

COLUMNS: show.Columns = {
    "NODE": lambda node: node["name"],
    "ROLES": lambda node: node["roles"],
    "STATE": _state,
    "GENERATION": lambda node: node["generation"],
    "BEHIND": _behind,
    "HEARD": _heard,
    "UP": _up,
    "VERSION": lambda node: node["version"],
    "WARNINGS": lambda node: node["warnings"],
}


WIDE, ONLY_WIDE = 120, ("UP", "VERSION")
"""Columns of text from which on a terminal has room for all but warnings, which get lines of their own there."""


@click.group(epilog=EPILOG)
def nodes() -> None:
    """Nodes of the site, through the HTTP API: each process that answers DNS or dispatches."""


@nodes.command("list", epilog=EPILOG)
@click.option("--role", type=Choice(["dns", "admin", "dispatch"]), help="Only those that do this.")
@click.option("--live/--silent", default=None, help="Only those that report, or that no longer do (stopped ones too).")
@json_option
@with_api
def list_(api: Api, *, as_json: bool, **query: str | bool | None) -> None:
    """List the processes of all nodes."""
    items = list(api.items("nodes", query=query))
    if as_json or not sys.stdout.isatty():
        show.rows(COLUMNS, items, as_json=as_json)
        return
    left_out = ("WARNINGS", *(() if get_terminal_size().columns >= WIDE else ONLY_WIDE))
    show.rows({name: cell for name, cell in COLUMNS.items() if name not in left_out}, items, as_json=False)
    for node in items:
        for warning in node["warnings"]:
            show.say(f"{node['name']}: {warning}", fg="yellow")


@nodes.command("show", epilog=EPILOG)
@click.argument("name")
@json_option
@with_api
def show_(api: Api, name: str, *, as_json: bool) -> None:
    """Show all of one node."""
    node = api.get("nodes", name)
    if as_json:
        show.item(node, as_json=True)
        return
    for number, process in enumerate(node["processes"]):
        if number:
            click.echo()
        show.item(process, as_json=False)


@nodes.command(epilog=EPILOG)
@click.argument("name")
@with_api
def forget(api: Api, name: str) -> None:
    """Remove a node that is gone from the list; by itself that takes an hour."""
    api.call("DELETE", "nodes", name)
    click.echo(f"node {name} forgotten")


@nodes.command(epilog=EPILOG)
@click.argument("name")
@with_api
def drain(api: Api, name: str) -> None:
    """Give a node no traffic: its routes are withdrawn, what runs goes on.

    It stays so after a restart, until `dnsvip nodes undrain`.
    """
    api.call("POST", "nodes", name, "drain")
    click.echo(f"node {name} is drained")


@nodes.command(epilog=EPILOG)
@click.argument("name")
@with_api
def undrain(api: Api, name: str) -> None:
    """Give a drained node traffic again, as soon as it is ready."""
    api.call("POST", "nodes", name, "undrain")
    click.echo(f"node {name} gets traffic as soon as it is ready")


def _addresses(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[Any, ...]:
    try:
        return tuple(ip_address(value) for value in values)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@nodes.command()
@click.argument("node_file", metavar="NODE.toml", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--address",
    "addresses",
    multiple=True,
    metavar="ADDRESS",
    callback=_addresses,
    help="An address of this server, where its listeners name none; may be repeated.",
)
@click.option(
    "--lifetime",
    type=click.IntRange(0, FOR_EVER),
    default=FOR_EVER,
    metavar="SECONDS",
    help="Of router advertisements; by default for ever.",
)
@json_option
def discovery(node_file: Path, addresses: tuple[Any, ...], lifetime: int, *, as_json: bool) -> None:
    """Show how clients find the encrypted listeners of a node file: records, DHCP options, router advertisements.

    Nothing is asked or changed. `publish` in `[dns.tls]` puts the records into the site's own zones.
    """
    from dnsvip.cli.operating import discovery as found  # noqa: PLC0415 - the others do without what it loads

    found.show(node_file, addresses, lifetime, as_json=as_json)

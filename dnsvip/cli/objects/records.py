"""`dnsvip records`: the record sets of zones, one at a time. The zone's serial is raised by every change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from dnsvip.cli.shared import show
from dnsvip.cli.shared.api import EPILOG, Api, with_api
from dnsvip.cli.shared.nouns import json_option

COLUMNS: show.Columns = {
    "NAME": lambda records: records["name"],
    "TTL": lambda records: records["ttl"],
    "TYPE": lambda records: records["type"],
    "RECORDS": lambda records: [one["content"] for one in records["records"]],
}

TTL = 3600
"""Seconds, of a set that has no other."""

F = Callable[..., Any]


@click.group()
def records() -> None:
    """List and change the record sets of zones."""


def _of_set(command: F) -> F:
    """The arguments that say which set."""
    for name in ("rtype", "name", "zone"):
        command = click.argument(name, metavar={"rtype": "TYPE"}.get(name))(command)
    return command


@records.command("list", epilog=EPILOG)
@click.argument("zone")
@click.option("--at", "name", metavar="NAME", help="Only those at this name.")
@click.option("--type", "rtype", metavar="TYPE", help="Only those of this type, such as MX.")
@json_option
@with_api
def list_(api: Api, zone: str, name: str | None, rtype: str | None, *, as_json: bool) -> None:
    """List the record sets of ZONE."""
    query = {"rrset_name": name and _full(zone, name), "rrset_type": rtype}
    show.rows(COLUMNS, api.get("servers", "localhost", "zones", zone, query=query)["rrsets"], as_json=as_json)


@records.command("set", epilog=EPILOG)
@_of_set
@click.argument("data", nargs=-1, required=True)
@click.option("--ttl", type=click.IntRange(0), default=TTL, show_default=True, help="Seconds that caches keep it.")
@with_api
def set_(api: Api, zone: str, name: str, rtype: str, data: Sequence[str], ttl: int) -> None:
    """Make DATA, one argument a record, all that NAME of ZONE has of TYPE.

    NAME is as in a zone file: below ZONE, unless it ends in a dot; @ is ZONE itself.
    """
    _change(api, zone, name, rtype, "REPLACE", ttl=ttl, records=data)


@records.command("add", epilog=EPILOG)
@_of_set
@click.argument("data", nargs=-1, required=True)
@click.option(
    "--ttl", type=click.IntRange(0), help=f"Seconds that caches keep the set; without it as before, or {TTL}."
)
@with_api
def add(api: Api, zone: str, name: str, rtype: str, data: Sequence[str], ttl: int | None) -> None:
    """Add DATA, one argument a record, to what NAME of ZONE has of TYPE."""
    _change(api, zone, name, rtype, "EXTEND", ttl=_ttl(api, zone, name, rtype) if ttl is None else ttl, records=data)


@records.command("remove", epilog=EPILOG)
@_of_set
@click.argument("data", nargs=-1)
@with_api
def remove(api: Api, zone: str, name: str, rtype: str, data: Sequence[str]) -> None:
    """Remove DATA, one argument a record, from what NAME of ZONE has of TYPE; all of it without DATA."""
    if data:
        _change(api, zone, name, rtype, "PRUNE", records=data)
    else:
        _change(api, zone, name, rtype, "DELETE")


def _ttl(api: Api, zone: str, name: str, rtype: str) -> int:
    query = {"rrset_name": _full(zone, name), "rrset_type": rtype}
    found = api.get("servers", "localhost", "zones", zone, query=query)["rrsets"]
    return int(found[0]["ttl"]) if found else TTL


def _change(
    api: Api, zone: str, name: str, rtype: str, how: str, ttl: int | None = None, records: Sequence[str] = ()
) -> None:
    full = _full(zone, name)
    wanted: dict[str, Any] = {
        "name": full,
        "type": rtype,
        "changetype": how,
        "records": [{"content": one, "disabled": False} for one in records],
    }
    if ttl is not None:
        wanted["ttl"] = ttl
    api.call("PATCH", "servers", "localhost", "zones", zone, body={"rrsets": [wanted]})
    done = {"REPLACE": "set", "EXTEND": "added to", "PRUNE": "removed from", "DELETE": "removed"}[how]
    click.echo(f"zone {zone}: {full} {rtype.upper()} {done}")


def _full(zone: str, name: str) -> str:
    """A name as in a zone file of the zone, absolute."""
    apex = f"{zone.rstrip('.')}."
    if name == "@":
        return apex
    inside = f"{name}.".lower().endswith(f".{apex.lower()}") or f"{name}.".lower() == apex.lower()
    return name if name.endswith(".") else f"{name}." if inside else f"{name}.{apex}"

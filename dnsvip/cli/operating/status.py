"""`dnsvip status`: whether every node is up to date, and what DNS and dispatcher have counted."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from dnsvip.cli.operating import nodes
from dnsvip.cli.shared import show
from dnsvip.cli.shared.api import EPILOG, Api, with_api
from dnsvip.cli.shared.nouns import json_option
from dnsvip.site.plain import JsonObject

COUNTERS: show.Columns = {"COUNTER": lambda pair: pair["name"], "": lambda pair: pair["value"]}


def _at(key: str) -> Callable[[JsonObject], str]:
    """A time of a secondary zone; "-" where it has none."""
    return lambda zone: "-" if zone[key] is None else time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(zone[key]))


SECONDARIES: show.Columns = {
    "ZONE": lambda zone: zone["zone"],
    "SERIAL": lambda zone: "-" if zone["serial"] is None else zone["serial"],
    "CHECKED (UTC)": _at("checked_at"),
    "EXPIRES (UTC)": _at("expires_at"),
    "TROUBLE": lambda zone: zone["error"] or "-",
}


@click.command(epilog=EPILOG)
@json_option
@with_api
def status(api: Api, *, as_json: bool) -> None:
    """Show generation, nodes and counters."""
    site_status = api.get("status")
    if as_json:
        click.echo(json.dumps(site_status, indent=2))
        return
    served = f" (this node answers from {site_status['served_generation']})" if _lags(site_status) else ""
    click.echo(f"generation {site_status['generation']}{served}, dnsvip {site_status['version']}")
    for trouble in site_status.get("troubles", ()):
        since = f" ({show.duration(time.time() - trouble['since'])} ago)" if trouble["since"] else ""
        show.say(f"{trouble['text']}{since}", fg="red" if trouble["severity"] == "critical" else "yellow")
    click.echo(", ".join(f"{name.replace('_', ' ')} {number}" for name, number in site_status["objects"].items()))
    _section("nodes")
    show.rows(nodes.COLUMNS, site_status["nodes"], as_json=False)
    if site_status.get("secondaries"):
        _section("secondary zones")
        show.rows(SECONDARIES, site_status["secondaries"], as_json=False)
    _section("dns")
    _counters(site_status["dns"])
    _section("dispatcher")
    _dispatcher(site_status["dispatcher"])


def _lags(site_status: JsonObject) -> bool:
    return bool(site_status["generation"] != site_status["served_generation"])


def _section(title: str) -> None:
    click.echo()
    click.secho(title, bold=True, underline=sys.stdout.isatty())


def _dispatcher(document: Any) -> None:
    if document is None:
        click.echo("none on this machine")
    elif isinstance(document, dict):
        _counters(document)
    else:
        click.echo(json.dumps(document))


def _counters(document: JsonObject) -> None:
    """Everything in a document that is not zero, by dotted path; lists of named objects by their names."""
    pairs = [(key, value) for key, value in show.flat(document) if value not in (0, None, [], {})]
    numbers = [{"name": key, "value": value} for key, value in pairs if not _is_table(value)]
    for key, value in pairs:
        if _is_table(value):
            numbers += [{"name": f"{key}.{one['name']}", "value": _rest(one)} for one in value]
    if numbers:
        show.rows(COUNTERS, numbers, as_json=False)
    else:
        click.echo("nothing counted yet")


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) and "name" in one for one in value)


def _rest(one: JsonObject) -> JsonObject:
    return {key: value for key, value in one.items() if key != "name"}

"""`dnsvip flows`: the flow table of this machine's dispatcher: top, search, purge."""

from __future__ import annotations

import json
from pathlib import Path

import click

from dnsvip.cli.machine.dispatching import CONFIG, ask, ends, matching, selecting
from dnsvip.cli.shared import show
from dnsvip.cli.shared.nouns import json_option
from dnsvip.cli.shared.parameters import Choice
from dnsvip.dispatcher.io.control_requests import GROUPS, LONGEST_TOP
from dnsvip.dispatcher.observe.plane import FlowState
from dnsvip.site.plain import JsonObject

WHAT = "[ADDRESS|PREFIX|CLIENT]"


def _server(one: JsonObject) -> str:
    return f"{one['pool']}/{one['server'] or '(gone)'}"


COLUMNS: show.Columns = {
    "FLOW": ends,
    "STATE": lambda one: one["state"],
    "IDLE": lambda one: f"{one['idle']} s",
    "SERVER": _server,
    "TIER": lambda one: one["tier"],
    "CLIENT": lambda one: one["client"],
}


@click.group()
def flows() -> None:
    """Flows in the table of this machine's dispatcher. An address is a source, a VIP or a server."""


@flows.command()
@click.argument("what", metavar=WHAT, required=False)
@selecting
@click.option("--state", type=Choice([state.value for state in FlowState]), help="Those of one state.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="So many at most.")
@CONFIG
@json_option
def search(
    what: str | None,
    tier: str | None,
    server: str | None,
    state: str | None,
    limit: int,
    node_file: Path,
    as_json: bool,
) -> None:
    """Show flows: all, or those of an address, a prefix or a client."""
    chosen = matching(what, tier=tier, server=server, state=state)
    rows: list[JsonObject] = []
    for document in ask(node_file, {"do": "flows", "match": chosen, "limit": limit}):
        if "flow" in document:
            rows.append(document["flow"])
        elif document["flows"] > len(rows):
            click.echo(f"{len(rows)} of {document['flows']} flows; --limit shows more", err=True)
    show.rows(COLUMNS, rows, as_json=as_json)


@flows.command()
@click.argument("what", metavar=WHAT, required=False)
@selecting
@click.option("--by", type=Choice(list(GROUPS)), default="flow", show_default=True, help="What to add up.")
@click.option("--seconds", type=click.IntRange(1, LONGEST_TOP), default=2, show_default=True, help="How long to look.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="So many at most.")
@CONFIG
@json_option
def top(
    what: str | None,
    tier: str | None,
    server: str | None,
    by: str,
    seconds: int,
    limit: int,
    node_file: Path,
    as_json: bool,
) -> None:
    """Sample the packets of a few seconds: which flows, sources, clients or servers have the most."""
    chosen = matching(what, tier=tier, server=server)
    request = {"do": "top", "match": chosen, "by": by, "seconds": seconds, "limit": limit}
    rows, unseen = [], 0
    for document in ask(node_file, request):
        if "top" in document:
            rows.append({**document["top"], "rate": round(document["top"]["packets"] / seconds, 1)})
        else:
            unseen = document["unseen"]
    if unseen:
        click.echo(f"{unseen} more packets were not looked at, as they were too many", err=True)
    show.rows(_top_columns(by), rows, as_json=as_json)


def _top_columns(by: str) -> show.Columns:
    def name(one: JsonObject) -> str:
        if "others" in one:
            return "(others)"
        if by == "flow":
            return ends(one)
        return "/".join(str(one[part] or "-") for part in GROUPS[by])

    return {
        by.upper(): name,
        "PACKETS": lambda one: one["packets"],
        "PER SECOND": lambda one: one["rate"],
        "BYTES": lambda one: one["bytes"],
    }


@flows.command()
@click.argument("what", metavar=WHAT, required=False)
@selecting
@click.option("--state", type=Choice([state.value for state in FlowState]), help="Those of one state.")
@click.option("--all", "everything", is_flag=True, help="All flows, where nothing else is said.")
@CONFIG
@json_option
def purge(
    what: str | None,
    tier: str | None,
    server: str | None,
    state: str | None,
    everything: bool,
    node_file: Path,
    as_json: bool,
) -> None:
    """Purge flows, so that their next packets are verified and dispatched again.

    A connection whose server is another one then breaks.
    """
    chosen = matching(what, tier=tier, server=server, state=state)
    if not chosen and not everything:
        raise click.UsageError(f"say which flows: {WHAT[1:-1]}, --tier, --server or --state; or --all")
    for document in ask(node_file, {"do": "purge", "match": chosen}):
        click.echo(json.dumps({"purged": document["purged"]}) if as_json else f"{document['purged']} flows forgotten")

"""`dnsvip clients`: known clients, their identities, tier and state."""

from __future__ import annotations

from operator import itemgetter
from typing import TextIO

import click

from dnsvip.cli.objects.bulk import export, import_
from dnsvip.cli.operating.audit import rows
from dnsvip.cli.shared import show
from dnsvip.cli.shared.api import EPILOG, Api, with_api
from dnsvip.cli.shared.nouns import PAIRS, assigned, create, json_option, noun
from dnsvip.site import ClientState, Step
from dnsvip.site.registry import KINDS

clients = noun(KINDS["client"], verbs="list show set")
clients.commands["list"].params.append(
    click.Option(["--contains"], metavar="TEXT", help="Only those with this in their name; scans all names.")
)
clients.add_command(import_)
clients.add_command(export)


@clients.command(epilog=EPILOG)
@click.argument("name")
@click.option("--since", metavar="TIME", help="Not older than this: unix seconds, or ISO 8601 with its offset.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most this many.")
@json_option
@with_api
def history(api: Api, name: str, since: str | None, limit: int, *, as_json: bool) -> None:
    """Show what was changed about client NAME, by whom and when, newest first."""
    rows(api, "clients", name, "history", limit=limit, query={"since": since}, as_json=as_json)


_AMOUNTS = ("packets", "bytes", "flows", "drops")


@clients.command(epilog=EPILOG)
@click.argument("name", required=False)
@click.option(
    "--sort", default="-bytes", show_default=True, metavar="[-]FIELD", help="By name, packets, bytes, flows or drops."
)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="At most this many.")
@json_option
@with_api
def usage(api: Api, name: str | None, sort: str, limit: int, *, as_json: bool) -> None:
    """Show what client NAME has used at each dispatcher, or those that have used most.

    Packets and bytes that clients sent and that were forwarded, flows opened, packets dropped.
    """
    head = "NODE" if name else "CLIENT"
    if name:
        items = iter(api.get("clients", name, "usage")["nodes"])
    else:
        items = api.items("usage", limit=limit, query={"sort": sort})
    columns: show.Columns = {head: lambda item: item["node" if name else "name"]}
    amounts: show.Columns = {field.upper(): itemgetter(field) for field in _AMOUNTS}
    show.rows({**columns, **amounts}, items, as_json=as_json)


ADDRESSES: show.Columns = {
    "SERVICE": lambda item: item["service"],
    "ADDRESS": lambda item: item["address"],
    "TTL": lambda item: item["ttl"],
    "UNTIL": lambda item: show.moment(item["expires_at"]),
    "TIER": lambda item: item["tier"] or item["reason"],
    "RULE": lambda item: item["rule"] or "",
    "SERVERS": lambda item: [f"{one['server']} {one['share']:.0%}" for one in item["servers"]],
}
PAGE = 100
"""Services whose addresses the API gives at a time."""


@clients.command(epilog=EPILOG)
@click.argument("name")
@click.option("--limit", type=click.IntRange(1), default=PAGE, show_default=True, help="At most so many addresses.")
@json_option
@with_api
def addresses(api: Api, name: str, limit: int, *, as_json: bool) -> None:
    """Show what client NAME is answered at each service now, and which servers its flows go to by which rule."""
    show.rows(ADDRESSES, api.items("clients", name, "addresses", limit=limit, page=PAGE), as_json=as_json)


def _matches(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> list[dict[str, str]]:
    entries = [value.partition("=") for value in values]
    for value, (step, _, rest) in zip(values, entries, strict=True):
        if step not in tuple(Step) or not rest:
            raise click.BadParameter(f"{value!r}: must be KIND=VALUE, KIND one of {', '.join(Step)}")
    return [{step: rest} for step, _, rest in entries]


@clients.command(epilog=EPILOG)
@click.argument("name")
@click.option("--id", "number", type=click.IntRange(1), required=True, help="Its number, never used before.")
@click.option("--tier", required=True, help="Its tier.")
@click.option(
    "--match",
    "matches",
    multiple=True,
    metavar="KIND=VALUE",
    callback=_matches,
    help="How it is identified, such as source=2001:db8:77::/48; may be repeated.",
)
@click.argument("pairs", nargs=-1, metavar=PAIRS)
@json_option
@with_api
def add(
    api: Api, name: str, number: int, tier: str, matches: list[dict[str, str]], pairs: tuple[str, ...], *, as_json: bool
) -> None:
    """Create a client; it must not exist yet."""
    body = {"id": number, "tier": tier, "match": matches, **assigned(pairs)}
    show.item(create(api, "clients", name, body), as_json=as_json)


@clients.command(epilog=EPILOG)
@click.argument("name")
@click.argument("tier")
@with_api
def move(api: Api, name: str, tier: str) -> None:
    """Move client NAME to TIER; addresses already issued follow."""
    api.call("PATCH", "clients", name, body={"tier": tier})
    click.echo(f"client {name} is in tier {tier}")


@clients.command("new-key", epilog=EPILOG)
@click.argument("name")
@with_api
def new_key(api: Api, name: str) -> None:
    """Void the key of client NAME; enrol it again to give it a new one."""
    generation = api.call("POST", "clients", name, "new-key")["key_generation"]
    click.echo(f"client {name} has key generation {generation}; enrol it again with `dnsvip client enrol {name}`")


@clients.command(epilog=EPILOG)
@click.argument("name")
@click.argument("request", type=click.File())
@click.option("--days", type=click.IntRange(1), help="How long it is good for, by default 30.")
@with_api
def certify(api: Api, name: str, request: TextIO, days: int | None) -> None:
    """Issue a certificate that identifies client NAME over encrypted DNS, and print it with its authority's.

    REQUEST (- is standard input) is a request for a certificate (PKCS #10, PEM) that the client made with its own key.
    """
    body = {"csr": request.read(), **({"days": days} if days else {})}
    click.echo(api.call("POST", "clients", name, "certificate", body=body)["certificate"], nl=False)


@clients.command(epilog=EPILOG)
@click.argument("name")
@with_api
def enable(api: Api, name: str) -> None:
    """Accept the client's addresses; a revoked one must be enrolled again."""
    api.call("PATCH", "clients", name, body={"state": ClientState.ENABLED.value})
    click.echo(f"client {name} is {ClientState.ENABLED.value}")


_end_flows = click.option("--end-flows", is_flag=True, help="End the client's known flows too, within a second.")


@clients.command(epilog=EPILOG)
@click.argument("name")
@_end_flows
@with_api
def delete(api: Api, name: str, *, end_flows: bool) -> None:
    """Delete client NAME."""
    api.call("DELETE", "clients", name, query={"end_flows": "true"} if end_flows else None)
    click.echo(f"client {name} deleted")


def _state_command(verb: str, state: ClientState, text: str) -> None:
    @clients.command(verb, help=text, epilog=EPILOG)
    @click.argument("name")
    @_end_flows
    @with_api
    def command(api: Api, name: str, *, end_flows: bool) -> None:
        api.call("PATCH", "clients", name, body={"state": state.value} | ({"end_flows": True} if end_flows else {}))
        click.echo(f"client {name} is {state.value}" + (", its flows have ended" if end_flows else ""))


_state_command("disable", ClientState.DISABLED, "Reject the client's addresses until it is enabled again.")
_state_command("revoke", ClientState.REVOKED, "Reject the client's addresses and, for good, its key.")

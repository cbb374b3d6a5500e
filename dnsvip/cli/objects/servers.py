"""`dnsvip servers`: the servers of all pools, their weight and state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import click

from dnsvip.cli.shared import show
from dnsvip.cli.shared.api import EPILOG, Api, ApiError, with_api
from dnsvip.cli.shared.columns import columns
from dnsvip.cli.shared.nouns import PAIRS, assigned, json_option
from dnsvip.cli.shared.parameters import Choice
from dnsvip.site import Server, ServerState
from dnsvip.site.declare import declared
from dnsvip.site.plain import JsonObject
from dnsvip.suggestion import did_you_mean

SERVER = "[POOL/]SERVER"
COLUMNS: show.Columns = {"POOL": lambda server: server["pool"], **columns(declared(Server))}
STATES = Choice([state.value for state in ServerState])

IS: Mapping[ServerState, str] = {
    ServerState.UP: "up",
    ServerState.DRAIN: "draining: it gets no new flows, established ones stay",
    ServerState.DOWN: "down: its flows go to others",
    ServerState.MAINT: "in maintenance: its flows go to others",
}
"""What a server is in a state, in words."""

HEALTH: show.Columns = {
    "POOL": lambda one: one["pool"],
    "NAME": lambda one: one["name"],
    "NODE": lambda one: one["node"] + ("" if one["live"] else " (silent)"),
    "STATE": lambda one: one["state"],
    "CHECK": lambda one: "passes" if one["passing"] else "fails",
    "WEIGHT": lambda one: one["weight"],
    "LOAD": lambda one: f"{one['load']}%",
    "SINCE": lambda one: show.moment(one["since"]),
    "NOTE": lambda one: one["note"],
}


@click.group(epilog=EPILOG)
def servers() -> None:
    """Servers of the site's pools, through the HTTP API. POOL/ is only needed where two pools have a SERVER."""


@servers.command("list", epilog=EPILOG)
@click.option("--pool", help="Only those of this pool.")
@click.option("--state", type=STATES, help="Only those in this administrative state.")
@json_option
@with_api
def list_(api: Api, pool: str | None, state: str | None, *, as_json: bool) -> None:
    """List servers."""
    matching = (server for server in _servers(api, pool) if state in (None, server["state"]))
    show.rows(COLUMNS, matching, as_json=as_json)


@servers.command("show", epilog=EPILOG)
@click.argument("server", metavar=SERVER)
@json_option
@with_api
def show_(api: Api, server: str, *, as_json: bool) -> None:
    """Show all of one server."""
    show.item(api.get(*_path(api, server)), as_json=as_json)


@servers.command(epilog=EPILOG)
@click.option("--pool", help="Only those of this pool.")
@click.option("--server", help="Only those of this name.")
@click.option("--node", help="As this dispatcher sees them only.")
@click.option("--state", type=STATES, help="Only those in this effective state.")
@json_option
@with_api
def health(api: Api, *, as_json: bool, **about: str | None) -> None:
    """Show each checked server as each dispatcher sees it."""
    show.rows(HEALTH, api.get("health", query=about)["items"], as_json=as_json)


@servers.command(epilog=EPILOG)
@click.argument("server", metavar="POOL/SERVER")
@click.argument("pairs", nargs=-1, required=True, metavar=PAIRS)
@json_option
@with_api
def add(api: Api, server: str, pairs: tuple[str, ...], *, as_json: bool) -> None:
    """Add a server to a pool: address=ADDRESS [weight=N]."""
    pool, separator, name = server.partition("/")
    if not separator:
        raise click.UsageError(f"{server!r}: must be POOL/SERVER")
    body, new = assigned(pairs), {"If-None-Match": "*"}
    show.item(api.call("PUT", "pools", pool, "servers", name, body=body, headers=new), as_json=as_json)


@servers.command("set", epilog=EPILOG)
@click.argument("server", metavar=SERVER)
@click.argument("pairs", nargs=-1, required=True, metavar=PAIRS)
@json_option
@with_api
def set_(api: Api, server: str, pairs: tuple[str, ...], *, as_json: bool) -> None:
    """Change a server."""
    show.item(api.call("PATCH", *_path(api, server), body=assigned(pairs)), as_json=as_json)


@servers.command(epilog=EPILOG)
@click.argument("server", metavar=SERVER)
@with_api
def delete(api: Api, server: str) -> None:
    """Remove a server from its pool; its established flows break, so drain it first."""
    api.call("DELETE", *_path(api, server))
    click.echo(f"server {server} deleted")


@servers.command(epilog=EPILOG)
@click.argument("server", metavar=SERVER)
@click.argument("weight", type=click.IntRange(0, 1000))
@with_api
def weight(api: Api, server: str, weight: int) -> None:
    """Set a server's share of new flows: WEIGHT relative to the pool's other servers, 0 for none."""
    api.call("PATCH", *_path(api, server), body={"weight": weight})
    click.echo(f"server {server} has weight {weight}")


def _state_command(state: ServerState, text: str) -> None:
    @servers.command(state.value, help=text, epilog=EPILOG)
    @click.argument("servers", nargs=-1, required=True, metavar=f"{SERVER}...")
    @with_api
    def command(api: Api, servers: tuple[str, ...]) -> None:
        if len(servers) == 1:
            api.call("PATCH", *_path(api, *servers), body={"state": state.value})
            click.echo(f"server {servers[0]} is {IS[state]}")
            return
        _set_states(api, servers, state)


_state_command(ServerState.UP, "Use servers.")
_state_command(ServerState.DRAIN, "Give servers no new flows; established ones stay.")
_state_command(ServerState.DOWN, "Do not use servers; their flows go to others.")
_state_command(ServerState.MAINT, "Do not use servers, as they are being worked on; their flows go to others.")


def _set_states(api: Api, servers: tuple[str, ...], state: ServerState) -> None:
    """Set the state of several servers at once: of a pool all or none."""
    states = {"/".join(_path(api, server)[1::2]): state.value for server in servers}
    outcomes = api.call("POST", "server-states", body={"states": states})["items"]
    refused = [f"server {outcome['server']}: {outcome['error']}" for outcome in outcomes if outcome["error"]]
    for outcome in outcomes:
        if not outcome["error"]:
            click.echo(f"server {outcome['server']} is {IS[state]}")
    if refused:
        raise ApiError("\n".join(refused))


def _servers(api: Api, pool: str | None) -> Iterator[JsonObject]:
    pools = [api.get("pools", pool)] if pool else api.items("pools")
    return ({"pool": pool_["name"], **server} for pool_ in pools for server in pool_.get("servers", ()))


def _path(api: Api, server: str) -> tuple[str, ...]:
    """The path of a server; its pool is looked up where it is not given."""
    pool, separator, name = server.partition("/")
    if separator:
        return "pools", pool, "servers", name
    known = list(_servers(api, None))
    pools = [entry["pool"] for entry in known if entry["name"] == server]
    if not pools:
        meant = did_you_mean(server, {entry["name"] for entry in known})
        raise ApiError(f"no pool has a server {server!r}{meant or ';'} `dnsvip servers list` shows them", 404)
    if len(pools) > 1:
        raise click.UsageError(f"{server!r} is in several pools: say {' or '.join(f'{p}/{server}' for p in pools)}")
    return "pools", pools[0], "servers", server

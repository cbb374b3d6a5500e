"""Judges the network: routes of cluster prefixes and servers, and the delegation of our zones. Pure: facts come from
`probe_network`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dnsvip.doctor.finding import Finding, failure, ok, unknown, warning

ROUTING, SERVERS, DELEGATION = "routing", "servers", "delegation"

OUR_DEVICE = "dnsvip0"


@dataclass(frozen=True, slots=True)
class Route:
    """The route of this machine to an address: `kind` is "local", "unicast" or "none", through `device`, via `gateway`
    if any. `on_link`: the whole prefix is on the link of `device`."""

    kind: str
    device: str = ""
    gateway: str = ""
    on_link: bool = False


def judge_prefix(cluster: str, prefix: str, route: Route, *, taken: bool) -> Iterator[Finding]:
    """Whether a dispatcher gets the packets for a prefix that reach this machine. `taken`: by XDP, before routing."""
    if route.device == OUR_DEVICE or taken:
        yield ok(ROUTING, f"{prefix} ({cluster}) goes to the dispatcher")
    elif route.kind == "local":
        mend = f"ip route del local {prefix} dev {route.device}: that belongs on servers, not on the dispatcher"
        yield failure(ROUTING, f"{prefix} ({cluster}) is this machine's own", mend)
    elif route.on_link:
        mend = (
            f"take {prefix} off {route.device}, and have the router send it here: ip route add {prefix} via THIS-HOST; "
            "while it is on a link, routers ask for each VIP's neighbour and nobody answers"
        )
        yield failure(ROUTING, f"{prefix} ({cluster}) is on the link of {route.device}", mend)
    else:
        mend = f"nothing before the dispatcher runs; the router before it needs: ip route add {prefix} via THIS-HOST"
        yield unknown(ROUTING, f"{prefix} ({cluster}): no dispatcher takes it now", mend)


def judge_local(cluster: str, prefix: str, route: Route) -> Iterator[Finding]:
    """Whether a server accepts the prefix as local."""
    if route.kind == "local":
        yield ok(ROUTING, f"{prefix} ({cluster}) is local: its servers answer every VIP")
    else:
        mend = f"ip route add local {prefix} dev lo, and for good as deploy/README.md shows"
        yield failure(ROUTING, f"{prefix} ({cluster}) is not local: packets to a VIP are forwarded or refused", mend)


@dataclass(frozen=True, slots=True)
class Reached:
    """One server: its route, and the result of its pool's check (`error` "" where it passed, None: not tried)."""

    pool: str
    name: str
    address: str
    forward: str
    route: Route
    error: str | None = None


def judge_servers(servers: Iterable[Reached]) -> Iterator[Finding]:
    """Whether packets reach the servers, and whether they answer."""
    for server in servers:
        who = f"{server.pool}/{server.name} ({server.address})"
        if server.route.kind == "none":
            yield failure(SERVERS, f"{who}: no route", "give this machine a route to it: ip route add ... via ...")
        elif server.forward == "direct" and server.route.gateway:
            mend = (
                "direct keeps the destination, so the server must be on a link of this machine: give it an address "
                'there, or use forward = "encap" or "nat"'
            )
            yield failure(SERVERS, f"{who} is behind {server.route.gateway}", mend)
        elif server.error:
            mend = "start its service, or set `dnsvip servers maint` during maintenance"
            yield warning(SERVERS, f"{who}: {server.error}", mend)
        else:
            yield ok(SERVERS, f"{who} answers" if server.error == "" else f"{who} is on a link of this machine")


@dataclass(frozen=True, slots=True)
class Delegated:
    """A zone as the resolver sees it: name servers, their addresses, `error` where it could not be queried."""

    zone: str
    servers: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    error: str = ""


def judge_delegation(delegation: Delegated, own: Iterable[str], *, everywhere: bool) -> Iterator[Finding]:
    """Whether the zone is delegated to us: `own` are the addresses we listen on; `everywhere`: all of this machine."""
    mend = f"have the parent zone of {delegation.zone} delegate it: NS records, and their addresses as glue"
    if delegation.error:
        yield unknown(DELEGATION, f"{delegation.zone}: {delegation.error}", "nothing, if this machine has no resolver")
    elif not delegation.servers:
        yield warning(DELEGATION, f"{delegation.zone} is not delegated", mend)
    elif everywhere or set(delegation.addresses) & set(own):
        yield ok(DELEGATION, f"{delegation.zone} is delegated to {', '.join(delegation.servers)}")
    else:
        what = f"{delegation.zone} is delegated to {', '.join(delegation.servers)}, none of which is this machine"
        yield warning(DELEGATION, what, f"{mend}; nothing, if front ends precede this node")

"""Judging the ways: of clients' packets to the prefix, to servers, and of questions to our zones. Pure: facts come from
`probe_network`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dnsvip.doctor.finding import Finding, failure, ok, unknown, warning

ROUTING, SERVERS, DELEGATION = "routing", "servers", "delegation"

OUR_DEVICE = "dnsvip0"


@dataclass(frozen=True, slots=True)
class Way:
    """Where this machine sends packets to an address: `kind` "local", "unicast" or "none", through `device`, by
    `gateway` where one is on the way. `on_link`: the whole prefix is said to be on an interface, that of `device`."""

    kind: str
    device: str = ""
    gateway: str = ""
    on_link: bool = False


def judge_prefix(cluster: str, prefix: str, way: Way, *, taken: bool) -> Iterator[Finding]:
    """Whether a dispatcher gets the packets for a prefix that reach this machine. `taken`: the kernel does it (XDP)."""
    if way.device == OUR_DEVICE or taken:
        yield ok(ROUTING, f"{prefix} ({cluster}) goes to the dispatcher")
    elif way.kind == "local":
        mend = f"ip route del local {prefix} dev {way.device}: that belongs on servers, not on the dispatcher"
        yield failure(ROUTING, f"{prefix} ({cluster}) is this machine's own", mend)
    elif way.on_link:
        mend = (
            f"take {prefix} off {way.device}, and have the router send it here: ip route add {prefix} via THIS-HOST; "
            "while it is on a link, routers ask for each VIP's neighbour and nobody answers"
        )
        yield failure(ROUTING, f"{prefix} ({cluster}) is on the link of {way.device}", mend)
    else:
        mend = f"nothing before the dispatcher runs; the router before it needs: ip route add {prefix} via THIS-HOST"
        yield unknown(ROUTING, f"{prefix} ({cluster}): no dispatcher takes it now", mend)


def judge_local(cluster: str, prefix: str, way: Way) -> Iterator[Finding]:
    """Whether a server takes the prefix for its own."""
    if way.kind == "local":
        yield ok(ROUTING, f"{prefix} ({cluster}) is local: its servers answer every VIP")
    else:
        mend = f"ip route add local {prefix} dev lo, and for good as deploy/README.md shows"
        yield failure(ROUTING, f"{prefix} ({cluster}) is not local: packets to a VIP are passed on or refused", mend)


@dataclass(frozen=True, slots=True)
class Reached:
    """One server: the way there, and what came of its pool's check (`error` "" where it passed, None: not tried)."""

    pool: str
    name: str
    address: str
    forward: str
    way: Way
    error: str | None = None


def judge_servers(servers: Iterable[Reached]) -> Iterator[Finding]:
    """Whether packets reach the servers, and they answer."""
    for server in servers:
        who = f"{server.pool}/{server.name} ({server.address})"
        if server.way.kind == "none":
            yield failure(SERVERS, f"{who}: no route", "give this machine a route to it: ip route add ... via ...")
        elif server.forward == "direct" and server.way.gateway:
            mend = (
                "direct keeps the destination, so the server must be on a link of this machine: give it an address "
                'there, or use forward = "encap" or "nat"'
            )
            yield failure(SERVERS, f"{who} is behind {server.way.gateway}", mend)
        elif server.error:
            mend = "start what is to answer there, or `dnsvip servers maint` while it is worked on"
            yield warning(SERVERS, f"{who}: {server.error}", mend)
        else:
            yield ok(SERVERS, f"{who} answers" if server.error == "" else f"{who} is on a link of this machine")


@dataclass(frozen=True, slots=True)
class Delegated:
    """What the resolver says of a zone: its name servers, their addresses, `error` where it could not be asked."""

    zone: str
    servers: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    error: str = ""


def judge_delegation(found: Delegated, own: Iterable[str], *, everywhere: bool) -> Iterator[Finding]:
    """Whether the world asks us: `own` are this machine's addresses that we listen on; `everywhere`: on all of them."""
    mend = f"have the parent zone of {found.zone} delegate it: NS records, and their addresses as glue"
    if found.error:
        yield unknown(DELEGATION, f"{found.zone}: {found.error}", "nothing, where this machine has no resolver")
    elif not found.servers:
        yield warning(DELEGATION, f"{found.zone} is delegated to nobody", mend)
    elif everywhere or set(found.addresses) & set(own):
        yield ok(DELEGATION, f"{found.zone} is delegated to {', '.join(found.servers)}")
    else:
        what = f"{found.zone} is delegated to {', '.join(found.servers)}, none of which is this machine"
        yield warning(DELEGATION, what, f"{mend}; nothing, where front ends stand before this node")

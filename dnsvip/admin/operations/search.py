"""/search: everything of the site that a text is in, or that an address leads to, as far as the caller may read it.

It looks at the snapshot that this node serves, so it needs no index and no database, and finds a change as soon as DNS
does. Names are compared in slices of the event loop; a search ends after SECONDS and says what it has not looked at.
What the caller may not read is left out before anything is counted or cut off, so its answer is that of a site without
it. Only networks that clients claim are looked up in the database, by their index.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, Any, ClassVar, TypeAlias

from aiohttp import web
from pydantic import BeforeValidator, ConfigDict, Field

from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import CALLER
from dnsvip.admin.http.operation import ROOT, Operation, query_of
from dnsvip.admin.http.problems import Refusal
from dnsvip.admin.http.queries import number
from dnsvip.admin.http.resource import name_of_thing
from dnsvip.admin.http.slices import batch_of, in_slices
from dnsvip.admin.http.work import locked, small_turn
from dnsvip.admin.node import NODE
from dnsvip.admin.operations import decode
from dnsvip.admin.operations.deciders import DECIDERS
from dnsvip.admin.operations.records import Record, records_with
from dnsvip.dns.protocol.names import Labels
from dnsvip.dns.zones.catalog import labels_or_split
from dnsvip.dns.zones.zone import CompiledZone
from dnsvip.errors import StoreError
from dnsvip.site import STRICT, Site
from dnsvip.site.plain import collection
from dnsvip.site.registry import NAMED
from dnsvip.site.rights import Action, Rights, fits_any
from dnsvip.store import Listing

SECONDS = 2.0
"""How long a search may take; what is left then is named in `incomplete`."""

LONGEST = 254
FEW = 10
"""Zones between two looks at the clock: most have some hundred records."""

TURN = web.AppKey("turn of searches", asyncio.Lock)
"""A node has one search at a time."""

Address: TypeAlias = IPv4Address | IPv6Address
Ranked: TypeAlias = tuple[int, str]
"""How well a name matches, 0 best, and the name."""


def _text(value: Any) -> str:
    text = value.strip() if isinstance(value, str) else ""
    if not text or not text.isprintable():
        raise ValueError("must be printable text")
    return text


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """The text `q`, in any case, or an address; at most `limit` of each kind."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    q: Annotated[str, BeforeValidator(_text), Field(max_length=LONGEST)]
    limit: Annotated[int, *number(1, 100)] = 10


@dataclass(frozen=True, slots=True)
class Match:
    """An object, a `server` of the pool `of`, a `record` of the zone `of`, or an `address` that the explorer explains;
    `detail` says in words what it is, or why it matches."""

    kind: str
    name: str
    of: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The best first, by kind. There are `more` of these kinds, and of the kinds in `incomplete` perhaps, which were
    not looked at to the end."""

    items: list[Match]
    more: list[str]
    incomplete: list[str]


class Search:
    """One search: what it is for, by whom, and until when."""

    def __init__(self, request: web.Request, asked: SearchQuery) -> None:
        self.request, self.asked = request, asked
        self.rights: Rights = request[CALLER].rights
        self.site: Site = request.app[NODE].snapshot().site
        self.needle = asked.q.lower().rstrip(".") or asked.q
        self.address = _address(asked.q)
        self.until = time.monotonic() + SECONDS
        self.found = Found([], [], [])

    def is_over(self) -> bool:
        """Whether it has taken so long that it ends."""
        return time.monotonic() >= self.until

    def take(self, kind: str, matches: Iterable[Match]) -> None:
        """Add the matches of a kind, as many as are asked for."""
        some = list(matches)
        self.found.items.extend(some[: self.asked.limit])
        if len(some) > self.asked.limit:
            self.found.more.append(kind)

    def seen(self, kind: str) -> Callable[[str], bool]:
        """What tells whether the caller may read an object of a kind; it takes as long for whatever is searched."""
        patterns = self.rights.patterns(Action.READ, kind)
        if patterns is None:
            return lambda _: True
        return lambda name: fits_any(kind, name, patterns, self.rights.zones)


async def search(request: web.Request) -> web.Response:
    """What a text is in, or an address leads to: clients, servers, services, zones, records and all other objects."""
    asked = query_of(request, SearchQuery)
    async with small_turn(request), locked(request, request.app[TURN], "the search of this node"):
        address, zones = await _of_address(request, asked), await request.app[DECIDERS].zones()
        one = Search(request, asked)
        one.take("address", address)
        for kind in (*(kind for kind in NAMED if kind != "client"), "client"):
            if one.rights.allow(Action.READ, kind):
                await _of_kind(one, kind)
        await _of_zones(one, zones)
    return bodies.answer(asdict(one.found))


async def _of_address(request: web.Request, asked: SearchQuery) -> list[Match]:
    """What an address carries, as the explorer says it, where it is one of a cluster's."""
    address, clusters = _address(asked.q), request.app[NODE].snapshot().site.clusters.values()
    if address is None or not request[CALLER].rights.allow(Action.READ, "decode"):
        return []
    if not any(_holds(cluster, address) for cluster in clusters):
        return []
    with suppress(Refusal):  # it tells of something that the caller may not see
        told = await decode.told(request, decode.Decode(address))
        if told["cluster"] is not None:
            client, outcome = told["client"], "accepted" if told["accepted"] else f"refused, {told['reason']}"
            parts = f"cluster {told['cluster']}", told["tier"] and f"tier {told['tier']}", client and f"client {client}"
            return [Match("address", told["address"], None, f"{outcome}: {', '.join(filter(None, parts))}")]
    return []


async def _of_kind(one: Search, kind: str) -> None:
    """The objects of a kind by name, clusters by prefix, and clients by their number and what they claim."""
    seen, things = one.seen(kind), collection(one.site, kind)
    meant = {name: why for name, why in (await _meant(one, kind)).items() if seen(name)}
    best = sorted((0, name) for name in meant)[: one.asked.limit + 1]
    async for batch in in_slices(things, batch_of(one.rights.patterns(Action.READ, kind))):
        visible = list(filter(seen, batch))
        if one.needle in "\n".join(visible).lower():
            best = _better(best, (name for name in visible if name not in meant), one)
        if one.is_over():
            one.found.incomplete.append(kind)
            break
    one.take(kind, (Match(kind, name, None, meant.get(name) or _detail(kind, things.get(name))) for _, name in best))
    if kind == "pool":
        one.take("server", await _servers(one))


def _better(best: list[Ranked], names: Iterable[str], one: Search) -> list[Ranked]:
    """The best of a page and of names: those that are the text, then those that start with it."""
    hits, most = [], one.asked.limit + 1
    worst = best[-1] if len(best) == most else (3, "")
    for name in names:
        low = name.lower()
        if one.needle in low:
            hit = (0 if low == one.needle else 1 if low.startswith(one.needle) else 2), name
            if hit < worst:
                hits.append(hit)
    return heapq.nsmallest(most, [*best, *hits]) if hits else best


async def _meant(one: Search, kind: str) -> dict[str, str]:
    """The objects that the text means without being in their name, and why."""
    if kind == "client":
        return await _clients(one)
    clusters = one.site.clusters.items() if kind == "cluster" else ()
    return {
        name: f"prefix {cluster.prefix}"
        for name, cluster in clusters
        if one.needle in str(cluster.prefix) or _holds(cluster, one.address)
    }


async def _clients(one: Search) -> dict[str, str]:
    """The client of a number, and those that claim the text, or a network that holds the address: by the indexes of the
    database, so not while it is away."""
    text, most = one.asked.q, one.asked.limit + 1
    patterns = one.rights.patterns(Action.READ, "client")
    claiming = Listing("client", most, filters={"match": text}, visible=patterns)
    is_number = text.isascii() and text.isdigit() and len(text) < 10
    try:
        objects = one.request.app[NODE].store().objects
        found = {name_of_thing(thing): f"claims {text}" for thing in await objects.page(claiming)}
        for thing in await objects.page(_from(int(text))) if is_number else ():
            if getattr(thing, "id", None) == int(text):
                found[name_of_thing(thing)] = f"number {text}"
    except StoreError:
        one.found.incomplete.append("client")
        return {}
    return found


def _from(number: int) -> Listing:
    """The first client with this number or a higher one."""
    return Listing("client", 1, sort="id", after=(number - 1, "\U0010ffff"))


def _detail(kind: str, thing: Any) -> str | None:
    match kind:
        case "client" if thing is not None:
            return f"tier {thing.tier}, {thing.state.value}"
        case "cluster":
            return f"prefix {thing.prefix}"
        case "service":
            return ", ".join(f"cluster {name}" for name in (thing.cluster, thing.cluster4) if name)
        case "pool":
            return f"{len(thing.servers)} server{'s' if len(thing.servers) != 1 else ''}"
    return None


async def _servers(one: Search) -> list[Match]:
    """Servers by name and address, those that are meant exactly first."""
    best: list[tuple[int, str, str, str]] = []
    pairs = ((pool.name, server) for pool in one.site.pools.values() for server in pool.servers)
    async for batch in in_slices(pairs):
        hits = [
            (int(not is_meant), pool, server.name, f"{server.address}, {server.state.value}")
            for pool, server in batch
            if (is_meant := server.address == one.address or server.name.lower() == one.needle)
            or one.needle in server.name.lower()
            or one.needle in str(server.address)
        ]
        if hits:
            best = heapq.nsmallest(one.asked.limit + 1, [*best, *hits])
    return [Match("server", name, pool, detail) for _, pool, name, detail in best]


async def _of_zones(one: Search, served: Mapping[Labels, CompiledZone | None]) -> None:
    """Records of the zones that the caller may read, by owner and content."""
    if not one.rights.allow(Action.READ, "zone"):
        return
    some = list[Record]()
    async for record in _records(one, served):
        some.append(record)
        if len(some) > one.asked.limit:
            break
    one.take("record", (Match("record", r.owner, r.zone, f"{r.type} {r.content}") for r in some))


async def _records(one: Search, served: Mapping[Labels, CompiledZone | None]) -> AsyncIterator[Record]:
    async for batch in in_slices(one.site.zones, FEW):
        for name in batch:
            zone = served.get(labels_or_split(name)) if one.rights.allow(Action.READ, "zone", name) else None
            if zone is not None:
                async for record in records_with(name, zone, one.needle, one.is_over):
                    yield record
        if one.is_over():
            one.found.incomplete.append("record")
            return


def _holds(cluster: Any, address: Address | None) -> bool:
    return address is not None and address.version == cluster.prefix.version and address in cluster.prefix


def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


ROUTES = [Operation("GET", f"{ROOT}/search", search, query=SearchQuery, answer=Found)]

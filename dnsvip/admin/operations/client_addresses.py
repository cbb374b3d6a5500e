"""/clients/NAME/addresses: what a client is answered at each service now, and where its flows go by which rule."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Annotated, ClassVar
from urllib.parse import urlencode

from aiohttp import web
from pydantic import ConfigDict

from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import CALLER, demand_seen
from dnsvip.admin.http.narrowing import Narrowed, narrowed
from dnsvip.admin.http.operation import ROOT, Operation, query_of
from dnsvip.admin.http.problems import Refusal
from dnsvip.admin.http.queries import After, number
from dnsvip.admin.http.slices import batch_of, in_slices
from dnsvip.admin.http.work import small_turn
from dnsvip.admin.node import NODE, Node
from dnsvip.admin.operations.deciders import DECIDERS
from dnsvip.admin.operations.explain import FLOW_PORT, SERVICE_PORT, SOMEBODY
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.routes import conditions_in_words, rule_label
from dnsvip.dispatcher.simulate import SimulatedFlow, simulate
from dnsvip.dns.engine import Engine
from dnsvip.dns.explain import WHY
from dnsvip.dns.identity.identify import Classified, Requester
from dnsvip.dns.synthesis.issuer import Vip
from dnsvip.errors import StoreError
from dnsvip.site import STRICT, Address, ClassCluster, Client, ClientState, Cluster, NonceOf, Service
from dnsvip.site.rights import PREFIX_STEPS

MOST = 100
LATE_SECONDS = 1.0
SERVERS = 8
"""Servers that are named for an address."""


@dataclass(frozen=True, slots=True)
class AddressesQuery:
    """At most `limit` services after the name `after`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    limit: Annotated[int, *number(1, MOST)] = 20
    after: After | None = None


@dataclass(frozen=True, slots=True)
class ServerShare:
    """A server and its share of new flows, 0 to 1."""

    server: str
    share: float


@dataclass(frozen=True, slots=True)
class ClientAddress:
    """An address that the client is answered now, for `ttl` seconds; it opens flows until `expires_at` (unix seconds),
    or as long as its key does. `rule` decides the pool: a number of the cluster's, `client`, or none where the tier
    does; `when` are its conditions. `fresh`: each answer has another address."""

    service: str
    cluster: str | None
    address: str
    ttl: int
    why: str
    fresh: bool
    expires_at: float | None
    accepted: bool
    reason: str
    tier: str | None
    rule: str | None
    when: str | None
    pool: str | None
    servers: list[ServerShare]


@dataclass(frozen=True, slots=True)
class ClientAddresses:
    """The addresses by service; none while the client is not enabled."""

    client: str
    state: ClientState
    items: list[ClientAddress]
    next: str | None


async def get(request: web.Request) -> web.Response:
    """What a client is answered at each service now, and where that leads; services that the caller may not see are
    left out."""
    query, name = query_of(request, AddressesQuery), request.match_info["name"]
    demand_seen(request, "explain", "client", name, must=True)
    if name not in request.app[NODE].snapshot().site.clients:
        await _caught_up(request.app[NODE])
    engine, tables = await request.app[DECIDERS].engine(), await request.app[DECIDERS].tables()
    client = tables.snapshot.site.clients.get(name)
    if client is None:
        raise Refusal("not-found", f"There is no client {name!r} that this node serves; GET {ROOT}/clients lists them.")
    seen = narrowed(request[CALLER].rights, "explain")
    services: list[Service] = []
    if client.state is ClientState.ENABLED:
        services = await _services(tables, seen, query.after or "", query.limit + 1)
    page, now = services[: query.limit], request.app[NODE].now()
    items: list[ClientAddress] = []
    async with small_turn(request):
        for service in page:  # some milliseconds each: others have their turn between two
            items += _addresses(engine, tables, client, service, now)
            await asyncio.sleep(0)
    more = {"limit": query.limit, "after": page[-1].name} if len(services) > len(page) else None
    following = f"{request.path}?{urlencode(more)}" if more else None
    shown = [item for item in items if item.tier is None or seen.shows("tier", item.tier)]
    return bodies.answer(asdict(ClientAddresses(name, client.state, shown, following)))


async def _caught_up(node: Node) -> None:
    """Wait until the node serves what the database has now, LATE_SECONDS at most: who has just made a client may ask
    for its addresses."""
    with suppress(StoreError, TimeoutError):
        async with asyncio.timeout(LATE_SECONDS):
            generation = await node.store().objects.generation()
            while node.snapshot().generation < generation:  # noqa: ASYNC110 - the node has no event for it here
                await asyncio.sleep(LATE_SECONDS / 50)


async def _services(tables: DispatchTables, seen: Narrowed, after: str, most: int) -> list[Service]:
    """The first services after a name that a caller may see, with their clusters, by name."""
    some: list[Service] = []
    async for batch in in_slices(sorted(tables.snapshot.site.services.items()), batch_of(seen.patterns.get("service"))):
        some += [
            service
            for name, service in batch
            if name > after and seen.shows("service", name) and _shows_clusters(service, seen)
        ]
        if len(some) >= most:
            break
    return some


def _shows_clusters(service: Service, seen: Narrowed) -> bool:
    return all(name is None or seen.shows("cluster", name) for name in (service.cluster, service.cluster4))


def _addresses(
    engine: Engine, tables: DispatchTables, client: Client, service: Service, now: float
) -> Iterator[ClientAddress]:
    """The addresses of both IP versions."""
    who, vips = Classified(client, None), engine.tables.vips
    six = vips.aaaa(service, who, Requester(SOMEBODY[6]), now)
    four = vips.a(service, who, Requester(SOMEBODY[4]), now)
    if six is not None:
        yield _shown(tables, client, service, service.cluster, IPv6Address(six.address), six, now)
    if four is not None:
        yield _shown(tables, client, service, service.cluster4, IPv4Address(four.address), four, now)


def _shown(
    tables: DispatchTables,
    client: Client,
    service: Service,
    cluster: str | None,
    address: Address,
    vip: Vip,
    now: float,
) -> ClientAddress:
    flow = simulate(tables, _source(client, address.version), FLOW_PORT, address, SERVICE_PORT, now)
    verdict, route, holder = flow.address_verdict, flow.route, tables.snapshot.site.clusters.get(cluster or "")
    return ClientAddress(
        service.name,
        cluster,
        str(address),
        vip.ttl,
        WHY[vip.kind],
        isinstance(holder, Cluster) and holder.nonce is NonceOf.ANSWER,
        _expires_at(tables, flow),
        verdict.accepted,
        verdict.reason.value,
        verdict.tier.name if verdict.tier else None,
        rule_label(route.rule) if route else None,
        _conditions(holder, route.rule) if route else None,
        flow.verdict.server.pool if flow.verdict.server else route.pool if route else None,
        [ServerShare(one.server.name, round(one.share, 4)) for one in flow.candidates[:SERVERS]],
    )


def _conditions(cluster: Cluster | ClassCluster | None, rule: int) -> str | None:
    """The conditions of the cluster's rule that decided; None where none did."""
    rules = cluster.select if cluster else ()
    return conditions_in_words(rules[rule - 1]) if 0 < rule <= len(rules) else None


def _source(client: Client, version: int) -> Address:
    """An address that the client is known by, of an IP version; somebody's where there is none."""
    networks = (ip_network(match.value) for match in client.match if match.step in PREFIX_STEPS)
    return next((network[0] for network in networks if network.version == version), SOMEBODY[version])


def _expires_at(tables: DispatchTables, flow: SimulatedFlow) -> float | None:
    """When an address stops to open flows by its expiry; None where it has none, or "as long as the epoch"."""
    verdict = flow.address_verdict
    cluster, expiry = verdict.cluster, verdict.values.get("expiry")
    keyring = tables.snapshot.keyrings.get(cluster.name) if cluster else None
    held = keyring.at(verdict.epoch) if keyring and isinstance(cluster, Cluster) and expiry else None
    if held is None or not isinstance(cluster, Cluster) or expiry is None:
        return None
    if expiry == (1 << cluster.address_layout.bits("expiry")) - 1:
        return None
    return held[0].activated_at + expiry * cluster.expiry_unit


ROUTES = [
    Operation(
        "GET",
        f"{ROOT}/clients/{{name}}/addresses",
        get,
        "explain",
        query=AddressesQuery,
        answer=ClientAddresses,
    )
]

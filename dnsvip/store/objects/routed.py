"""What `select`, and clients' own pools and servers, refer to: looked up where a change may break it.

Clusters are few and name few clients; those are read with them. Clients are many: they are searched only when a pool or
a server goes, or gets a name that another one has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import Problem
from dnsvip.site import Client, Pool, Site
from dnsvip.site.plan import Change
from dnsvip.site.routing import CLIENT
from dnsvip.site.rules import check_one
from dnsvip.store.database.database import BATCH, in_batches
from dnsvip.store.database.tables import client
from dnsvip.store.objects.rows import stored_client

SHOWN = 20
"""Clients that are looked at of all that a change breaks."""


async def with_mentioned(connection: AsyncConnection, site: Site) -> Site:
    """A site with the clients that rules of its clusters name, as far as they exist: without what others check."""
    names = {str(word) for cluster in site.clusters.values() for rule in cluster.select for word in _clients(rule.when)}
    mentioned: dict[str, Client] = {}
    for some in in_batches(sorted(names), BATCH):
        for row in await connection.execute(select(client).where(client.c.name.in_(some))):
            mentioned[row.name] = Client(row.name, row.id, row.tier)
    return replace(site, clients=mentioned) if mentioned else site


def check_mentions(site: Site, changes: Sequence[Change]) -> list[Problem]:
    """The problems of clusters whose rules name a client that these changes remove."""
    gone = {change.name for change in changes if change.kind == "client" and change.after is None}
    return [
        problem
        for cluster in site.clusters.values()
        if any(gone.intersection(map(str, _clients(rule.when))) for rule in cluster.select)
        for problem in check_one("cluster", cluster.name, cluster, site)
    ]


async def displaced(connection: AsyncConnection, pools: Iterable[tuple[str, Pool | None, Pool | None]]) -> list[Client]:
    """Some of the clients whose own pool or servers go, or get a name that another has, by the name of each changed
    pool, the pool before and the pool after."""
    conditions = [condition for name, before, after in pools for condition in _searched(name, before, after)]
    clients: dict[str, Client] = {}
    for some in in_batches(conditions, SHOWN):
        for row in await connection.execute(select(client).where(or_(*some)).limit(SHOWN)):
            item = stored_client(row)
            if item is not None:
                clients[item.name] = item
    return list(clients.values())


def _searched(name: str, before: Pool | None, after: Pool | None) -> Iterator[ColumnElement[bool]]:
    """Conditions on the JSON of clients that a changed pool may concern."""
    if after is None:
        yield client.c.spec.contains(f'"pool":"{name}"', autoescape=True)
    for server in sorted(_servers(before) ^ _servers(after)):
        for text in (f'"{server}"', f'"{name}/{server}"'):
            yield client.c.spec.contains('"servers":["') & client.c.spec.contains(text, autoescape=True)


def _servers(pool: Pool | None) -> set[str]:
    return {server.name for server in pool.servers} if pool else set()


def _clients(when: Mapping[str, tuple[str | int, ...]]) -> Sequence[str | int]:
    return when.get(CLIENT, ())

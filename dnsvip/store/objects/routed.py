"""What `select`, and clients' own pools and servers, refer to: looked up where a change may break it.

Clusters are few and name few clients; those are read with them. Clients are many: they are searched only when a pool or
a server goes, or gets a name that another one has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence, Set
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

MOST_SEARCHED = 2 * SHOWN
"""Texts of servers that clients are searched for one by one."""


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
    clients: dict[str, Client] = {}
    gone: list[ColumnElement[bool]] = []
    texts: set[str] = set()
    for name, before, after in pools:
        gone += [client.c.spec.contains(f'"pool":"{name}"', autoescape=True)] if after is None else []
        texts |= {text for server in _servers(before) ^ _servers(after) for text in (server, f"{name}/{server}")}
    if len(texts) > MOST_SEARCHED:  # look at all that have servers of their own, once
        clients |= {item.name: item for item in await _with_servers(connection, texts)}
        texts = set()
    by_server = [_OWN & client.c.spec.contains(f'"{text}"', autoescape=True) for text in sorted(texts)]
    for some in in_batches([*gone, *by_server], SHOWN):
        for row in await connection.execute(select(client).where(or_(*some)).limit(SHOWN)):
            item = stored_client(row)
            if item is not None:
                clients[item.name] = item
    return list(clients.values())


_OWN = client.c.spec.contains('"servers":["')


async def _with_servers(connection: AsyncConnection, texts: Set[str]) -> list[Client]:
    """Some of the clients that have one of these servers."""
    found: list[Client] = []
    last = ""
    while len(found) < SHOWN:
        query = select(client).where(_OWN, client.c.name > last).order_by(client.c.name).limit(BATCH)
        rows = (await connection.execute(query)).all()
        items = await asyncio.to_thread(lambda rows=rows: [stored_client(row) for row in rows])  # type: ignore[misc]
        found += [item for item in items if item is not None and not texts.isdisjoint(map(str, item.servers))]
        if len(rows) < BATCH:
            break
        last = rows[-1].name
    return found[:SHOWN]


def _servers(pool: Pool | None) -> set[str]:
    return {server.name for server in pool.servers} if pool else set()


def _clients(when: Mapping[str, tuple[str | int, ...]]) -> Sequence[str | int]:
    return when.get(CLIENT, ())

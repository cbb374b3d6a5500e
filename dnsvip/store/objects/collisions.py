"""Identifies which objects collided, after the database has refused a change over a unique column."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import Problem
from dnsvip.site import Client, DnsToken, Site, Tier
from dnsvip.site.plan import Change
from dnsvip.site.uniqueness import check_unique, taken
from dnsvip.store.database.database import BATCH, in_batches
from dnsvip.store.database.tables import KINDS, client_match


def collisions_within(changes: Sequence[Change]) -> list[Problem]:
    """A problem for each two objects of one set of changes that claim the same number, match or digest."""
    after = [change.after for change in changes]
    tiers = {new.name: new for new in after if isinstance(new, Tier)}
    clients = {new.name: new for new in after if isinstance(new, Client)}
    tokens = {new.name: new for new in after if isinstance(new, DnsToken)}
    return list(check_unique(Site(tiers=tiers, clients=clients, dns_tokens=tokens)))


async def collisions(connection: AsyncConnection, changes: Sequence[Change]) -> list[Problem]:
    """A problem for each changed object that claims a name, number or match of an object that stays unchanged."""
    changed = {(change.kind, change.name) for change in changes}
    problems: list[Problem] = []
    for kind, table in KINDS.items():
        created = [change.name for change in changes if change.kind == kind and change.action == "+"]
        for batch in in_batches(created, BATCH):
            existing = (await connection.execute(select(table.c.name).where(table.c.name.in_(batch)))).scalars()
            problems += [Problem(f"{kind}.{name}".rstrip("."), "exists already") for name in existing]
    after = [change.after for change in changes]
    codes = {new.code: new.name for new in after if isinstance(new, Tier)}
    ids = {new.id: new.name for new in after if isinstance(new, Client)}
    matches = {(m.step.value, m.value): new.name for new in after if isinstance(new, Client) for m in new.match}
    problems += [p async for p in _numbers(connection, "tier", "code", codes, changed)]
    problems += [p async for p in _numbers(connection, "client", "id", ids, changed)]
    problems += [p async for p in _matches(connection, matches, changed)]
    return problems


async def _numbers(
    connection: AsyncConnection, kind: str, key: str, claims: Mapping[int, str], changed: set[tuple[str, str]]
) -> AsyncIterator[Problem]:
    table = KINDS[kind]
    column = table.c[key]
    for batch in in_batches(list(claims), BATCH):
        for row in await connection.execute(select(table.c.name, column.label("number")).where(column.in_(batch))):
            if (kind, row.name) not in changed:
                owner = f"{kind}.{row.name}"
                yield taken(kind, claims[row.number], key, f"{row.number}", owner, row.name)


async def _matches(
    connection: AsyncConnection, claims: Mapping[tuple[str, str], str], changed: set[tuple[str, str]]
) -> AsyncIterator[Problem]:
    key = tuple_(client_match.c.step, client_match.c.value)
    for batch in in_batches(list(claims), BATCH):
        for row in await connection.execute(select(client_match).where(key.in_(batch))):
            if ("client", row.client) not in changed:
                text = f'{{ {row.step} = "{row.value}" }}'
                yield taken("client", claims[row.step, row.value], "match", text, f"client {row.client!r}", row.client)

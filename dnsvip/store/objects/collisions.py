"""Names the two objects of a collision after the database has refused a duplicate in a unique column."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import Problem
from dnsvip.site import Client, Site, Tier
from dnsvip.site.plan import Change
from dnsvip.site.rules import check_unique
from dnsvip.store.database.database import BATCH, in_batches
from dnsvip.store.database.tables import KINDS, client_match


def collisions_within(changes: Sequence[Change]) -> list[Problem]:
    """Objects of one set of changes that claim the same number or match."""
    after = [change.after for change in changes]
    tiers = {thing.name: thing for thing in after if isinstance(thing, Tier)}
    clients = {thing.name: thing for thing in after if isinstance(thing, Client)}
    return list(check_unique(Site(tiers=tiers, clients=clients)))


async def collisions(connection: AsyncConnection, changes: Sequence[Change]) -> list[Problem]:
    """Objects of the changes that claim a value of a stored object outside the changes."""
    changed = {(change.kind, change.name) for change in changes}
    problems: list[Problem] = []
    for kind, table in KINDS.items():
        new = [change.name for change in changes if change.kind == kind and change.action == "+"]
        for some in in_batches(new, BATCH):
            found = (await connection.execute(select(table.c.name).where(table.c.name.in_(some)))).scalars()
            problems += [Problem(f"{kind}.{name}".rstrip("."), "exists already") for name in found]
    after = [change.after for change in changes]
    codes = {thing.code: thing.name for thing in after if isinstance(thing, Tier)}
    ids = {thing.id: thing.name for thing in after if isinstance(thing, Client)}
    matches = {(m.step.value, m.value): thing.name for thing in after if isinstance(thing, Client) for m in thing.match}
    problems += [p async for p in _numbers(connection, "tier", "code", codes, changed)]
    problems += [p async for p in _numbers(connection, "client", "id", ids, changed)]
    problems += [p async for p in _matches(connection, matches, changed)]
    return problems


async def _numbers(
    connection: AsyncConnection, kind: str, key: str, claims: Mapping[int, str], changed: set[tuple[str, str]]
) -> AsyncIterator[Problem]:
    table = KINDS[kind]
    column = table.c[key]
    for some in in_batches(list(claims), BATCH):
        for row in await connection.execute(select(table.c.name, column.label("it")).where(column.in_(some))):
            if (kind, row.name) not in changed:
                yield Problem(f"{kind}.{claims[row.it]}.{key}", f"{row.it} belongs to {kind}.{row.name} already")


async def _matches(
    connection: AsyncConnection, claims: Mapping[tuple[str, str], str], changed: set[tuple[str, str]]
) -> AsyncIterator[Problem]:
    place = tuple_(client_match.c.step, client_match.c.value)
    for some in in_batches(list(claims), BATCH):
        for row in await connection.execute(select(client_match).where(place.in_(some))):
            if ("client", row.client) not in changed:
                text = f'{{ {row.step} = "{row.value}" }}'
                where = f"client.{claims[row.step, row.value]}.match"
                yield Problem(where, f"{text} belongs to client {row.client!r} already")

"""Objects read from their tables, page by page, so that a million of them never stop the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from time import perf_counter
from typing import Any

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import Problem, StoreError
from dnsvip.site import Classify, Client, ClientState, Site, TsigKey
from dnsvip.site.plain import SiteObject
from dnsvip.site.plan import Origin
from dnsvip.site.registry import COLLECTIONS, SINGLE
from dnsvip.store.database.tables import KINDS
from dnsvip.store.objects.rows import from_row
from dnsvip.store.secrets.kek import KeyEncryptionKey

PAGE = 500
"""Rows at a time."""

SLICE = 0.002
"""Seconds of reading rows after which the event loop runs."""


async def load_site(connection: AsyncConnection, kek: KeyEncryptionKey, kinds: Iterable[str]) -> Site:
    """A site with objects of some kinds; the other kinds are empty."""
    fields: dict[str, Any] = {}
    for kind in kinds:
        objects = {name: item async for name, item in load_objects(connection, kek, kind)}
        fields |= {SINGLE: objects.get("", Classify())} if kind == SINGLE else {COLLECTIONS[kind]: objects}
    return Site(**fields)


async def load_rules(connection: AsyncConnection, kek: KeyEncryptionKey) -> Site:
    """The part of a site that the rules of a client refer to."""
    site = await load_site(connection, kek, ("cluster", "tier"))
    names = (await connection.execute(select(KINDS["tsig"].c.name))).scalars()
    return replace(site, tsig_keys={name: TsigKey(name, "") for name in names})


async def load_origins(connection: AsyncConnection) -> dict[tuple[str, str], Origin]:
    """Who made each object, by (kind, name)."""
    origins: dict[tuple[str, str], Origin] = {}
    for kind, table in KINDS.items():
        for name, origin in await connection.execute(select(table.c.name, table.c.origin)):
            origins[kind, name] = origin
    return origins


async def load_objects(
    connection: AsyncConnection,
    kek: KeyEncryptionKey,
    kind: str,
    since: int = -1,
    unreadable: list[Problem] | None = None,
) -> AsyncIterator[tuple[str, SiteObject]]:
    """Every object of a kind that changed after generation `since`, with its name, the oldest change first."""
    async for page in load_pages(connection, kek, kind, since, unreadable):
        for pair in page:
            yield pair


async def load_pages(
    connection: AsyncConnection,
    kek: KeyEncryptionKey,
    kind: str,
    since: int = -1,
    unreadable: list[Problem] | None = None,
) -> AsyncIterator[list[tuple[str, SiteObject]]]:
    """As `load_objects`, PAGE objects at a time. A row that cannot be read is added to `unreadable` and left out, but a
    client comes disabled, so that its addresses are refused; without that list StoreError is raised."""
    table = KINDS[kind]
    place = tuple_(table.c.generation, table.c.name)
    last: tuple[int, str] | None = None
    columns = [table.c[name] for name in ("name", "spec", "generation", "secret") if name in table.c]
    while True:
        query = select(*columns).order_by(table.c.generation, table.c.name).limit(PAGE)
        query = query.where(place > tuple_(*last) if last else table.c.generation > since)
        rows = (await connection.execute(query)).all()
        page, end = [], perf_counter() + SLICE
        for row in rows:
            try:
                page.append((row.name, from_row(kind, row, kek)))
            except StoreError:
                if unreadable is None:
                    raise
                page += [pair async for pair in _one(connection, kek, kind, row, unreadable)]
            if perf_counter() > end:
                await asyncio.sleep(0)
                end = perf_counter() + SLICE
        yield page
        if len(rows) < PAGE:
            return
        last = (rows[-1].generation, rows[-1].name)
        await asyncio.sleep(0)


async def _one(
    connection: AsyncConnection, kek: KeyEncryptionKey, kind: str, row: Any, unreadable: list[Problem]
) -> AsyncIterator[tuple[str, SiteObject]]:
    try:
        yield row.name, from_row(kind, row, kek)
    except StoreError as error:
        unreadable.append(Problem(f"{kind}.{row.name}", str(error)[:500]))
        if kind == "client":
            table = KINDS[kind]
            ids = await connection.execute(select(table.c.id).where(table.c.name == row.name))
            yield row.name, Client(row.name, ids.scalar_one(), "", state=ClientState.DISABLED)

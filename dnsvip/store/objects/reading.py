"""Objects read from their tables, page by page, so that a million of them never stop the event loop.

A row that cannot be read costs its own object only. Who reads says what becomes of it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import replace
from time import perf_counter
from typing import Any

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import Problem
from dnsvip.site import Classify, Client, ClientState, Site, TsigKey
from dnsvip.site.plain import SiteObject
from dnsvip.site.plan import Origin
from dnsvip.site.registry import COLLECTIONS, SINGLE
from dnsvip.site.unreadable import Unreadable, client_stand_in, pool_stand_in
from dnsvip.store.database.database import current_generation
from dnsvip.store.database.tables import KINDS, audit
from dnsvip.store.objects.referred import with_referred
from dnsvip.store.objects.rows import read_row
from dnsvip.store.secrets.kek import KeyEncryptionKey

PAGE = 500
"""Rows at a time."""

_CLIENT = KINDS["client"]

SLICE = 0.002
"""Seconds of reading rows after which the event loop runs."""


NOBODY_KNOWN = Classify(order=(), trust_ecs_from=())
"""What is in force instead of settings that cannot be read: nobody is identified, and all get the default tier."""


async def load_site(
    connection: AsyncConnection, kek: KeyEncryptionKey, kinds: Iterable[str], unreadable: list[Unreadable]
) -> Site:
    """A site with objects of some kinds; the other kinds are empty. Rows that cannot be read are left out, and added
    to `unreadable`."""
    fields: dict[str, Any] = {}
    for kind in kinds:
        objects: dict[str, Any] = {}
        async for page in load_pages(connection, kek, kind):
            for name, item in page:
                if isinstance(item, Unreadable):
                    unreadable.append(item)
                else:
                    objects[name] = item
        fields |= {SINGLE: objects.get("", Classify())} if kind == SINGLE else {COLLECTIONS[kind]: objects}
    return Site(**fields)


async def load_rules(connection: AsyncConnection, kek: KeyEncryptionKey) -> Site:
    """The part of a site that the rules of a client refer to."""
    broken: list[Unreadable] = []
    site = await load_site(connection, kek, ("cluster", "tier"), broken)
    site = await with_referred(connection, site, broken)
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
    connection: AsyncConnection, kek: KeyEncryptionKey, kind: str, since: int, problems: list[Problem]
) -> AsyncIterator[tuple[str, SiteObject]]:
    """Every object of a kind that changed after generation `since`, with its name, the oldest change first.

    A row that cannot be read is named in `problems`. It is left out, but a client comes disabled, so that its
    addresses are refused, and settings come as NOBODY_KNOWN.
    """
    async for page in served_pages(connection, kek, kind, since, problems):
        for pair in page:
            yield pair


async def served_pages(
    connection: AsyncConnection, kek: KeyEncryptionKey, kind: str, since: int, problems: list[Problem]
) -> AsyncIterator[list[tuple[str, SiteObject]]]:
    """As `load_objects`, PAGE objects at a time."""
    async for page in load_pages(connection, kek, kind, since):
        served: list[tuple[str, SiteObject]] = []
        for name, item in page:
            if not isinstance(item, Unreadable):
                served.append((name, item))
                continue
            problems.append(item.problem)
            if kind == SINGLE:
                served.append((name, NOBODY_KNOWN))
            elif kind == "client":
                number = (await connection.execute(select(_CLIENT.c.id).where(_CLIENT.c.name == name))).scalar_one()
                served.append((name, Client(name, number, "", state=ClientState.DISABLED)))
        yield served


async def load_pages(
    connection: AsyncConnection, kek: KeyEncryptionKey, kind: str, since: int = -1
) -> AsyncIterator[list[tuple[str, SiteObject | Unreadable]]]:
    """What a kind has stored that changed after generation `since`, PAGE rows at a time, the oldest change first."""
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
            page.append((row.name, read_row(kind, row, kek)))
            if perf_counter() > end:
                await asyncio.sleep(0)
                end = perf_counter() + SLICE
        yield page
        if len(rows) < PAGE:
            return
        last = (rows[-1].generation, rows[-1].name)
        await asyncio.sleep(0)


async def with_stand_in(connection: AsyncConnection, unreadable: Unreadable) -> Unreadable:
    """An object that cannot be read, with what its row and its last audit row still tell of it."""
    kind, name = unreadable.kind, unreadable.name
    if kind not in ("client", "pool"):
        return unreadable
    row = (await connection.execute(select(KINDS[kind]).where(KINDS[kind].c.name == name))).one_or_none()
    if row is None:
        return unreadable
    changes = select(audit.c.after).where(audit.c.name == name, audit.c.kind == kind, audit.c.after.is_not(None))
    audited = (await connection.execute(changes.order_by(audit.c.id.desc()).limit(1))).scalar()
    known = [_plain(text) for text in (row.spec, audited)]
    if kind == "pool":
        return replace(unreadable, stand_in=pool_stand_in(name, known))
    generation = await current_generation(connection)
    return replace(unreadable, stand_in=client_stand_in(name, row.id, row.tier, known, generation))


def _plain(text: str | None) -> Mapping[str, Any]:
    try:
        plain = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return plain if isinstance(plain, dict) else {}

"""Objects read from their tables, page by page, so that a million of them never stop the event loop.

A row that cannot be read costs its own object only. Who reads says what becomes of it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from time import perf_counter
from typing import Any

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import Problem
from dnsvip.site import Classify, Client, ClientState, DnsToken, Match, Service, Site, Step, TsigKey, Zone
from dnsvip.site.identity.claims import is_readable
from dnsvip.site.plain import SiteObject
from dnsvip.site.plan import Origin
from dnsvip.site.registry import COLLECTIONS, SINGLE
from dnsvip.site.unreadable import Unreadable, client_stand_in, pool_stand_in
from dnsvip.store.access.paging import size
from dnsvip.store.database.aside import aside
from dnsvip.store.database.damage import is_text, is_whole, place, readable, shown
from dnsvip.store.database.database import current_generation
from dnsvip.store.database.tables import KINDS, audit, client_match, stored_columns
from dnsvip.store.objects.key_floor import LAST, floor_of
from dnsvip.store.objects.referred import with_referred
from dnsvip.store.objects.rows import columns_of, read_row
from dnsvip.store.secrets.kek import KeyEncryptionKey

PAGE = 500
"""Rows at a time."""

_CLIENT = KINDS["client"]

LARGE_ROW = 8192
"""Characters of a stored object that takes milliseconds to read: a thread does."""

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
    site = await load_site(connection, kek, ("cluster", "tier", "pool"), broken)
    site = await with_referred(connection, site, broken)
    keys = (await connection.execute(select(KINDS["tsig"].c.name))).scalars()
    tokens = (await connection.execute(select(KINDS["dns_token"].c.name))).scalars()
    return replace(
        site,
        tsig_keys={name: TsigKey(name, "") for name in keys},
        dns_tokens={name: DnsToken(name, name) for name in tokens},
    )


async def load_origins(connection: AsyncConnection) -> dict[tuple[str, str], Origin]:
    """Who made each object, by (kind, name)."""
    origins: dict[tuple[str, str], Origin] = {}
    for kind, table in KINDS.items():
        for name, origin in await connection.execute(select(table.c.name, table.c.origin)):
            origins[kind, shown(name)] = origin
    return origins


async def load_objects(
    connection: AsyncConnection, kek: KeyEncryptionKey, kind: str, since: int, problems: list[Problem]
) -> AsyncIterator[tuple[str, SiteObject]]:
    """Every object of a kind that changed after generation `since`, with its name, the oldest change first.

    A row that cannot be read is named in `problems`. It is left out, but a client comes disabled, so that its
    addresses are refused, and SERVED_INSTEAD of others.
    """
    async for page in served_pages(connection, kek, kind, since, problems):
        for pair in page:
            yield pair


async def served_pages(
    connection: AsyncConnection,
    kek: KeyEncryptionKey,
    kind: str,
    since: int,
    problems: list[Problem],
    refused: set[int] | None = None,
) -> AsyncIterator[list[tuple[str, SiteObject]]]:
    """As `load_objects`, PAGE objects at a time. `refused` gains the ids that clients which cannot be read may have
    beside the one that they come with."""
    async for page in load_pages(connection, kek, kind, since):
        served: list[tuple[str, SiteObject]] = []
        for name, item in page:
            if not isinstance(item, Unreadable):
                served.append((name, item))
                continue
            problems.append(item.problem)
            if kind in SERVED_INSTEAD:
                served.append((item.name, SERVED_INSTEAD[kind](item.name)))
            elif kind == "client":
                clients = await _disabled(connection, item.name)
                served += [(item.name, client) for client in clients[:1]]
                if refused is not None:
                    refused.update(client.id for client in clients[1:])
        yield served


SERVED_INSTEAD: Mapping[str, Callable[[str], SiteObject]] = {
    SINGLE: lambda _: NOBODY_KNOWN,
    "zone": lambda name: Zone(name, ""),
    "service": lambda name: Service(name, ""),
}
"""What is served in the place of an object that cannot be read: a zone and a service keep their names, with SERVFAIL,
so that no zone above denies them."""


async def _disabled(connection: AsyncConnection, name: str) -> list[Client]:
    """A client that cannot be read, disabled, once with each id that it may have: that of its column, and the one in
    `spec`. Its matches, those of their own table and those inside, identify nobody else."""
    row = (await connection.execute(select(_CLIENT.c.id, _CLIENT.c.spec).where(_CLIENT.c.name == place(name)))).one()
    plain = _plain(row.spec)
    found = select(client_match.c.step, client_match.c.value).where(client_match.c.client == place(name))
    pairs = [(step, value) for step, value in await connection.execute(found)]
    matches = tuple(dict.fromkeys(filter(None, (_match(*pair) for pair in (*pairs, *_inside(plain.get("match")))))))
    numbers: dict[Any, None] = dict.fromkeys(
        number for number in (row.id, plain.get("id")) if is_whole(number, 1 << 62)
    )
    ends = plain.get("end_flows") is True
    return [Client(name, number, "", matches, state=ClientState.DISABLED, end_flows=ends) for number in numbers]


def _inside(matches: Any) -> Iterator[tuple[Any, Any]]:
    entries = matches if isinstance(matches, list) else []
    return (pair for entry in entries if isinstance(entry, dict) for pair in entry.items())


def _match(step: Any, value: Any) -> Match | None:
    """A match, None where it is none that can be compiled."""
    known = next((one for one in Step if one.value == step), None)
    match = Match(known, value) if known and is_text(value) else None
    return match if match and is_readable(match) else None


async def load_pages(
    connection: AsyncConnection, kek: KeyEncryptionKey, kind: str, since: int = -1
) -> AsyncIterator[list[tuple[str, SiteObject | Unreadable]]]:
    """What a kind has stored that changed after generation `since`, PAGE rows at a time, the oldest change first."""
    table = KINDS[kind]
    order = tuple_(table.c.generation, table.c.name)
    last: tuple[Any, Any] | None = None
    columns = [*columns_of(table), table.c.generation]
    while True:
        query = select(*columns).order_by(table.c.generation, table.c.name).limit(PAGE)
        if last:
            query = query.where(order > tuple_(*map(place, last)))
        elif since >= 0:  # else all, also a row whose generation has become less than any
            query = query.where(table.c.generation > since)
        rows = (await connection.execute(query)).all()
        page, end = [], perf_counter() + SLICE
        for row in rows:
            page.append((row.name, await read_large(kind, row, kek)))
            if perf_counter() > end:
                await asyncio.sleep(0)
                end = perf_counter() + SLICE
        yield page
        if len(rows) < PAGE:
            return
        last = (rows[-1].generation, rows[-1].name)
        await asyncio.sleep(0)


async def read_large(kind: str, row: Any, kek: KeyEncryptionKey) -> SiteObject | Unreadable:
    """`read_row`, whatever the size of the object."""
    return await aside(size(row.spec) > LARGE_ROW, read_row, kind, row, kek)


async def with_stand_in(connection: AsyncConnection, unreadable: Unreadable) -> Unreadable:
    """An object that cannot be read, with what its row and its last audit row still tell of it."""
    kind, name = unreadable.kind, unreadable.name
    if kind not in ("client", "pool"):
        return unreadable
    row = (
        await connection.execute(select(*stored_columns(KINDS[kind])).where(KINDS[kind].c.name == place(name)))
    ).one_or_none()
    if row is None:
        return unreadable
    changes = select(audit.c.after).where(audit.c.name == name, audit.c.kind == kind, audit.c.after.is_not(None))
    audited = (await connection.execute(changes.order_by(audit.c.id.desc()).limit(1))).scalar()
    known = [_plain(text) for text in (row.spec, audited)]
    if kind == "pool":
        return replace(unreadable, stand_in=pool_stand_in(name, known))
    counted = await floor_of(connection) + await current_generation(connection)
    number = row.id if is_whole(row.id) else await _own_id(connection, known)
    if number is None:
        return unreadable
    stand_in = client_stand_in(name, number, shown(row.tier), known, min(counted, LAST))
    return replace(unreadable, stand_in=stand_in)


async def _own_id(connection: AsyncConnection, known: Iterable[Mapping[str, Any]]) -> int | None:
    """The id of a client whose column has none, by what is `known` of it; None where no other tells, or another client
    has that id."""
    number = next((each["id"] for each in known if is_whole(each.get("id"))), None)
    others = select(_CLIENT.c.id).where(_CLIENT.c.id == number)
    return None if number is None or (await connection.execute(others)).first() else number


def _plain(text: str | None) -> Mapping[str, Any]:
    try:
        plain = json.loads(readable(text or "{}"))
    except (ValueError, RecursionError):
        return {}
    return plain if isinstance(plain, dict) else {}

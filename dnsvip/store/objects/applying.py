"""Applies changes inside one write transaction: read, write, check; raises, and the caller rolls back.

The rules are checked after the changes are written (checking.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

from sqlalchemy import bindparam, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import Conflict, InvalidSite, Problem
from dnsvip.site import Classify, Client, Zone
from dnsvip.site.plain import SiteObject
from dnsvip.site.plan import Change, Origin
from dnsvip.site.registry import SINGLE
from dnsvip.site.size import is_large
from dnsvip.site.unreadable import Unreadable
from dnsvip.site.zone_changes import ZoneChange
from dnsvip.store.access.audit import AuditEntry, record
from dnsvip.store.database.aside import aside
from dnsvip.store.database.damage import place, shown
from dnsvip.store.database.database import BATCH, ROWS, in_batches
from dnsvip.store.database.state_index import without_state_index
from dnsvip.store.database.tables import KINDS, client_match, stored_columns
from dnsvip.store.objects.checking import Stored, after_of, broken_rules
from dnsvip.store.objects.deleted import Succession, settle, succession
from dnsvip.store.objects.key_floor import given, needed, raised
from dnsvip.store.objects.reading import read_large, with_stand_in
from dnsvip.store.objects.rows import audit_form, match_rows, to_row
from dnsvip.store.secrets.kek import KeyEncryptionKey
from dnsvip.store.zones.journal import write_journals

ZoneCheck: TypeAlias = Callable[[Zone], Iterable[Problem]]
"""The problems of a zone's text; `dns.zones` knows them, the store does not."""

FollowKeys: TypeAlias = Mapping[
    str, Callable[[AsyncConnection, KeyEncryptionKey, Change, float, int], Awaitable[list[AuditEntry]]]
]
"""Kind -> what makes, keeps or destroys the keys of a changed object, at (unix seconds) and in a generation; its audit
entries."""

MATCHES = 256
"""Rows of matches in one statement: SQLAlchemy takes a millisecond for them."""


@dataclass(frozen=True, slots=True)
class Author:
    """Who changes the site, by which way, when (unix seconds), and the generation that the change makes."""

    actor: str
    origin: Origin
    at: float
    generation: int
    source: str | None = None
    """The address of who asks for it."""


async def apply_changes(
    connection: AsyncConnection,
    kek: KeyEncryptionKey,
    changes: Sequence[Change],
    author: Author,
    follow_keys: FollowKeys,
    check_zone: ZoneCheck | None,
    differences: Mapping[str, ZoneChange],
) -> Sequence[Change]:
    """Write every change and its audit row, and `differences` of zones to their journals; the changes as they are
    stored, clients with the key generations that they get. Raises Conflict or InvalidSite, and the caller rolls back.
    """
    stored = await _read(connection, kek, changes)
    await aside(_are_large(changes), _check_unchanged, changes, stored)
    ids = _succession(changes, stored)
    changes = await _with_key_generations(connection, changes, stored, ids)
    await _write(connection, kek, changes, stored, author)
    await write_journals(connection, changes, differences, author.generation)
    problems = await broken_rules(connection, kek, changes, stored)
    remaining = {change.name for change in changes if change.kind == "client" and change.after is not None}
    problems += await settle(connection, ids, remaining, author.generation)
    problems += [problem for zone in after_of(changes, Zone) for problem in (check_zone(zone) if check_zone else ())]
    if problems:
        raise InvalidSite(problems)
    entries = []
    for change in changes:
        if follow := follow_keys.get(change.kind):
            entries += await follow(connection, kek, change, author.at, author.generation)
    await record(connection, author.actor, author.at, author.generation, entries, author.source)
    return changes


async def _read(connection: AsyncConnection, kek: KeyEncryptionKey, changes: Sequence[Change]) -> Stored:
    stored: Stored = {(SINGLE, ""): (Classify(), "site")}
    for kind, table in KINDS.items():
        names = [change.name for change in changes if change.kind == kind and change.action != "+"]
        for some in in_batches(names, BATCH):
            for row in await connection.execute(
                select(*stored_columns(table)).where(table.c.name.in_([*map(place, some)]))
            ):
                stored[kind, shown(row.name)] = (await read_large(kind, row, kek), row.origin)
    for key, (thing, origin) in stored.items():
        if isinstance(thing, Unreadable):
            stored[key] = await with_stand_in(connection, thing), origin
    return stored


def _check_unchanged(changes: Sequence[Change], stored: Stored) -> None:
    problems, seen = [], set()
    for change in changes:
        key = (change.kind, change.name)
        if key in seen:
            problems.append(Problem(change.where, "is changed twice at once"))
        elif change.action != "+" and key not in stored:
            problems.append(Problem(change.where, "does not exist (any more)"))
        elif change.action != "+" and not _is_as_planned(change, stored[key][0]):
            problems.append(Problem(change.where, "has been changed meanwhile; look at it again"))
        seen.add(key)
    if problems:
        raise Conflict(problems)


def _is_as_planned(change: Change, stored: SiteObject | Unreadable) -> bool:
    """Whether a stored object is what the change was planned for; one without `before` is for whatever there is."""
    if change.unreadable is not None:
        return isinstance(stored, Unreadable) and stored.digest == change.unreadable.digest
    return change.before in (None, stored)


async def _write(
    connection: AsyncConnection, kek: KeyEncryptionKey, changes: Sequence[Change], stored: Stored, author: Author
) -> None:
    for kind, table in KINDS.items():
        # Changed rows are deleted and inserted again, so that two objects can swap a unique number.
        names = [change.name for change in changes if change.kind == kind and change.action != "+"]
        old = [{"old": name} for name in names if place(name) is name]
        damaged = kind == "client" and any(isinstance(stored[kind, name][0], Unreadable) for name in names)
        async with without_state_index(connection, needed=damaged):
            if old:
                await connection.execute(delete(table).where(table.c.name == bindparam("old")), old)
            for name in (name for name in names if place(name) is not name):
                await connection.execute(delete(table).where(table.c.name == place(name)))
    for kind, table in KINDS.items():
        new = [change for change in changes if change.kind == kind and change.after is not None]
        for some in in_batches(new, ROWS):
            rows = await aside(_are_large(some), lambda some=some: [_row(c, kek, stored, author) for c in some])  # type: ignore[misc]
            await connection.execute(insert(table), rows)
        for matches in in_batches((row for item in after_of(new, Client) for row in match_rows(item)), MATCHES):
            await connection.execute(insert(client_match), matches)
    for some in in_batches(changes, ROWS):
        entries = await aside(_are_large(some), lambda some=some: [_entry(c, stored) for c in some])  # type: ignore[misc]
        await record(connection, author.actor, author.at, author.generation, entries, author.source)


def _are_large(changes: Iterable[Change]) -> bool:
    return is_large([(change.before, change.after) for change in changes])


def _row(change: Change, kek: KeyEncryptionKey, stored: Stored, author: Author) -> dict[str, Any]:
    assert change.after is not None  # noqa: S101 - for mypy; the caller passes no removals
    made_by = stored[change.kind, change.name][1] if change.action == "~" else author.origin
    origin = "site" if "site" in (made_by, author.origin) else "api"
    row = to_row(change.kind, change.name, change.after, kek)
    return row | {"origin": origin, "generation": author.generation}


def _entry(change: Change, stored: Stored) -> AuditEntry:
    before = stored[change.kind, change.name][0] if change.action != "+" else None
    return AuditEntry(change.action, change.kind, change.name, audit_form(before), audit_form(change.after))


def _succession(changes: Sequence[Change], stored: Stored) -> Succession:
    """The ids that clients give up and take."""
    clients = [change for change in changes if change.kind == "client"]
    return succession((_given_up(change, stored), cast("Client | None", change.after)) for change in clients)


def _given_up(change: Change, stored: Stored) -> Client | None:
    """A client as it was, None where there was none; its flows end where the change says so."""
    client = _client_before(change, stored)
    return replace(client, end_flows=True) if client and change.end_flows else client


def _client_before(change: Change, stored: Stored) -> Client | None:
    if change.action == "+":
        return None
    thing = stored["client", change.name][0]
    return cast("Client", thing.stand_in if isinstance(thing, Unreadable) else thing)


async def _with_key_generations(
    connection: AsyncConnection, changes: Sequence[Change], stored: Stored, ids: Succession
) -> Sequence[Change]:
    """The changes, with key generations that nobody has had for clients that get an id or a new key; the floor rises
    above those of clients that give up theirs."""
    if not any(change.kind == "client" for change in changes):
        return changes
    floor = await raised(connection, needed(ids.gave.values()))
    problems: list[Problem] = []
    settled = []
    for change in changes:
        if isinstance(change.after, Client):
            try:
                after = given(_client_before(change, stored), change.after, floor)
            except InvalidSite as error:
                problems += error.problems
            else:
                settled.append(change if after is change.after else replace(change, after=after))
        else:
            settled.append(change)
    if problems:
        raise InvalidSite(problems)
    return settled

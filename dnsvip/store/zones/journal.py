"""The journal of zones in the database: how their records changed, for incremental transfers (RFC 1995).

It is written with the change itself, in its transaction, however that came about, and bounded with it. What services
add to a transfer is not in it: a change of theirs clears the journals of their zones, so that the next transfer is a
whole one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.site import ClassCluster, Cluster, Service, Zone
from dnsvip.site.plain import SiteObject
from dnsvip.site.plan import Change
from dnsvip.site.zone_changes import Compare, ZoneChange, ZoneDiffer, kept_of
from dnsvip.store.database.damage import readable, whole
from dnsvip.store.database.database import BATCH, in_batches
from dnsvip.store.database.tables import zone_change

MOST_SERIAL = 1 << 32


def in_thread(compare: Compare) -> ZoneDiffer:
    """A comparison in a thread, for a process that does nothing else."""

    async def differ(before: Zone, after: Zone) -> ZoneChange | None:
        return await asyncio.to_thread(compare, before, after)

    return differ


async def differences(differ: ZoneDiffer | None, changes: Sequence[Change]) -> dict[str, ZoneChange]:
    """How the records of the zones among these changes differ, by name; without those that cannot be told. It takes no
    transaction: comparing large zones takes long."""
    if differ is None:
        return {}
    found: dict[str, ZoneChange] = {}
    for change in changes:
        before, after = change.before, change.after
        if isinstance(before, Zone) and isinstance(after, Zone) and before.text != after.text:
            difference = await differ(before, after)
            if difference is not None:
                found[after.name] = difference
    return found


async def write_journals(
    connection: AsyncConnection, changes: Sequence[Change], found: Mapping[str, ZoneChange], generation: int
) -> None:
    """Append to the journals of the zones that change, inside the caller's transaction; clear those that no longer
    lead to what a secondary has."""
    stale = set(_stale(changes))
    if any(_moves_addresses(change) for change in changes if change.kind == "cluster"):
        await connection.execute(delete(zone_change))
    for some in in_batches(sorted(stale), BATCH):
        await connection.execute(delete(zone_change).where(zone_change.c.zone.in_(some)))
    for change in changes:
        if change.kind != "zone" or not isinstance(change.after, Zone) or change.name in stale:
            continue
        if change.name in found:
            await connection.execute(insert(zone_change).values(_row(change.name, found[change.name], generation)))
            await _prune(connection, change.after)
        elif not isinstance(change.before, Zone) or change.before.text != change.after.text:
            await connection.execute(delete(zone_change).where(zone_change.c.zone == change.name))


async def load_journals(
    connection: AsyncConnection, zones: Iterable[str] | None = None
) -> dict[str, tuple[ZoneChange, ...]]:
    """The journals by zone, or those of some zones, oldest change first. One with a row that cannot be read is left
    out: its secondaries get the whole zone."""
    query = select(zone_change).order_by(zone_change.c.zone, zone_change.c.generation)
    some = None if zones is None else list(in_batches(sorted(zones), BATCH))
    queries = [query] if some is None else [query.where(zone_change.c.zone.in_(names)) for names in some]
    journals: dict[str, tuple[ZoneChange, ...]] = {}
    broken: set[str] = set()
    for one in queries:
        for row in await connection.execute(one):
            try:
                journals[row.zone] = (*journals.get(row.zone, ()), _change_from(row))
            except (ValueError, TypeError):
                broken.add(row.zone)
    return {zone: journal for zone, journal in journals.items() if zone not in broken}


async def _prune(connection: AsyncConnection, zone: Zone) -> None:
    """Delete the oldest changes beyond the bounds."""
    size = func.length(zone_change.c.removed) + func.length(zone_change.c.added)
    query = select(zone_change.c.generation, size.label("size")).where(zone_change.c.zone == zone.name)
    rows = list(await connection.execute(query.order_by(zone_change.c.generation.desc())))
    kept = kept_of([row.size for row in rows], len(zone.text))
    if kept < len(rows):
        oldest = rows[kept].generation
        beyond = zone_change.c.zone == zone.name, zone_change.c.generation <= oldest
        await connection.execute(delete(zone_change).where(*beyond))


def _stale(changes: Iterable[Change]) -> Iterator[str]:
    """The zones whose transfers change otherwise than by their text: those that are made or removed, and those above
    what moves addresses."""
    for change in changes:
        made_or_removed = change.kind == "zone" and change.action != "~"
        if made_or_removed or (change.kind == "service" and _moves_addresses(change)):
            yield from _from(change.name)


def _from(name: str) -> Iterator[str]:
    """A name, and every name above it."""
    labels = [] if name == "." else name.split(".")
    yield from (".".join(labels[number:]) for number in range(len(labels)))
    yield "."


def _moves_addresses(change: Change) -> bool:
    """Whether a change of a service or cluster changes what transfers have at the names of services."""
    return change.before is None or _plain(change.before) != _plain(change.after)


def _plain(thing: SiteObject | None) -> tuple[Any, ...]:
    match thing:
        case Service():
            return thing.cluster, thing.cluster4
        case Cluster() | ClassCluster():
            return type(thing), thing.plain, thing.ttl
    return ()


def _row(zone: str, change: ZoneChange, generation: int) -> dict[str, Any]:
    serials = {"old_serial": change.old_serial, "new_serial": change.new_serial}
    texts = {"before": change.before, "after": change.after}
    return {
        "zone": zone,
        "generation": generation,
        **serials,
        **texts,
        "removed": change.removed,
        "added": change.added,
    }


def _change_from(row: Any) -> ZoneChange:
    """The change in a row; raises ValueError or TypeError where it cannot be read."""
    serials = whole(row.old_serial, MOST_SERIAL), whole(row.new_serial, MOST_SERIAL)
    records = row.removed, row.added
    if not all(type(one) is bytes for one in records):
        raise TypeError("its records are no bytes")
    return ZoneChange(readable(row.before), readable(row.after), *serials, *records)

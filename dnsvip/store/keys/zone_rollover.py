"""The keys of zones as they are rolled, imported and removed, each a transaction with an audit row of the zone.

What may happen and when is decided by `dnsvip.site.zone_keys`. Every function runs inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import InvalidSite, Problem
from dnsvip.site import Zone, ZoneKey
from dnsvip.site.bind_keys import BindKey
from dnsvip.site.zone_keys import WAITS, Step, advanced, confirmed, removed, rolled
from dnsvip.store.access.audit import AuditEntry
from dnsvip.store.database.tables import KINDS, zone_key
from dnsvip.store.keys.zone_keys import keys_of, maker, next_number, store_zone_keys
from dnsvip.store.objects.rows import read_row
from dnsvip.store.secrets.kek import KeyEncryptionKey


async def roll(
    connection: AsyncConnection, kek: KeyEncryptionKey, name: str, now: float, *, sep: bool
) -> list[AuditEntry]:
    """Publish a new key of a signed zone; raises InvalidSite where that cannot be."""
    zone = await _signed_zone(connection, kek, name)
    return await _stepped(connection, kek, name, lambda keys: rolled(keys, int(now), maker(keys, zone, now), sep=sep))


async def confirm(connection: AsyncConnection, kek: KeyEncryptionKey, name: str, now: float) -> list[AuditEntry]:
    """Go on with a rollover, as the parent has the new DS; raises InvalidSite where none waits for that."""
    return await _stepped(connection, kek, name, lambda keys: confirmed(keys, int(now)))


async def remove(connection: AsyncConnection, kek: KeyEncryptionKey, name: str, number: int) -> list[AuditEntry]:
    """Destroy a key that the zone can do without; raises InvalidSite for any other."""
    zone = await _zone(connection, kek, name)
    return await _stepped(connection, kek, name, lambda keys: removed(keys, number, signed=zone.is_signed))


async def take(
    connection: AsyncConnection, kek: KeyEncryptionKey, name: str, key: BindKey, now: float
) -> list[AuditEntry]:
    """Add a key from elsewhere to a zone that is not signed yet, which signing then uses; raises InvalidSite where it
    is signed, or has a key of another algorithm."""
    zone = await _zone(connection, kek, name)
    if zone.is_signed:
        text = "is signed: import keys before dnssec.enabled is true, as caches do not have them yet"
        raise InvalidSite([Problem(f"zone.{name}", text)])

    def added(keys: Sequence[ZoneKey]) -> Step:
        other = next((held for held in keys if held.algorithm is not key.algorithm), None)
        if other is not None:
            raise ValueError(f"key {other.number} has algorithm {other.algorithm}, the imported one {key.algorithm}")
        if any(held.secret == key.secret for held in keys):
            raise ValueError("the zone has that key already")
        new = ZoneKey(next_number(keys), key.algorithm, key.secret, int(now), sep=key.sep, since=int(now))
        return Step((*keys, new))

    return await _stepped(connection, kek, name, added)


async def advance(connection: AsyncConnection, kek: KeyEncryptionKey, now: float) -> tuple[list[str], list[AuditEntry]]:
    """Take every step that is due in every zone whose keys can be read; a message for each, and the audit entries."""
    events: list[str] = []
    entries: list[AuditEntry] = []
    for name, zone, keys, step in await _due(connection, kek, now):
        await store_zone_keys(connection, kek, name, keys, step.keys)
        events += [f"zone {name}: {event}" for event in step.events]
        entries.append(AuditEntry("~", "zone", zone.name))
    return events, entries


async def is_due(connection: AsyncConnection, kek: KeyEncryptionKey, now: float) -> bool:
    """Whether `advance` would take a step; writes nothing."""
    return bool(await _due(connection, kek, now))


async def _due(
    connection: AsyncConnection, kek: KeyEncryptionKey, now: float
) -> list[tuple[str, Zone, tuple[ZoneKey, ...], Step]]:
    """The zones with a step that is due. One that cannot be read costs itself alone."""
    moving = zone_key.c.state.in_([state.value for state in WAITS])
    query = select(zone_key.c.zone).where(or_(moving, zone_key.c.sep.is_(False))).distinct()
    due = []
    for name in sorted((await connection.execute(query)).scalars()):
        try:
            zone, keys = await _zone(connection, kek, name), await keys_of(connection, kek, name)
        except InvalidSite:
            continue  # the snapshot names what cannot be read
        if zone.dnssec is None or not zone.is_signed:
            continue
        step = advanced(zone.dnssec, keys, int(now), maker(keys, zone, now))
        if step.events:
            due.append((name, zone, keys, step))
    return due


async def _stepped(
    connection: AsyncConnection, kek: KeyEncryptionKey, name: str, decide: Callable[[tuple[ZoneKey, ...]], Step]
) -> list[AuditEntry]:
    keys = await keys_of(connection, kek, name)
    try:
        step = decide(keys)
    except ValueError as error:
        raise InvalidSite([Problem(f"zone.{name}.keys", str(error))]) from None
    await store_zone_keys(connection, kek, name, keys, step.keys)
    return [AuditEntry("~", "zone", name)]


async def _zone(connection: AsyncConnection, kek: KeyEncryptionKey, name: str) -> Zone:
    table = KINDS["zone"]
    row = (await connection.execute(select(table).where(table.c.name == name))).one_or_none()
    zone = None if row is None else read_row("zone", row, kek)
    if not isinstance(zone, Zone):
        raise InvalidSite([Problem(f"zone.{name}", "there is no such zone" if row is None else "cannot be read")])
    return zone


async def _signed_zone(connection: AsyncConnection, kek: KeyEncryptionKey, name: str) -> Zone:
    zone = await _zone(connection, kek, name)
    if not zone.is_signed:
        raise InvalidSite([Problem(f"zone.{name}.dnssec.enabled", "must be true: the zone is not signed")])
    return zone

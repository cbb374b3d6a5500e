"""Key slots that stay empty, as addresses of a key that is gone may live.

A row that cannot be read keeps empty whatever it may mean: each slot, in each cluster, for ever. The next rotation
settles it (`settle`): from then on for as long as an address of a lost key may live.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.address.layout import EPOCH_SLOTS
from dnsvip.errors import Problem
from dnsvip.site import Cluster, epochs
from dnsvip.site.epochs import Reserved
from dnsvip.store.access.audit import AuditEntry
from dnsvip.store.database.damage import LATEST, is_text, is_whole, shown
from dnsvip.store.database.tables import cluster as cluster_table
from dnsvip.store.database.tables import key_slot

SLOT_KIND = "key slot"
"""The kind of reserved slots in audit rows; their name is CLUSTER/SLOT."""

FOR_EVER = LATEST - 1
"""Until when a slot is kept whose row does not say."""

UNKNOWN_KEY = ""
"""In place of the id of a key that cannot be read."""


async def reserve(connection: AsyncConnection, lost: Sequence[Reserved], now: float) -> list[Reserved]:
    """Keep slots empty until addresses of their lost keys have expired; the newly reserved ones."""
    await connection.execute(delete(key_slot).where(key_slot.c.until.between(0, now)))
    known = {_key(slot) for slot in await load_reserved(connection)}
    new = [slot for slot in lost if _key(slot) not in known and now < slot.until]
    for slot in new:  # in the place of a row that cannot be read
        same = key_slot.c.cluster == slot.cluster, key_slot.c.slot == slot.slot, key_slot.c.key_id == slot.key_id
        await connection.execute(delete(key_slot).where(*same))
    if new:
        await connection.execute(insert(key_slot), [asdict(slot) for slot in new])
    return new


async def load_reserved(connection: AsyncConnection, cluster: str | None = None) -> list[Reserved]:
    """The reserved slots, of all clusters or of one."""
    rows = await _rows(connection)
    clusters = await _names(connection) if any(not is_text(row.cluster) for row in rows) else ()
    reserved = [slot for row in rows for slot in _meant(row, clusters)]
    return [slot for slot in reserved if cluster is None or slot.cluster == cluster]


async def broken_slots(connection: AsyncConnection) -> list[Problem]:
    """The rows that cannot be read, named."""
    return [_problem(row) for row in await _rows(connection) if not _is_sound(row)]


async def settle(connection: AsyncConnection, clusters: Mapping[str, Cluster], now: float) -> list[AuditEntry]:
    """Have rows that cannot be read keep their slots for as long as an address may live; the audit entries."""
    rows = await _rows(connection)
    broken = [row for row in rows if not _is_sound(row)]
    if not broken:
        return []
    kept = {_key(slot): slot for row in rows if _is_sound(row) for slot in _meant(row, ())}
    for slot in (slot for row in broken for slot in _meant(row, clusters)):
        if slot.until == FOR_EVER and (known := clusters.get(slot.cluster)):
            slot = replace(slot, until=math.ceil(now) + epochs.keep_seconds(known))  # noqa: PLW2901
        if now < slot.until:
            kept[_key(slot)] = max(slot, kept.get(_key(slot), slot), key=lambda each: each.until)
    await connection.execute(delete(key_slot))
    if kept:
        await connection.execute(insert(key_slot), [asdict(slot) for slot in kept.values()])
    names = dict.fromkeys(f"{shown(row.cluster)}/{shown(row.slot)}" for row in broken)
    return [AuditEntry("~", SLOT_KIND, name) for name in names]


def _meant(row: Any, clusters: Iterable[str]) -> Iterator[Reserved]:
    """The slots that a row may stand for; of `clusters` where that of the row cannot be read."""
    names = [row.cluster] if is_text(row.cluster) else list(clusters)
    slots: Collection[int] = [row.slot] if is_whole(row.slot, EPOCH_SLOTS) else range(EPOCH_SLOTS)
    until = row.until if is_whole(row.until, LATEST) else FOR_EVER
    key_id = row.key_id if is_text(row.key_id) else UNKNOWN_KEY
    return (Reserved(name, slot, key_id, until) for name in names for slot in slots)


def _is_sound(row: Any) -> bool:
    named = is_text(row.cluster) and is_text(row.key_id)
    return named and is_whole(row.slot, EPOCH_SLOTS) and is_whole(row.until, LATEST)


def _problem(row: Any) -> Problem:
    cluster, slot = shown(row.cluster), shown(row.slot)
    text = (
        f"what is stored of this reserved slot cannot be read; it stays empty, `dnsvip keys rotate {cluster}` mends it"
    )
    return Problem(f"key.{cluster}/reserved {slot}", text, about=("key", cluster))


def _key(slot: Reserved) -> tuple[str, int, str]:
    return slot.cluster, slot.slot, slot.key_id


async def _rows(connection: AsyncConnection) -> Sequence[Any]:
    query = select(key_slot).order_by(key_slot.c.cluster, key_slot.c.slot)
    return (await connection.execute(query)).all()


async def _names(connection: AsyncConnection) -> list[str]:
    return [name for name in (await connection.execute(select(cluster_table.c.name))).scalars() if is_text(name)]

"""The life cycle of key epochs and client masters: created with a cluster, advanced by `dnsvip.site.epochs`, destroyed.

Every function runs inside the caller's write transaction, so that of several nodes that advance at once each sees what
the previous one did.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.address.keyring import Epoch
from dnsvip.address.proof import MASTER_BYTES
from dnsvip.address.suffix import SECRET_BYTES
from dnsvip.errors import InvalidSite, Problem
from dnsvip.site import Cluster, epochs
from dnsvip.site.epochs import NodeReport, Reserved
from dnsvip.site.plan import Change
from dnsvip.store.access.audit import AuditEntry
from dnsvip.store.database.tables import client_master, key_slot
from dnsvip.store.keys.epochs import load_epochs, store_epochs
from dnsvip.store.objects.reading import load_site
from dnsvip.store.secrets.kek import KeyEncryptionKey, master_context


async def follow_cluster(
    connection: AsyncConnection, kek: KeyEncryptionKey, change: Change, now: float, generation: int
) -> list[AuditEntry]:
    """Create, keep or destroy the keys of a cluster as its change requires; the audit entries."""
    name, cluster = change.name, change.after
    held = (await load_epochs(connection, kek, name)).get(name, ())
    if not isinstance(cluster, Cluster):
        await connection.execute(delete(client_master).where(client_master.c.cluster == name))
        return await store_epochs(connection, kek, name, held, ())
    if not held:
        master = kek.wrap(secrets.token_bytes(MASTER_BYTES), master_context(name))
        await connection.execute(insert(client_master).values(cluster=name, secret=master))
        first = epochs.first(cluster, secrets.token_bytes(SECRET_BYTES), now, generation)
        return await store_epochs(connection, kek, name, held, (first,))
    return await store_epochs(connection, kek, name, held, epochs.with_keep(cluster, held))


async def rotate(
    connection: AsyncConnection, kek: KeyEncryptionKey, name: str, now: float, generation: int
) -> tuple[Epoch, list[AuditEntry]]:
    """Publish a new epoch of a cluster; raises InvalidSite for an unknown cluster, Conflict where no slot is free."""
    _, held = await _held(connection, kek, name)
    reserved = await load_reserved(connection, name)
    published = epochs.publish(name, held, secrets.token_bytes(SECRET_BYTES), now, generation, reserved)
    return published, await store_epochs(connection, kek, name, held, (*held, published))


async def replace_at_once(
    connection: AsyncConnection, kek: KeyEncryptionKey, name: str, now: float, generation: int
) -> tuple[Epoch, list[AuditEntry]]:
    """Destroy every epoch of a cluster and create a new active one; raises InvalidSite for an unknown cluster."""
    cluster, held = await _held(connection, kek, name)
    reserved = await load_reserved(connection, name)
    secret = secrets.token_bytes(SECRET_BYTES)
    replacement, lost = epochs.replace_at_once(cluster, held, secret, now, generation, reserved)
    await reserve(connection, lost, now)
    return replacement, await store_epochs(connection, kek, name, held, (replacement,))


async def advance(
    connection: AsyncConnection,
    kek: KeyEncryptionKey,
    nodes: Sequence[NodeReport],
    now: float,
    watched_since: float,
    generation: int,
    *,
    scheduled: bool = True,
) -> tuple[list[str], list[AuditEntry]]:
    """Take every step that is due in every cluster, `scheduled` rotations included; a message for each step, and the
    audit entries."""
    events: list[str] = []
    entries: list[AuditEntry] = []
    by_cluster, reserved = await load_epochs(connection, kek), await load_reserved(connection)
    for name, cluster in (await _clusters(connection, kek)).items():
        held = by_cluster.get(name, ())
        progress = epochs.advance(cluster, held, nodes, now, watched_since)
        events += progress.events
        after, blocked = progress.epochs, [slot for slot in reserved if slot.cluster == name]
        if scheduled and epochs.is_rotation_due(cluster, after, now, blocked):
            published = epochs.publish(name, after, secrets.token_bytes(SECRET_BYTES), now, generation, blocked)
            events.append(f"{name}/{published.slot} published by schedule")
            after = (*after, published)
        entries += await store_epochs(connection, kek, name, held, after)
    return events, entries


async def is_due(
    connection: AsyncConnection, kek: KeyEncryptionKey, nodes: Sequence[NodeReport], now: float, watched_since: float
) -> bool:
    """Whether `advance` would take a step; writes nothing."""
    by_cluster, reserved = await load_epochs(connection, kek), await load_reserved(connection)
    for name, cluster in (await _clusters(connection, kek)).items():
        held, blocked = by_cluster.get(name, ()), [slot for slot in reserved if slot.cluster == name]
        if epochs.advance(cluster, held, nodes, now, watched_since).events:
            return True
        if epochs.is_rotation_due(cluster, held, now, blocked):
            return True
    return False


async def reserve(connection: AsyncConnection, lost: Sequence[Reserved], now: float) -> list[Reserved]:
    """Keep slots empty until addresses of their lost keys have expired; the newly reserved ones."""
    await connection.execute(delete(key_slot).where(key_slot.c.until <= now))
    known = {(slot.cluster, slot.slot, slot.key_id) for slot in await load_reserved(connection)}
    new = [slot for slot in lost if (slot.cluster, slot.slot, slot.key_id) not in known and now < slot.until]
    if new:
        await connection.execute(insert(key_slot), [asdict(slot) for slot in new])
    return new


async def load_reserved(connection: AsyncConnection, cluster: str | None = None) -> list[Reserved]:
    """The reserved slots, of all clusters or of one."""
    query = select(key_slot).order_by(key_slot.c.cluster, key_slot.c.slot)
    if cluster is not None:
        query = query.where(key_slot.c.cluster == cluster)
    return [Reserved(**row) for row in (await connection.execute(query)).mappings()]


async def _held(connection: AsyncConnection, kek: KeyEncryptionKey, name: str) -> tuple[Cluster, tuple[Epoch, ...]]:
    clusters = await _clusters(connection, kek)
    if name not in clusters:
        known = ", ".join(sorted(clusters)) or "none"
        raise InvalidSite([Problem(f"key.{name}", f"{name!r} is not an IPv6 cluster of this site (there is: {known})")])
    return clusters[name], (await load_epochs(connection, kek, name)).get(name, ())


async def _clusters(connection: AsyncConnection, kek: KeyEncryptionKey) -> dict[str, Cluster]:
    site = await load_site(connection, kek, ["cluster"], [])
    return {name: cluster for name, cluster in site.clusters.items() if isinstance(cluster, Cluster)}

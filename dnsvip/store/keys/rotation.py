"""The life cycle of key epochs and client masters: created with a cluster, advanced by `dnsvip.site.epochs`, destroyed.

Every function runs inside the caller's write transaction, so that of several nodes that advance at once each sees what
the previous one did.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.address.keyring import Epoch
from dnsvip.address.layout import EPOCH_SLOTS
from dnsvip.address.suffix import SECRET_BYTES
from dnsvip.errors import InvalidSite, Problem
from dnsvip.site import Cluster, epochs
from dnsvip.site.epochs import NodeReport, Reserved
from dnsvip.site.plan import Change
from dnsvip.store.access.audit import AuditEntry
from dnsvip.store.database.damage import is_whole
from dnsvip.store.database.tables import client_master
from dnsvip.store.keys.epochs import BrokenKey, load_epochs, load_masters, make_master, remove_broken, store_epochs
from dnsvip.store.keys.slots import UNKNOWN_KEY, load_reserved, reserve, settle
from dnsvip.store.objects.reading import load_site
from dnsvip.store.secrets.kek import KeyEncryptionKey


async def follow_cluster(
    connection: AsyncConnection, kek: KeyEncryptionKey, change: Change, now: float, generation: int
) -> list[AuditEntry]:
    """Create, keep or destroy the keys of a cluster as its change requires; the audit entries."""
    name, cluster = change.name, change.after
    broken: list[BrokenKey] = []
    held = (await load_epochs(connection, kek, name, broken)).get(name, ())
    if not isinstance(cluster, Cluster):
        await connection.execute(delete(client_master).where(client_master.c.cluster == name))
        removed = await remove_broken(connection, broken)
        return [*removed, *await store_epochs(connection, kek, name, held, ())]
    if not held and not broken:
        await make_master(connection, kek, name)
        first = epochs.first(cluster, secrets.token_bytes(SECRET_BYTES), now, generation)
        return await store_epochs(connection, kek, name, held, (first,))
    return await store_epochs(connection, kek, name, held, epochs.with_keep(cluster, held))


async def rotate(
    connection: AsyncConnection, kek: KeyEncryptionKey, name: str, now: float, generation: int
) -> tuple[Epoch, list[AuditEntry]]:
    """Publish a new epoch of a cluster; raises InvalidSite for an unknown cluster, Conflict where no slot is free."""
    broken: list[BrokenKey] = []
    _, held = await _held(connection, kek, name, broken)
    if broken:
        raise InvalidSite([key.problem for key in broken])
    settled = await settle(connection, await _clusters(connection, kek), now)
    reserved = await load_reserved(connection, name)
    published = epochs.publish(name, held, secrets.token_bytes(SECRET_BYTES), now, generation, reserved)
    return published, [*settled, *await store_epochs(connection, kek, name, held, (*held, published))]


async def replace_at_once(
    connection: AsyncConnection, kek: KeyEncryptionKey, name: str, now: float, generation: int
) -> tuple[Epoch, list[AuditEntry]]:
    """Destroy every epoch of a cluster and create a new active one; raises InvalidSite for an unknown cluster.

    Keys that cannot be read are destroyed too; where that is the master of its clients' keys, they need new enrolments.
    """
    broken: list[BrokenKey] = []
    cluster, held = await _held(connection, kek, name, broken)
    await load_masters(connection, kek, broken, name)
    settled = await settle(connection, await _clusters(connection, kek), now)
    unknown = [_reservation(key, slot, cluster, now) for key in broken if is_whole(slot := key.slot, EPOCH_SLOTS)]
    await reserve(connection, unknown, now)
    reserved = await load_reserved(connection, name)
    secret = secrets.token_bytes(SECRET_BYTES)
    replacement, lost = epochs.replace_at_once(cluster, held, secret, now, generation, reserved)
    await reserve(connection, lost, now)
    removed = await remove_broken(connection, broken)
    if any(key.slot is None for key in broken):
        await make_master(connection, kek, name)
    return replacement, [*settled, *removed, *await store_epochs(connection, kek, name, held, (replacement,))]


def _reservation(key: BrokenKey, slot: int, cluster: Cluster, now: float) -> Reserved:
    """That of an epoch which cannot be read: as for an active one, of as long a life as it may have had."""
    return Reserved(
        key.cluster, slot, UNKNOWN_KEY, math.ceil(now) + max(key.keep_seconds, epochs.keep_seconds(cluster))
    )


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
    """Take every step that is due in every cluster all of whose keys can be read, `scheduled` rotations included; a
    message for each step, and the audit entries."""
    events: list[str] = []
    broken: list[BrokenKey] = []
    by_cluster, clusters = await load_epochs(connection, kek, None, broken), await _clusters(connection, kek)
    entries = await settle(connection, clusters, now)
    reserved, without = await load_reserved(connection), {key.cluster for key in broken}
    for name, cluster in clusters.items():
        if name in without:
            continue
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
    broken: list[BrokenKey] = []
    by_cluster, reserved = await load_epochs(connection, kek, None, broken), await load_reserved(connection)
    without = {key.cluster for key in broken}
    for name, cluster in (await _clusters(connection, kek)).items():
        if name in without:
            continue
        held, blocked = by_cluster.get(name, ()), [slot for slot in reserved if slot.cluster == name]
        if epochs.advance(cluster, held, nodes, now, watched_since).events:
            return True
        if epochs.is_rotation_due(cluster, held, now, blocked):
            return True
    return False


async def _held(
    connection: AsyncConnection, kek: KeyEncryptionKey, name: str, broken: list[BrokenKey]
) -> tuple[Cluster, tuple[Epoch, ...]]:
    clusters = await _clusters(connection, kek)
    if name not in clusters:
        known = ", ".join(sorted(clusters)) or "none"
        raise InvalidSite([Problem(f"key.{name}", f"{name!r} is not an IPv6 cluster of this site (there is: {known})")])
    return clusters[name], (await load_epochs(connection, kek, name, broken)).get(name, ())


async def _clusters(connection: AsyncConnection, kek: KeyEncryptionKey) -> dict[str, Cluster]:
    """The IPv6 clusters."""
    site = await load_site(connection, kek, ["cluster"], [])
    return {name: cluster for name, cluster in site.clusters.items() if isinstance(cluster, Cluster)}

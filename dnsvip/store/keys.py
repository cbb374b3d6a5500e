"""Key epochs and client masters in the database: made with their cluster, moved by `dnsvip.site.epochs`, destroyed.

Every function runs inside the caller's write transaction, so that of several nodes that advance at
once each sees what the one before it did.
"""

from __future__ import annotations

import json
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
from dnsvip.site.epochs import Reserved
from dnsvip.site.plan import Change
from dnsvip.store.access.audit import AuditEntry
from dnsvip.store.database.tables import client_master, epoch, key_slot
from dnsvip.store.loading import KEY_KIND, load_epochs, load_site
from dnsvip.store.objects.rows import epoch_dump, epoch_row, master_context
from dnsvip.store.secrets.kek import KeyEncryptionKey


async def follow_cluster(
    connection: AsyncConnection, kek: KeyEncryptionKey, change: Change, now: float, generation: int
) -> list[AuditEntry]:
    """Make, keep or destroy the keys of a cluster as its change asks; what was done."""
    name, cluster = change.name, change.after
    held = (await load_epochs(connection, kek, name)).get(name, ())
    if not isinstance(cluster, Cluster):
        await connection.execute(delete(client_master).where(client_master.c.cluster == name))
        return await _store(connection, kek, name, held, ())
    if not held:
        master = kek.wrap(secrets.token_bytes(MASTER_BYTES), master_context(name))
        await connection.execute(insert(client_master).values(cluster=name, secret=master))
        made = epochs.first(cluster, secrets.token_bytes(SECRET_BYTES), now, generation)
        return await _store(connection, kek, name, held, (made,))
    return await _store(connection, kek, name, held, epochs.with_keep(cluster, held))


async def rotate(
    connection: AsyncConnection, kek: KeyEncryptionKey, name: str, now: float, generation: int
) -> tuple[Epoch, list[AuditEntry]]:
    """Publish a new epoch of a cluster; raises InvalidSite for no such cluster, Conflict for no free slot."""
    _, held = await _held(connection, kek, name)
    reserved = await load_reserved(connection, name)
    made = epochs.publish(name, held, secrets.token_bytes(SECRET_BYTES), now, generation, reserved)
    return made, await _store(connection, kek, name, held, (*held, made))


async def replace_at_once(
    connection: AsyncConnection, kek: KeyEncryptionKey, name: str, now: float, generation: int
) -> tuple[Epoch, list[AuditEntry]]:
    """Destroy every epoch of a cluster and make a new one that is active at once; raises InvalidSite for no such."""
    cluster, held = await _held(connection, kek, name)
    reserved = await load_reserved(connection, name)
    secret = secrets.token_bytes(SECRET_BYTES)
    made, lost = epochs.replace_at_once(cluster, held, secret, now, generation, reserved)
    await reserve(connection, lost, now)
    return made, await _store(connection, kek, name, held, (made,))


async def advance(
    connection: AsyncConnection,
    kek: KeyEncryptionKey,
    nodes: Sequence[epochs.NodeReport],
    now: float,
    watched_since: float,
    generation: int,
    *,
    scheduled: bool = True,
) -> tuple[list[str], list[AuditEntry]]:
    """Take every step that is due in every cluster, `scheduled` rotations among them; what happened in words and as
    audit entries."""
    events: list[str] = []
    entries: list[AuditEntry] = []
    by_cluster, reserved = await load_epochs(connection, kek), await load_reserved(connection)
    for name, cluster in (await _clusters(connection, kek)).items():
        held = by_cluster.get(name, ())
        progress = epochs.advance(cluster, held, nodes, now, watched_since)
        events += progress.events
        after, kept = progress.epochs, [each for each in reserved if each.cluster == name]
        if scheduled and epochs.is_rotation_due(cluster, after, now, kept):
            made = epochs.publish(name, after, secrets.token_bytes(SECRET_BYTES), now, generation, kept)
            events.append(f"{name}/{made.slot} published by schedule")
            after = (*after, made)
        entries += await _store(connection, kek, name, held, after)
    return events, entries


async def is_due(
    connection: AsyncConnection,
    kek: KeyEncryptionKey,
    nodes: Sequence[epochs.NodeReport],
    now: float,
    watched_since: float,
) -> bool:
    """Whether `advance` would do anything, without writing."""
    by_cluster, reserved = await load_epochs(connection, kek), await load_reserved(connection)
    for name, cluster in (await _clusters(connection, kek)).items():
        held, kept = by_cluster.get(name, ()), [each for each in reserved if each.cluster == name]
        if epochs.advance(cluster, held, nodes, now, watched_since).events:
            return True
        if epochs.is_rotation_due(cluster, held, now, kept):
            return True
    return False


async def reserve(connection: AsyncConnection, lost: Sequence[Reserved], now: float) -> list[Reserved]:
    """Keep slots empty while addresses of keys that are gone live; those that were not kept so already."""
    await connection.execute(delete(key_slot).where(key_slot.c.until <= now))
    known = {(each.cluster, each.slot, each.key_id) for each in await load_reserved(connection)}
    new = [each for each in lost if (each.cluster, each.slot, each.key_id) not in known and now < each.until]
    if new:
        await connection.execute(insert(key_slot), [asdict(each) for each in new])
    return new


async def load_reserved(connection: AsyncConnection, cluster: str | None = None) -> list[Reserved]:
    """The slots that are kept empty, of one cluster where it is named."""
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
    site = await load_site(connection, kek, ["cluster"])
    return {name: cluster for name, cluster in site.clusters.items() if isinstance(cluster, Cluster)}


async def _store(
    connection: AsyncConnection, kek: KeyEncryptionKey, name: str, before: Sequence[Epoch], after: Sequence[Epoch]
) -> list[AuditEntry]:
    old, new = {e.slot: e for e in before}, {e.slot: e for e in after}
    entries = []
    for slot in sorted(old.keys() | new.keys()):
        if old.get(slot) == new.get(slot):
            continue
        await connection.execute(delete(epoch).where(epoch.c.cluster == name, epoch.c.slot == slot))
        if slot in new:
            await connection.execute(insert(epoch).values(epoch_row(name, new[slot], kek)))
        action = "~" if slot in old and slot in new else "+" if slot in new else "-"
        entries.append(AuditEntry(action, KEY_KIND, f"{name}/{slot}", _shown(old.get(slot)), _shown(new.get(slot))))
    return entries


def _shown(one: Epoch | None) -> str | None:
    return None if one is None else json.dumps(epoch_dump(one))

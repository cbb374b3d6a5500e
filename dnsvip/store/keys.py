"""Key epochs and client masters in the database: made with their cluster, moved by `dnsvip.epochs`, destroyed.

Every function runs inside the caller's write transaction, so that of several nodes that advance at
once each sees what the one before it did.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip import epochs
from dnsvip.codec.keyring import Epoch, EpochState
from dnsvip.codec.proof import MASTER_BYTES
from dnsvip.codec.suffix import SECRET_BYTES
from dnsvip.errors import InvalidSite, Problem
from dnsvip.model import Cluster
from dnsvip.plan import Change
from dnsvip.store.audit import AuditEntry
from dnsvip.store.loading import KEY_KIND, load_epochs, load_site
from dnsvip.store.rows import epoch_dump, epoch_row, master_context
from dnsvip.store.secrets import KeyEncryptionKey
from dnsvip.store.tables import client_master, epoch


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
    clusters = await _clusters(connection, kek)
    if name not in clusters:
        known = ", ".join(sorted(clusters)) or "none"
        raise InvalidSite([Problem(f"key.{name}", f"{name!r} is not an IPv6 cluster of this site (there is: {known})")])
    held = (await load_epochs(connection, kek, name)).get(name, ())
    made = epochs.publish(name, held, secrets.token_bytes(SECRET_BYTES), now, generation)
    return made, await _store(connection, kek, name, held, (*held, made))


async def advance(
    connection: AsyncConnection,
    kek: KeyEncryptionKey,
    nodes: Sequence[epochs.NodeReport],
    now: float,
    watched_since: float,
) -> tuple[list[str], list[AuditEntry]]:
    """Take every step that is due in every cluster; what happened in words and as audit entries."""
    events: list[str] = []
    entries: list[AuditEntry] = []
    by_cluster = await load_epochs(connection, kek)
    for name, cluster in (await _clusters(connection, kek)).items():
        held = by_cluster.get(name, ())
        progress = epochs.advance(cluster, held, nodes, now, watched_since)
        events += progress.events
        entries += await _store(connection, kek, name, held, progress.epochs)
    return events, entries


async def is_due(
    connection: AsyncConnection,
    kek: KeyEncryptionKey,
    nodes: Sequence[epochs.NodeReport],
    now: float,
    watched_since: float,
) -> bool:
    """Whether `advance` would do anything, without writing."""
    moving = await connection.execute(select(epoch.c.cluster).where(epoch.c.state != EpochState.ACTIVE.value).limit(1))
    if moving.first() is None:
        return False
    by_cluster = await load_epochs(connection, kek)
    clusters = (await _clusters(connection, kek)).items()
    steps = (epochs.advance(one, by_cluster.get(name, ()), nodes, now, watched_since) for name, one in clusters)
    return any(step.events for step in steps)


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

"""Key epochs in the database: their rows, read and written, with the audit entries of each write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.address.keyring import Epoch, EpochState
from dnsvip.site.plain import JsonObject
from dnsvip.store.access.audit import AuditEntry
from dnsvip.store.database.tables import epoch as epoch_table
from dnsvip.store.objects.deleted import forget
from dnsvip.store.secrets.kek import KeyEncryptionKey, epoch_context

KEY_KIND = "key"
"""The kind of epochs in audit rows; their name is CLUSTER/SLOT."""


async def load_epochs(
    connection: AsyncConnection, kek: KeyEncryptionKey, cluster: str | None = None
) -> dict[str, tuple[Epoch, ...]]:
    """The epochs by cluster, or those of one cluster."""
    query = select(epoch_table).order_by(epoch_table.c.cluster, epoch_table.c.slot)
    if cluster is not None:
        query = query.where(epoch_table.c.cluster == cluster)
    epochs: dict[str, tuple[Epoch, ...]] = {}
    for row in await connection.execute(query):
        epochs[row.cluster] = (*epochs.get(row.cluster, ()), epoch_from(row, kek))
    return epochs


async def store_epochs(
    connection: AsyncConnection, kek: KeyEncryptionKey, cluster: str, before: Sequence[Epoch], after: Sequence[Epoch]
) -> list[AuditEntry]:
    """Write the epochs of a cluster that differ from `before`; their audit entries."""
    old, new = {epoch.slot: epoch for epoch in before}, {epoch.slot: epoch for epoch in after}
    entries = []
    for slot in sorted(old.keys() | new.keys()):
        if old.get(slot) == new.get(slot):
            continue
        place = epoch_table.c.cluster == cluster, epoch_table.c.slot == slot
        await connection.execute(delete(epoch_table).where(*place))
        if slot in new:
            await connection.execute(insert(epoch_table).values(epoch_row(cluster, new[slot], kek)))
        action = "~" if slot in old and slot in new else "+" if slot in new else "-"
        forms = _audit_form(old.get(slot)), _audit_form(new.get(slot))
        entries.append(AuditEntry(action, KEY_KIND, f"{cluster}/{slot}", *forms))
    if {epoch.key_id for epoch in before} - {epoch.key_id for epoch in after}:
        await forget(connection)
    return entries


def epoch_row(cluster: str, epoch: Epoch, kek: KeyEncryptionKey) -> dict[str, Any]:
    """The row of an epoch, its secret wrapped."""
    secret = kek.wrap(epoch.secret, epoch_context(cluster, epoch.slot))
    return {"cluster": cluster, "secret": secret, **_without_secret(epoch)}


def epoch_from(row: Any, kek: KeyEncryptionKey) -> Epoch:
    """The epoch in a row (anything with the columns as attributes)."""
    return Epoch(
        row.slot,
        EpochState(row.state),
        kek.unwrap(row.secret, epoch_context(row.cluster, row.slot)),
        row.published_at,
        row.published_generation,
        row.activated_at,
        row.retiring_since,
        row.keep_seconds,
    )


def _audit_form(epoch: Epoch | None) -> str | None:
    return None if epoch is None else json.dumps(_without_secret(epoch))


def _without_secret(epoch: Epoch) -> JsonObject:
    names = ("slot", "published_at", "published_generation", "activated_at", "retiring_since", "keep_seconds")
    return {"state": epoch.state.value, **{name: getattr(epoch, name) for name in names}}

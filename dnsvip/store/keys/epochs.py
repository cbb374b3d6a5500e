"""Key epochs in the database: their rows, read and written, with the audit entries of each write."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.address.keyring import Epoch, EpochState
from dnsvip.address.layout import EPOCH_SLOTS
from dnsvip.address.proof import MASTER_BYTES
from dnsvip.errors import Problem, SecretError
from dnsvip.site.plain import JsonObject
from dnsvip.store.access.audit import AuditEntry
from dnsvip.store.database.damage import LATEST, place, readable, shown, whole
from dnsvip.store.database.database import current_generation
from dnsvip.store.database.tables import client_master
from dnsvip.store.database.tables import epoch as epoch_table
from dnsvip.store.objects.deleted import forget
from dnsvip.store.secrets.kek import KeyEncryptionKey, epoch_context, master_context

KEY_KIND = "key"
"""The kind of epochs in audit rows; their name is CLUSTER/SLOT."""


@dataclass(frozen=True, slots=True)
class BrokenKey:
    """A stored key of a cluster that cannot be read, and why; `slot` is None for the master of its clients' keys."""

    cluster: str
    slot: Any  # of a damaged row it may be no number
    error: Exception
    keep_seconds: int = 0
    """For how long addresses of an epoch are good after it, as far as that can be read."""

    @property
    def name(self) -> str:
        """Its name in audit rows."""
        return f"{self.cluster}/{'master' if self.slot is None else shown(self.slot)}"

    @property
    def problem(self) -> Problem:
        """What is wrong with it."""
        why = str(self.error) if isinstance(self.error, SecretError) else type(self.error).__name__
        text = (
            f"what is stored of it cannot be read ({why}); `dnsvip keys rotate {self.cluster} --emergency` replaces it"
        )
        return Problem(f"{KEY_KIND}.{self.name}", text, about=(KEY_KIND, self.cluster))


async def load_epochs(
    connection: AsyncConnection,
    kek: KeyEncryptionKey,
    cluster: str | None = None,
    broken: list[BrokenKey] | None = None,
) -> dict[str, tuple[Epoch, ...]]:
    """The epochs by cluster, or those of one cluster. One that cannot be read is added to `broken`, or raises
    SecretError where that is None."""
    query = select(epoch_table).order_by(epoch_table.c.cluster, epoch_table.c.slot)
    if cluster is not None:
        query = query.where(epoch_table.c.cluster == cluster)
    later = await current_generation(connection) + 2  # it may be of the generation that is being made
    epochs: dict[str, tuple[Epoch, ...]] = {}
    for row in await connection.execute(query):
        try:
            epochs[row.cluster] = (*epochs.get(row.cluster, ()), epoch_from(row, kek, later))
        except Exception as error:
            if broken is None:
                raise
            keep = row.keep_seconds if isinstance(row.keep_seconds, int) and 0 <= row.keep_seconds < LATEST else 0
            broken.append(BrokenKey(shown(row.cluster), row.slot, error, keep))
    return epochs


async def load_masters(
    connection: AsyncConnection, kek: KeyEncryptionKey, broken: list[BrokenKey], cluster: str | None = None
) -> dict[str, bytes]:
    """The masters of clients' keys by cluster, or that of one cluster; those that do not unwrap are added to
    `broken`."""
    query = select(client_master)
    if cluster is not None:
        query = query.where(client_master.c.cluster == cluster)
    masters: dict[str, bytes] = {}
    for row in await connection.execute(query):
        try:
            masters[row.cluster] = kek.unwrap(row.secret, master_context(readable(row.cluster)))
        except (SecretError, ValueError) as error:
            broken.append(BrokenKey(shown(row.cluster), None, error))
    return masters


async def make_master(connection: AsyncConnection, kek: KeyEncryptionKey, cluster: str) -> None:
    """A new master of the clients' keys of a cluster, in the place of any other."""
    await connection.execute(delete(client_master).where(client_master.c.cluster == cluster))
    master = kek.wrap(secrets.token_bytes(MASTER_BYTES), master_context(cluster))
    await connection.execute(insert(client_master).values(cluster=cluster, secret=master))


async def remove_broken(connection: AsyncConnection, broken: Iterable[BrokenKey]) -> list[AuditEntry]:
    """Remove epochs that cannot be read; their audit entries."""
    entries = []
    for key in broken:
        if key.slot is not None:
            where = epoch_table.c.cluster == place(key.cluster), epoch_table.c.slot == place(key.slot)
            await connection.execute(delete(epoch_table).where(*where))
            entries.append(AuditEntry("-", KEY_KIND, key.name))
    if entries:
        await forget(connection)
    return entries


async def store_epochs(
    connection: AsyncConnection, kek: KeyEncryptionKey, cluster: str, before: Sequence[Epoch], after: Sequence[Epoch]
) -> list[AuditEntry]:
    """Write the epochs of a cluster that differ from `before`; their audit entries."""
    old, new = {epoch.slot: epoch for epoch in before}, {epoch.slot: epoch for epoch in after}
    entries = []
    for slot in sorted(old.keys() | new.keys()):
        if old.get(slot) == new.get(slot):
            continue
        where = epoch_table.c.cluster == cluster, epoch_table.c.slot == slot
        await connection.execute(delete(epoch_table).where(*where))
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


def epoch_from(row: Any, kek: KeyEncryptionKey, later: int = 1 << 63) -> Epoch:
    """The epoch in a row (anything with the columns as attributes); raises ValueError, SecretError where it is none.
    `later`: the first generation that it cannot be of."""
    readable(row.cluster)
    return Epoch(
        whole(row.slot, EPOCH_SLOTS),
        EpochState(row.state),
        kek.unwrap(row.secret, epoch_context(row.cluster, row.slot)),
        whole(row.published_at, LATEST),
        whole(row.published_generation, later),
        whole(row.activated_at, LATEST),
        whole(row.retiring_since, LATEST),
        whole(row.keep_seconds, LATEST),
    )


def _audit_form(epoch: Epoch | None) -> str | None:
    return None if epoch is None else json.dumps(_without_secret(epoch))


def _without_secret(epoch: Epoch) -> JsonObject:
    names = ("slot", "published_at", "published_generation", "activated_at", "retiring_since", "keep_seconds")
    return {"state": epoch.state.value, **{name: getattr(epoch, name) for name in names}}

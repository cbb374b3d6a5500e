"""Changing the key-encryption key: every secret of the database is rewrapped in the caller's transaction.

It takes two steps. The id of the new key is announced, and nodes reread their key source; once all of them hold the
key, the secrets are rewrapped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import SecretError
from dnsvip.site.epochs import NodeReport
from dnsvip.store.database.damage import shown
from dnsvip.store.database.tables import client_authority, client_master, cookie_secret, epoch, state, tsig, zone_key
from dnsvip.store.secrets.kek import (
    CHECK_CONTEXT,
    CHECK_VALUE,
    KeyEncryptionKey,
    authority_context,
    cookie_context,
    epoch_context,
    master_context,
    tsig_context,
    zone_key_context,
)

SECRETS: Mapping[str, Callable[[Any], bytes]] = {
    tsig.name: lambda row: tsig_context(row["name"]),
    epoch.name: lambda row: epoch_context(row["cluster"], row["slot"]),
    client_master.name: lambda row: master_context(row["cluster"]),
    cookie_secret.name: lambda row: cookie_context(row["position"]),
    zone_key.name: lambda row: zone_key_context(row["zone"], row["number"]),
    client_authority.name: lambda row: authority_context(row["number"]),
}
"""Table with a column `secret` -> the context that binds it to its row."""

KEK_KIND = "kek"
"""The kind of the key-encryption key in audit rows; their name is its id."""


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """How many secrets were wrapped with another key, and the rows of those that could not be unwrapped: they stay as
    they are."""

    count: int
    unreadable: tuple[str, ...]


async def rewrap(connection: AsyncConnection, old: KeyEncryptionKey, new: KeyEncryptionKey) -> Rewrapped:
    """Wrap every secret that can be read with another key. Raises SecretError where none can be."""
    count, unreadable = 0, []
    for table in (tsig, epoch, client_master, cookie_secret, zone_key, client_authority):
        columns = table.primary_key.columns
        for row in (await connection.execute(select(table))).mappings().all():
            place = [column == row[column.name] for column in columns]
            try:
                secret = rewrapped(table.name, dict(row), old, new)
            except (SecretError, ValueError, TypeError):  # it does not unwrap, or what it is bound to is no text
                unreadable.append("/".join((table.name, *(shown(row[column.name]) for column in columns))))
                continue
            await connection.execute(update(table).where(*place).values(secret=secret))
            count += 1
    if unreadable and not count:
        raise SecretError("no secret of the database unwraps with the key; nothing is changed")
    check = new.wrap(CHECK_VALUE, CHECK_CONTEXT)
    await connection.execute(update(state).values(key_check=check, next_key_id=None))
    return Rewrapped(count, tuple(unreadable))


def rewrapped(table: str, row: Mapping[str, Any], old: KeyEncryptionKey, new: KeyEncryptionKey) -> bytes:
    """The secret of a row of a table, wrapped with another key."""
    context = SECRETS[table](row)
    return new.wrap(old.unwrap(row["secret"], context), context)


def without_key(nodes: Iterable[NodeReport], key_id: str, now: float) -> list[str]:
    """The names of live nodes that have not reported holding a key-encryption key."""
    return sorted({node.name for node in nodes if node.is_live(now) and key_id not in (node.keks or ())})

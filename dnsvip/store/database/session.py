"""One open database with the key that wraps its secrets, and the transaction that every change runs in.

It knows no table but `state` and `node`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import SecretError
from dnsvip.store.database.database import Database
from dnsvip.store.database.tables import node, state
from dnsvip.store.database.watch import CHANNEL
from dnsvip.store.secrets.kek import CHECK_CONTEXT, KeyEncryptionKey


class Rollback(Exception):
    """Raised inside a transaction to discard it: a dry run, or nothing to do."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """An open change: its connection, the generation it makes, and when it began (unix seconds)."""

    connection: AsyncConnection
    generation: int
    at: float


class Session:
    """What every part of the store uses: transactions, and the key-encryption key."""

    def __init__(self, database: Database, kek: KeyEncryptionKey, identity: str) -> None:
        self.database = database
        self.kek = kek
        self.identity = identity
        """The random id of the database; changes when it is replaced by another one."""

    def read(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """See `Database.read`."""
        return self.database.read()

    def write_unordered(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """See `Database.write_unordered`."""
        return self.database.write_unordered()

    @asynccontextmanager
    async def change(self) -> AsyncIterator[Transaction]:
        """A write transaction that raises the generation by one. Raises SecretError where another node has changed
        the key-encryption key to one that is not held."""
        async with self.database.write() as (connection, before):
            start = time.monotonic()
            # Another node may have changed the key: new secrets must be wrapped with the current one.
            self.prefer_key((await connection.execute(select(state.c.key_check))).scalar_one())
            yield Transaction(connection, before + 1, time.time())
            await self.conclude(connection, before + 1, start)

    async def conclude(self, connection: AsyncConnection, generation: int, start: float) -> None:
        """Set the generation and notify followers; `start` is when the write lock was taken (monotonic seconds)."""
        await connection.execute(update(state).values(generation=generation))
        if self.database.is_sqlite:
            # No node could report while this transaction locked the file: that time does not count against leases.
            await connection.execute(update(node).values(seen_at=node.c.seen_at + (time.monotonic() - start)))
        else:
            await connection.execute(select(func.pg_notify(CHANNEL, str(generation))))

    def prefer_key(self, key_check: bytes) -> None:
        """Wrap with the key that made `key_check`, the one of the database; raises SecretError where it is not held."""
        try:
            self.kek.prefer(key_check, CHECK_CONTEXT)
        except SecretError:
            raise SecretError(
                f"the key from {self.kek.source} is not the one that the secrets in {self.database.label} are wrapped "
                "with; copy the key file of the node that made the database, or set DNSVIP_KEY to its content"
            ) from None

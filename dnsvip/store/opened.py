"""One open database and the transaction that every change is made in. It knows no table but `state` and `node`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.store.database.database import Database
from dnsvip.store.database.tables import node, state
from dnsvip.store.schema import prefer_key
from dnsvip.store.secrets.kek import KeyEncryptionKey
from dnsvip.store.watch import CHANNEL


class Undone(Exception):
    """Ends a transaction that is to leave nothing: it was only tried, or there was nothing to do."""


class Opened:
    """A database with the key that its secrets are wrapped with."""

    def __init__(self, database: Database, kek: KeyEncryptionKey, identity: str) -> None:
        self._database = database
        self._kek = kek
        self.identity = identity

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file of this machine."""
        return self._database.is_sqlite

    async def close(self) -> None:
        """Close every connection."""
        await self._database.close()

    @asynccontextmanager
    async def _change(self) -> AsyncIterator[tuple[AsyncConnection, int, float]]:
        """A write transaction that raises the generation: (connection, new generation, unix seconds)."""
        async with self._database.write() as (connection, before):
            start = time.monotonic()
            # Another node may have changed the key: what is written must be wrapped with the new one.
            key_check = (await connection.execute(select(state.c.key_check))).scalar_one()
            prefer_key(self._database, self._kek, key_check)
            yield connection, before + 1, time.time()
            await self._conclude(connection, before + 1, start)

    async def _conclude(self, connection: AsyncConnection, generation: int, start: float) -> None:
        await connection.execute(update(state).values(generation=generation))
        if self._database.is_sqlite:
            # No node could report while this held the file: the wait does not count against its lease.
            await connection.execute(update(node).values(seen_at=node.c.seen_at + (time.monotonic() - start)))
        else:
            await connection.execute(select(func.pg_notify(CHANNEL, str(generation))))

"""Removes what was deleted from the files of a SQLite database: replaced secrets must not be found in free pages or the
write-ahead log.

Connections delete with `secure_delete`, which overwrites. What is left is the log, which a checkpoint empties, and what
a version without `secure_delete` deleted, which only rewriting the whole file removes.
"""

from __future__ import annotations

import asyncio
import time

from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import StoreError
from dnsvip.store.database.database import BUSY_SECONDS, Database
from dnsvip.store.database.tables import node

WAIT_SECONDS = 10.0
"""How long a checkpoint is tried while others read."""

TRY_SECONDS = 0.5
"""How long one try may keep writers waiting; less than the lease of a node's report."""


async def scrub(database: Database, *, rewrite: bool) -> None:
    """Leave nothing that was deleted in the files, with `rewrite` of versions without `secure_delete` either. Raises
    StoreError where others prevent it. PostgreSQL is left to its operator (store/README.md)."""
    if not database.is_sqlite:
        return
    async with database.listen() as connection:
        if rewrite:
            await _rewrite(connection)
        await connection.execute(text(f"PRAGMA busy_timeout = {int(TRY_SECONDS * 1000)}"))
        until = time.monotonic() + WAIT_SECONDS
        while (await connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))).one()[0]:
            if time.monotonic() > until:
                what = f"{database.path}-wal is in use, so secrets that were replaced may still be in it"
                raise StoreError(f"{what}; stop all nodes once, the last one empties it")
            await asyncio.sleep(TRY_SECONDS / 2)


async def _rewrite(connection: AsyncConnection) -> None:
    start = time.monotonic()
    await connection.execute(text(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}"))
    await connection.execute(text("VACUUM"))
    # No node could report meanwhile: that time does not count against leases.
    await connection.execute(update(node).values(seen_at=node.c.seen_at + (time.monotonic() - start)))

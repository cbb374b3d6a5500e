"""The index of clients by state while rows are removed.

SQLite computes what such a row has in it anew, to find it there; of a row whose JSON is damaged it cannot, and would
remove none. PostgreSQL stores what it has computed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateIndex, DropIndex

from dnsvip.store.database.tables import client

INDEX = next(index for index in client.indexes if client.c.state in index.columns.values())


@asynccontextmanager
async def without_state_index(connection: AsyncConnection, *, needed: bool = True) -> AsyncIterator[None]:
    """In a transaction on SQLite, and where that is `needed`, a block without the index, which is made again: unless a
    row is left that a database of version 0.2.0 or earlier cannot compute; lists are slower then."""
    if not needed or connection.dialect.name != "sqlite":
        yield
        return
    await connection.execute(DropIndex(INDEX, if_exists=True))
    yield
    with suppress(DBAPIError):
        async with connection.begin_nested():
            await connection.execute(CreateIndex(INDEX))

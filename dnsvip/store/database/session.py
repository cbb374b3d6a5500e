"""One open database with the key that wraps its secrets, and the transaction that every change runs in.

It knows no table but `state` and `node`, and looks again at the token by which a change is made.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import SecretError
from dnsvip.site.zone_changes import ZoneDiffer
from dnsvip.store.database.database import Database, Prepare
from dnsvip.store.database.places import UNKNOWN, Places
from dnsvip.store.database.tables import node, state
from dnsvip.store.database.warrant import IN_FORCE, Warrant, check_warrant
from dnsvip.store.database.watch import CHANNEL
from dnsvip.store.secrets.kek import CHECK_CONTEXT, KeyEncryptionKey


class Rollback(Exception):
    """Raised inside a transaction to discard it: a dry run, or nothing to do."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """An open change: its connection, the generation it makes, when it began (unix seconds), and the address of who
    asks for it; None for the node itself."""

    connection: AsyncConnection
    generation: int
    at: float
    source: str | None = None


@dataclass(slots=True)
class Identity:
    """The random id of a database, as last read: sessions of the same database share it."""

    text: str


class Session:
    """What every part of the store uses: transactions, and the key-encryption key. With `places` each transaction takes
    one of them for the caller whose warrant is in force."""

    def __init__(
        self,
        database: Database,
        kek: KeyEncryptionKey,
        identity: Identity,
        warrant: Warrant | None = None,
        places: Places | None = None,
        differ: ZoneDiffer | None = None,
    ) -> None:
        self.database = database
        self._warrant = warrant
        self._places = places
        self.kek = kek
        self.differ = differ
        """What the journals of zones are written with; None: they are not."""
        self._identity = identity

    @property
    def identity(self) -> str:
        """The random id of the database; changes when it is replaced by another one."""
        return self._identity.text

    @identity.setter
    def identity(self, text: str) -> None:
        self._identity.text = text

    def now(self) -> float:
        """The time that all nodes share, in unix seconds."""
        return self.database.clock.now()

    def beside(self, places: Places) -> Session:
        """A session of the same database for callers, by connections of its own."""
        return Session(self.database.beside(places.most), self.kek, self._identity, self._warrant, places, self.differ)

    @property
    def warrant(self) -> Warrant | None:
        """What the running task may change by, or all that this session is for; None: it needs none."""
        return IN_FORCE.get() or self._warrant

    async def confirm(self) -> None:
        """Raise RevokedError where the warrant of the running task is not good any more. For what changes nothing: each
        change looks at it by itself."""
        if (warrant := self.warrant) is not None:
            async with self.read() as connection:
                await check_warrant(connection, warrant, time.time())

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """See `Database.read`."""
        async with self._place(), self.database.read() as connection:
            yield connection

    @asynccontextmanager
    async def write_unordered(self, *, lasting: bool = True) -> AsyncIterator[AsyncConnection]:
        """See `Database.write_unordered`."""
        async with self._place(), self.database.write_unordered(lasting=lasting) as connection:
            yield connection

    @asynccontextmanager
    async def change(self, prepare: Prepare | None = None) -> AsyncIterator[Transaction]:
        """A write transaction that raises the generation by one. Raises SecretError where another node has changed
        the key-encryption key to one that is not held, RevokedError where the token by which it is made is not good any
        more."""
        async with self._place(), self.database.write(prepare) as (connection, before):
            start = time.monotonic()
            # Another node may have changed the key: new secrets must be wrapped with the current one.
            self.prefer_key((await connection.execute(select(state.c.key_check))).scalar_one())
            if (warrant := self.warrant) is not None:
                await check_warrant(connection, warrant, self.now())
            yield Transaction(connection, before + 1, self.now(), warrant.source if warrant else None)
            await self.conclude(connection, before + 1, start)

    async def conclude(self, connection: AsyncConnection, generation: int, start: float) -> None:
        """Set the generation and notify followers; `start` is when the write lock was taken (monotonic seconds)."""
        await connection.execute(update(state).values(generation=generation))
        if self.database.is_sqlite:
            # No node could report while this transaction locked the file: that time does not count against leases.
            await connection.execute(update(node).values(seen_at=node.c.seen_at + (time.monotonic() - start)))
        else:
            await connection.execute(select(func.pg_notify(CHANNEL, str(generation))))

    def _place(self) -> AbstractAsyncContextManager[None]:
        if self._places is None:
            return nullcontext()
        return self._places.place(warrant.hash if (warrant := self.warrant) else UNKNOWN)

    def prefer_key(self, key_check: bytes) -> None:
        """Wrap with the key that made `key_check`, the one of the database; raises SecretError where it is not held."""
        try:
            self.kek.prefer(key_check, CHECK_CONTEXT)
        except SecretError:
            raise SecretError(
                f"the key from {self.kek.source} is not the one that the secrets in {self.database.label} are wrapped "
                "with; copy the key file of the node that made the database, or set DNSVIP_KEY to its content"
            ) from None

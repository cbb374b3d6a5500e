"""One database, SQLite file or PostgreSQL: connections, transactions, errors. Knows no table but `state`.

A read sees one consistent state; a write is alone: it holds the write lock from its first
statement on. Foreign errors leave here as StoreError.
"""

from __future__ import annotations

import os
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
from sqlalchemy import URL, event, select
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from dnsvip.errors import StoreError
from dnsvip.store.database.dsn import FORM, hidden, single_hosts
from dnsvip.store.database.tables import state

BUSY_SECONDS = 120.0
"""How long a writer waits for another one; the longest writer is an apply of a very large site."""

CONNECT_SECONDS, LEAST_CONNECT_SECONDS = 5.0, 2.0
"""How long connecting may take: in all, and of each server at least."""

POOL_SIZE = 5

ASYNCPG_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""All that asyncpg raises; the last is what a standby gets that was asked for a server which takes writes."""

_PRAGMAS = (
    f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # a commit is on the disk: a killed process or machine loses none
    "PRAGMA foreign_keys = ON",
)


class Database:
    """An engine for one URL of the node file (`sqlite:///FILE` or `postgresql://USER@HOST/NAME`)."""

    def __init__(self, url: str) -> None:
        scheme, _, rest = url.partition("://")
        if scheme not in ("sqlite", "postgresql") or (scheme == "sqlite" and not rest.removeprefix("/")):
            raise StoreError(f'database {scheme[:40]!r}: must be "sqlite:///FILE" or {FORM}')
        self.is_sqlite = scheme == "sqlite"
        self.path = Path(rest.removeprefix("/")) if self.is_sqlite else Path()
        """The file of a SQLite database."""
        self.label = url if self.is_sqlite else hidden(url)
        with self.translating():
            self.engine = _sqlite_engine(self.path) if self.is_sqlite else _postgresql_engine(single_hosts(url))
        self._inode = 0

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that sees one state of the database throughout and writes nothing."""
        with self.translating():
            await self._follow_file()
            async with self.engine.connect() as connection:
                if not self.is_sqlite:
                    await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                async with connection.begin():
                    yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[tuple[AsyncConnection, int]]:
        """A transaction that no other writer runs beside, with the generation it starts from."""
        async with self.write_unordered() as connection:
            query = select(state.c.generation)
            # SQLite has locked the whole file already: BEGIN IMMEDIATE.
            found = await connection.execute(query if self.is_sqlite else query.with_for_update())
            yield connection, found.scalar_one()

    @asynccontextmanager
    async def write_unordered(self) -> AsyncIterator[AsyncConnection]:
        """A transaction for what is not part of a generation (heartbeats), beside other writers where it can be."""
        with self.translating():
            await self._follow_file()
            async with self.engine.connect() as connection:
                if self.is_sqlite:
                    await connection.execution_options(sqlite_begin="BEGIN IMMEDIATE")
                async with connection.begin():
                    yield connection

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncConnection]:
        """A connection of one's own outside any transaction; it is closed afterwards, not used again."""
        with self.translating():
            await self._follow_file()
            async with self.engine.connect() as connection:
                if self.is_sqlite:
                    await connection.execution_options(sqlite_begin=None)
                else:
                    await connection.execution_options(isolation_level="AUTOCOMMIT")
                try:
                    yield connection
                finally:
                    await connection.invalidate()

    async def _follow_file(self) -> None:
        """Raise OSError where a SQLite file is gone, and leave one that was replaced: connections that are open
        still reach the old one, and what they wrote there would be lost."""
        if not self.is_sqlite:
            return
        inode = self.path.stat().st_ino
        if inode != self._inode and self._inode:
            await self.close()
        self._inode = inode

    @contextmanager
    def translating(self) -> Iterator[None]:
        """Turn what drivers raise into StoreError; IntegrityError passes, as only the caller can explain it."""
        try:
            yield
        except IntegrityError:
            raise
        except TimeoutError as error:
            raise StoreError(f"database {self.label}: does not answer") from error
        except DBAPIError as error:
            raise StoreError(f"database {self.label}: {_first_line(error.orig)}") from error
        except (SQLAlchemyError, *ASYNCPG_ERRORS, sqlite3.Error, OSError) as error:
            raise StoreError(f"database {self.label}: {_first_line(error)}") from error

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()


def _sqlite_engine(path: Path) -> AsyncEngine:
    # mode=rw: a file that is gone is not replaced by an empty one.
    query = {"mode": "rw", "uri": "true"}
    existing = URL.create("sqlite+aiosqlite", database=f"file:{quote(str(path))}", query=query)
    engine = create_async_engine(existing, pool_size=POOL_SIZE, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine.sync_engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # BEGIN is ours, below
        cursor = connection.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Any) -> None:
        if statement := connection.get_execution_options().get("sqlite_begin", "BEGIN"):
            connection.exec_driver_sql(statement)

    return engine


def _postgresql_engine(urls: Sequence[str]) -> AsyncEngine:
    """An engine that tries one server after the other, first the one that was good last."""
    order = deque(urls)
    seconds = CONNECT_SECONDS / len(urls)

    async def connect() -> Any:
        failed: BaseException | None = None
        for _ in urls:
            try:
                return await asyncpg.connect(
                    order[0],
                    timeout=max(seconds, LEAST_CONNECT_SECONDS),
                    command_timeout=BUSY_SECONDS,
                    server_settings={"application_name": "dnsvip"},
                )
            except (OSError, *ASYNCPG_ERRORS) as error:
                # That one of them only reads says less than why the other one cannot be reached.
                failed = failed if isinstance(error, asyncpg.InternalClientError) and failed else error
                order.rotate(-1)
        raise failed or StoreError("there is no server")

    return create_async_engine("postgresql+asyncpg://", pool_size=POOL_SIZE, pool_pre_ping=True, async_creator=connect)


def make_file(path: Path) -> None:
    """Make an empty SQLite file that only its owner can read; its journal files take after it."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise StoreError(f"database {path}: {error.strerror}") from error


def _first_line(error: BaseException | None) -> str:
    text_ = str(error).strip() or type(error).__name__
    return text_.splitlines()[0].rpartition(">: ")[2]

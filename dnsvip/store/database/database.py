"""One database, a SQLite file or PostgreSQL: connections, transactions, errors. Knows no table but `state`.

A read sees one consistent state. A write holds the write lock from its first statement on. Driver errors leave
this module as StoreError.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote

from sqlalchemy import URL, ColumnElement, event, func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncTransaction, create_async_engine

from dnsvip.errors import DiskFull, NotAllowed, StoreError, UncertainCommit
from dnsvip.site.io.safe_file import FREE, create_private
from dnsvip.store.database.clock import SharedClock
from dnsvip.store.database.damage import decode, whole
from dnsvip.store.database.dsn import FORM, hidden, single_hosts
from dnsvip.store.database.grants import FORBIDDEN, explained
from dnsvip.store.database.servers import Servers
from dnsvip.store.database.statements import noted
from dnsvip.store.database.stopping import connect
from dnsvip.store.database.tables import state

T = TypeVar("T")

Prepare: TypeAlias = Callable[[Any], Awaitable[None]]
"""Is called with the driver's connection."""

BUSY_SECONDS = 120.0
"""How long a writer waits for the lock; the longest holder is an apply of a very large site."""

COMMIT_SECONDS = 30.0
"""How long a commit may wait for a synchronous standby: longer than it takes to choose another one."""

READ_ONLY, DISK_FULL = "25006", "53100"
"""PostgreSQL's codes of a server that does not accept writes (read_only_sql_transaction), and of a full disk."""

WRITING = {"idle_in_transaction_session_timeout": "90s"}
"""Of each transaction that writes: how long it may wait for its process, which may have stopped, as it holds the lock
of all writers. Far longer than the largest change computes between two statements, and shorter than others wait."""

NOT_LASTING = {"synchronous_commit": "off"}
"""Of a transaction that may be lost with its server."""

NOT_PREPARED = "26000", "42P05"
"""What PostgreSQL says of a statement that another connection has prepared, or has prepared too."""

POOL_SIZE, OVERFLOW = 5, 10
"""Connections of a pool that are kept, and that are made beyond where all are in use."""

LOCK = 0x646E_7376_6970
"""PostgreSQL's advisory lock for setting up a database: "dnsvip" in ASCII."""

BATCH = 500
"""Values in one IN (...): far below the limit of either database."""

ROWS = 5000
"""Rows in one INSERT: enough to hide the round trip, few enough to bound memory."""

ASYNCPG_ERRORS = ("PostgresError", "InterfaceError", "InternalClientError")
"""All that asyncpg raises; it raises the last if no server satisfies target_session_attrs."""

FULL = "database or disk is full"
"""What SQLite says of a full disk."""

_PRAGMAS = (
    f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # a commit is on disk: neither a killed process nor a power cut loses it
    "PRAGMA foreign_keys = ON",
    "PRAGMA secure_delete = ON",  # a secret that was replaced is not left in a free page
)


class Database:
    """An engine for one URL of the node file (`sqlite:///FILE` or `postgresql://USER@HOST/NAME`), of at most `most`
    connections at once. With `listen`, the URL of the servers themselves, `url` is of poolers that give each
    transaction another connection."""

    def __init__(
        self,
        url: str,
        most: int = POOL_SIZE + OVERFLOW,
        listen: str | None = None,
        servers: Servers | None = None,
        clock: SharedClock | None = None,
    ) -> None:
        scheme, _, rest = url.partition("://")
        if scheme not in ("sqlite", "postgresql") or (scheme == "sqlite" and not rest.removeprefix("/")):
            raise StoreError(f'database {scheme[:40]!r}: must be "sqlite:///FILE" or {FORM}')
        self.is_sqlite, self.url, self.listen_url = scheme == "sqlite", url, listen
        self.clock = clock or SharedClock()
        """The time, as the database's server tells it."""
        self.path = Path(rest.removeprefix("/")) if self.is_sqlite else Path()
        """The file of a SQLite database."""
        self.label = url if self.is_sqlite else hidden(url)
        """The URL without its password, for messages."""
        with self.translating():
            sizes = {"pool_size": min(POOL_SIZE, most), "max_overflow": max(0, most - POOL_SIZE)}
            if self.is_sqlite:
                self.engine = _sqlite_engine(self.path, sizes)
            else:
                self._servers = servers or Servers(
                    single_hosts(url), BUSY_SECONDS, self.clock, pooled=listen is not None
                )
                self.engine = _postgresql_engine(self._servers, sizes, pooled=listen is not None)
        self._direct = None if listen is None else Database(listen, 1, clock=self.clock)
        self._inode = 0
        self._beside: list[Database] = []

    def beside(self, most: int) -> Database:
        """The same database by connections of its own, so that neither takes those of the other; closed with this."""
        servers = None if self.is_sqlite else self._servers  # shared, as one finds out first who leads
        self._beside.append(other := Database(self.url, most, self.listen_url, servers, self.clock))
        return other

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A read-only transaction that sees one state of the database throughout."""
        with self.translating():
            async with self._connected() as connection:
                if not self.is_sqlite:
                    await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                async with connection.begin():
                    yield connection

    @asynccontextmanager
    async def write(self, prepare: Prepare | None = None) -> AsyncIterator[tuple[AsyncConnection, int]]:
        """A transaction that excludes every other writer, with the generation it starts from; see `write_unordered`."""
        async with self._writing(prepare) as connection:
            # SQLite's BEGIN IMMEDIATE has already locked the whole file.
            yield connection, await (current_generation(connection) if self.is_sqlite else _locked(connection))

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[AsyncConnection]:
        """A write transaction before `state` exists: nodes that start together set up the database one at a time."""
        async with self.write_unordered() as connection:
            if not self.is_sqlite:  # its BEGIN IMMEDIATE has locked the file
                await connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
            yield connection

    @asynccontextmanager
    async def write_unordered(
        self, prepare: Prepare | None = None, *, lasting: bool = True
    ) -> AsyncIterator[AsyncConnection]:
        """A transaction that makes no generation (heartbeats); PostgreSQL runs it concurrently with other writers, and
        waits for no disk and no standby where it need not be `lasting`.

        SQLite's connection may `prepare` what it is to write, in temporary tables, before it takes the write lock."""
        async with self._writing(prepare) as connection:
            if not self.is_sqlite:
                await connection.execute(select(*_set(WRITING if lasting else {**WRITING, **NOT_LASTING})))
            yield connection

    @asynccontextmanager
    async def _writing(self, prepare: Prepare | None) -> AsyncIterator[AsyncConnection]:
        with self.translating():
            async with self._connected() as connection:
                if self.is_sqlite:
                    if prepare is not None:
                        await prepare((await connection.get_raw_connection()).driver_connection)
                    await connection.execution_options(sqlite_begin="BEGIN IMMEDIATE")
                async with connection.begin() as transaction:
                    yield connection
                    if not self.is_sqlite:
                        await self._commit(connection, transaction)

    async def _commit(self, connection: AsyncConnection, transaction: AsyncTransaction) -> None:
        """Raises UncertainCommit where the server was lost before it could say whether it has committed.

        One that waits too long is left, not cancelled: a commit that is cancelled while it waits for a synchronous
        standby is made without it."""
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None  # noqa: S101 - for mypy
        late = asyncio.get_running_loop().call_later(COMMIT_SECONDS, driver.terminate)
        try:
            await transaction.commit()
        except Exception as error:
            if is_refusal(getattr(error, "orig", error)):
                raise
            text = _first_line(getattr(error, "orig", error))
            raise UncertainCommit(f"database {self.label}: was lost while it committed: {text}") from error
        finally:
            late.cancel()

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncConnection]:
        """A dedicated connection outside any transaction; closed afterwards, not returned to the pool."""
        if self._direct is not None:
            async with self._direct.listen() as connection:
                yield connection
            return
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

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        await self._follow_file()
        async with self.engine.connect() as connection:
            with noted(connection) if self.is_sqlite else nullcontext():
                yield connection

    async def _follow_file(self) -> None:
        """Reconnect after a SQLite file was replaced: open connections use the old one, and their writes are lost.

        Raises OSError if the file is gone.
        """
        if not self.is_sqlite:
            return
        inode = self.path.stat().st_ino
        if inode != self._inode and self._inode:
            await self.close()
        self._inode = inode

    @contextmanager
    def translating(self) -> Iterator[None]:
        """Turn driver errors into StoreError; IntegrityError passes, as only the caller can explain it."""
        try:
            yield
        except IntegrityError:
            raise
        except TimeoutError as error:
            raise StoreError(f"database {self.label}: does not answer") from error
        except DBAPIError as error:
            raise self._translated(error, error.orig) from error
        except _driver_errors() as error:
            raise self._translated(error, error) from error

    def _translated(self, error: Exception, cause: BaseException | None) -> StoreError:
        text, code = _first_line(cause), getattr(cause, "sqlstate", None)
        if FULL in text or code == DISK_FULL:
            disk = f"the disk of {self.path.absolute().parent}" if self.is_sqlite else "the disk of its server"
            return DiskFull(f"database {self.label}: {disk} is full, so nothing of this has been stored; {FREE}")
        if code in NOT_PREPARED:
            text += "; where a pooler of transactions is in between, `database_listen` names the servers themselves"
        if code == FORBIDDEN:
            return NotAllowed(f"database {self.label}: {explained(text, getattr(error, 'statement', None))}")
        return StoreError(f"database {self.label}: {text}")

    def cut(self) -> None:
        """Abort every connection to PostgreSQL, those in use as well: its server does not answer any more."""
        for database in (self, self._direct):
            if database is not None and not database.is_sqlite:
                database._servers.cut()

    async def close(self) -> None:
        """Close every connection."""
        for database in self._all:
            await database.engine.dispose()

    @property
    def _all(self) -> list[Database]:
        return [self, *self._beside, *([self._direct] if self._direct else [])]


def _sqlite_engine(path: Path, sizes: Mapping[str, int]) -> AsyncEngine:
    # mode=rw: never create an empty file in place of a missing one.
    query = {"mode": "rw", "uri": "true"}
    existing = URL.create("sqlite+aiosqlite", database=f"file:{quote(str(path))}", query=query)
    engine = create_async_engine(existing, **sizes, connect_args={"timeout": BUSY_SECONDS, "async_creator_fn": connect})

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # `begin` below issues BEGIN
        connection.driver_connection.text_factory = decode
        cursor = connection.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Any) -> None:
        if statement := connection.get_execution_options().get("sqlite_begin", "BEGIN"):
            connection.exec_driver_sql(statement)

    return engine


def _postgresql_engine(servers: Servers, sizes: Mapping[str, int], *, pooled: bool) -> AsyncEngine:
    # Behind a pooler of transactions a statement has no name: the next transaction may have another server.
    unnamed = {"prepared_statement_cache_size": 0, "prepared_statement_name_func": str} if pooled else {}
    how = {"async_creator_fn": servers.connect, **unnamed}
    engine = create_async_engine("postgresql+asyncpg://", **sizes, pool_pre_ping=True, connect_args=how)

    @event.listens_for(engine.sync_engine, "handle_error")
    def handle(context: Any) -> None:
        if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:  # demoted: nobody stays there
            context.is_disconnect = True

    return engine


def make_file(path: Path) -> None:
    """Create a missing SQLite file with mode 0600; SQLite gives its journal files the same mode."""
    create_private(path, what=f"database {path}")


def in_batches(items: Iterable[T], size: int) -> Iterator[Sequence[T]]:
    """At most `size` items at a time, for one statement each (see BATCH and ROWS)."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


async def looked_at(connection: AsyncConnection, clock: SharedClock) -> int:
    """The generation of a database of PostgreSQL, whose time `clock` takes. Raises StoreError where it cannot be
    read."""
    asked = clock.steady()
    query = select(state.c.generation, text("extract(epoch FROM clock_timestamp())::float8"))
    generation, theirs = (await connection.execute(query)).one()
    clock.saw(theirs, asked)
    return generation_of(generation)


async def current_generation(connection: AsyncConnection) -> int:
    """The generation of the database as this transaction sees it. Raises StoreError where it cannot be read."""
    return generation_of((await connection.execute(select(state.c.generation))).scalar_one())


async def _locked(connection: AsyncConnection) -> int:
    """The same, and nobody else changes it until the end; with the settings of a transaction that writes."""
    locking = select(state.c.generation, *_set(WRITING)).with_for_update()
    return generation_of((await connection.execute(locking)).scalar_one())


def _set(settings: Mapping[str, str]) -> list[ColumnElement[str]]:
    """What sets settings of PostgreSQL until the end of a transaction, where it is selected."""
    return [func.set_config(name, value, True) for name, value in settings.items()]


def generation_of(stored: object) -> int:
    """A generation from the row of `state`; raises StoreError where it is none."""
    try:
        return whole(stored)
    except ValueError:
        raise StoreError("the generation of the database cannot be read: its row of `state` is damaged") from None


def is_refusal(error: BaseException | None) -> bool:
    """Whether a server itself has said that it has not committed, and not that it ends (PostgreSQL documentation,
    "PostgreSQL Error Codes": classes 08 and 57P)."""
    code = getattr(error, "sqlstate", None)
    return isinstance(code, str) and not code.startswith(("08", "57P"))


def _first_line(error: BaseException | None) -> str:
    message = str(error).strip() or type(error).__name__
    return message.splitlines()[0].rpartition(">: ")[2]


def _driver_errors() -> tuple[type[Exception], ...]:
    return *_asyncpg_errors(*ASYNCPG_ERRORS), SQLAlchemyError, sqlite3.Error, OSError


def _asyncpg_errors(*names: str) -> tuple[type[Exception], ...]:
    """Errors of asyncpg; none with SQLite, for which it is not loaded (nor in the middle of a fault: perhaps no more
    files may be opened)."""
    asyncpg = sys.modules.get("asyncpg")
    found: list[type[Exception]] = [getattr(asyncpg, name) for name in names] if asyncpg else []
    return tuple(found)


def taken_errors() -> tuple[type[Exception], ...]:
    """What says that another row has a unique value."""
    return IntegrityError, *_asyncpg_errors("UniqueViolationError")

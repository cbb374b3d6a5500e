"""PostgreSQL's servers of one URL: which of them is used, and which connections are cut off.

Of several servers the one that accepts writes is used. A leader that was paused or cut off while another took over
still says that it accepts them: it is known by its timeline, which rises with each promotion (PostgreSQL documentation,
"Timelines"), and is refused while the newer one has been seen lately. Knows no table.
"""

from __future__ import annotations

import functools
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import structlog

from dnsvip.errors import StoreError
from dnsvip.store.database.clock import SharedClock
from dnsvip.store.database.dsn import TARGET, WRITABLE, hidden

if TYPE_CHECKING:
    import asyncpg

CONNECT_SECONDS, LEAST_CONNECT_SECONDS = 5.0, 2.0
"""Connect timeout: for all servers together, and the least for each."""

FORMER_SECONDS = 300.0
"""How long a server with an older timeline than another one is refused after that was last seen: far longer than a
former leader needs to find out. A cluster that is put back from a backup may have an older one as well, for good."""

PROBE_SECONDS, SILENT_SECONDS = 5, 30
"""How often a server asks a machine that says nothing whether it is there, and after how long it gives it up, also one
that takes nothing of what is sent: what it has locked, others wait for."""

SETTINGS = {
    "tcp_keepalives_idle": f"{PROBE_SECONDS}",
    "tcp_keepalives_interval": f"{PROBE_SECONDS}",
    "tcp_keepalives_count": f"{SILENT_SECONDS // PROBE_SECONDS}",
    "tcp_user_timeout": f"{SILENT_SECONDS}s",
    "client_connection_check_interval": f"{PROBE_SECONDS}s",
}
"""What a connection asks of its server (PostgreSQL documentation, "Client Connection Defaults", "TCP Settings")."""

_TIMELINE = """
SELECT (SELECT system_identifier FROM pg_control_system()),
  CASE WHEN pg_is_in_recovery() THEN NULL ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END
"""

_GREETING = """
SELECT extract(epoch FROM clock_timestamp())::float8,
  count(set_config(name, wanted.value, false)) FROM pg_settings JOIN (VALUES {}) AS wanted (name, value) USING (name)
"""

log = structlog.get_logger(__name__)


class Servers:
    """The servers that `urls` name, one URL each. With `pooled` they are poolers that give each transaction another
    connection: nothing outlives a transaction."""

    def __init__(
        self, urls: Sequence[str], command_timeout: float, clock: SharedClock | None = None, *, pooled: bool = False
    ) -> None:
        self._urls, self._good, self._clock = tuple(urls), 0, clock or SharedClock()
        self._settings = {} if pooled else SETTINGS
        self._timeouts = {"timeout": max(CONNECT_SECONDS / len(urls), LEAST_CONNECT_SECONDS)}
        self._timeouts["command_timeout"] = command_timeout
        self._more: dict[str, Any] = {"statement_cache_size": 0} if pooled else {}
        self._open: WeakKeyDictionary[asyncpg.Connection, int] = WeakKeyDictionary()
        self._timelines = Timelines()

    async def connect(self) -> asyncpg.Connection:
        """A connection to the first server that will do, the last good one first. Raises what the driver raises, or
        StoreError for a former leader."""
        import asyncpg  # noqa: PLC0415 - not needed with SQLite

        first, failure = self._good, None
        for turn in range(len(self._urls)):
            number = (first + turn) % len(self._urls)  # not shared: others connect at the same time
            try:
                connection = await self._connect(self._urls[number])
            except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
                # "Server is read-only" explains less than why the primary cannot be reached.
                failure = failure if isinstance(error, asyncpg.InternalClientError) and failure else error
            except StoreError as error:
                failure = failure or error
            else:
                self._good = number
                return connection
        raise failure or StoreError("there is no server")

    def cut(self, concerned: Callable[[int], bool] = lambda _: True) -> None:
        """Abort connections, those in use as well: what waits for their servers fails at once. By default all, else
        those to a timeline that is `concerned`."""
        for connection, timeline in list(self._open.items()):
            if concerned(timeline) and not connection.is_closed():
                connection.terminate()

    async def _connect(self, url: str) -> asyncpg.Connection:
        import asyncpg  # noqa: PLC0415 - not needed with SQLite

        target = None if f"{TARGET}=" in url else WRITABLE[0]
        settings = {"application_name": "dnsvip"}
        connection = await asyncpg.connect(
            url,
            connection_class=_naming(),
            target_session_attrs=target,
            server_settings=settings,
            **self._timeouts,
            **self._more,
        )
        try:
            system, timeline = await _timeline(connection)
            if not self._timelines.admits(system, timeline, time.monotonic()):
                raise StoreError(f"database {hidden(url)}: was the leader once, and another one has taken over")
            await self._greet(connection)
        except BaseException:
            connection.terminate()
            raise
        self._open[connection] = timeline
        if timeline:
            self.cut(lambda other: 0 < other < timeline)
        return connection

    async def _greet(self, connection: asyncpg.Connection) -> None:
        """Set what is wanted of the server, as far as it knows it, and look at its clock."""
        import asyncpg  # noqa: PLC0415 - not needed with SQLite

        wanted = ", ".join(f"('{name}', '{value}')" for name, value in self._settings.items()) or "('', '')"
        asked = self._clock.steady()
        with suppress(asyncpg.PostgresError):  # a service that only looks like PostgreSQL
            theirs, _ = await connection.fetchrow(_GREETING.format(wanted), timeout=LEAST_CONNECT_SECONDS)
            self._clock.saw(theirs, asked)


@functools.cache
def _naming() -> type[asyncpg.Connection]:
    """A connection whose prepared statements nobody else has by their names. The driver counts them up, so behind a
    pooler of transactions that nobody told of a node might execute that of another one."""
    import asyncpg  # noqa: PLC0415 - not needed with SQLite

    class Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
        def _get_unique_id(self, prefix: str) -> str:
            return f"dnsvip_{prefix}_{secrets.token_hex(16)}"

    return Connection


class Timelines:
    """The newest timeline of each system (by its identifier), and when it was last seen. Pure; `now` is in seconds."""

    def __init__(self) -> None:
        self._newest: dict[int, tuple[int, float]] = {}

    def admits(self, system: int, timeline: int, now: float) -> bool:
        """Whether a server is no former leader, by what has been seen; notes what is seen. Timeline 0 is unknown."""
        newest, seen_at = self._newest.get(system, (0, 0.0))
        if 0 < timeline < newest and now < seen_at + FORMER_SECONDS:
            return False
        if timeline:
            self._newest[system] = timeline, now
        return True


async def _timeline(connection: asyncpg.Connection) -> tuple[int, int]:
    """The identifier and the timeline of a server; 0 where it has none, or does not say."""
    import asyncpg  # noqa: PLC0415 - not needed with SQLite

    try:
        system, timeline = await connection.fetchrow(_TIMELINE, timeout=LEAST_CONNECT_SECONDS)
    except asyncpg.PostgresError:  # a service that only looks like PostgreSQL, or one that does not allow it
        return 0, 0
    return system, int(timeline or "0", 16)

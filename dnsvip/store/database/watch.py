"""Generations as they change: PostgreSQL notifies (LISTEN/NOTIFY), a SQLite file is polled every 100 ms.

An outage never ends the watch: it reconnects with growing pauses. Slow polling in addition to the notifications bounds
the delay of a lost one to seconds.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from dnsvip.errors import StoreError
from dnsvip.store.database.database import BUSY_SECONDS, Database, generation_of, looked_at
from dnsvip.store.database.file_watch import FileWatch, Replaced

T = TypeVar("T")

CHANNEL = "dnsvip"
SLOW_POLL_SECONDS = 5.0
SILENT_SECONDS = 5.0
"""How long a server may take for its generation."""

ENDED = -1
"""In place of a generation: nobody asks any more."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0

log = structlog.get_logger(__name__)


async def watch(database: Database) -> AsyncGenerator[int]:
    """The current generation, then each later one; several in quick succession may be reported as the last."""
    pause, last, lost = FIRST_PAUSE, -1, False
    while True:
        try:
            async with aclosing(_generations(database)) as generations:
                async for generation in generations:
                    if lost:
                        log.info("database is back", generation=generation)
                    pause, lost = FIRST_PAUSE, False
                    if generation != last:
                        last = generation
                        yield generation
        except StoreError as error:
            if not lost:
                log.warning("database lost, trying again", error=str(error))
            last, lost = -1, True  # another database may return in its place
            with suppress(StoreError):
                await database.close()  # half-open connections would hang until they time out
        await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - jitter: not all nodes reconnect at once
        pause = min(2 * pause, LONGEST_PAUSE)


async def cut_where_silent(concerned: Database, watching: Database) -> None:
    """Cut all connections of a database of PostgreSQL whenever its server is silent, until cancelled: for a process
    that does not `watch` and would wait as long as the longest statement may take. `watching` is the same database, by
    connections that nobody else uses. Who is ready sooner than a server is silent is not watched."""

    def cut() -> None:
        concerned.cut()
        watching.cut()

    while True:
        await asyncio.sleep(SILENT_SECONDS)
        try:
            async with aclosing(_postgresql(watching, cut)) as generations:
                async for _ in generations:
                    pass
        except StoreError as error:
            if isinstance(error.__cause__, TimeoutError):  # it cannot be connected to either
                cut()


def _generations(database: Database) -> AsyncGenerator[int]:
    return _sqlite(database) if database.is_sqlite else _postgresql(database, database.cut)


async def _sqlite(database: Database) -> AsyncGenerator[int]:
    loop, seen, last = asyncio.get_running_loop(), asyncio.Queue[object](), ENDED

    def tell(what: object) -> None:
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(seen.put_nowait, what)

    watch = FileWatch(database.path, BUSY_SECONDS, tell)
    watch.start()
    try:
        with database.translating():
            while not isinstance(what := _latest(last, await seen.get(), seen), Replaced):
                if isinstance(what, Exception):
                    raise what
                yield (last := generation_of(what))
    finally:
        watch.stop()
    await database.close()


async def _postgresql(database: Database, cut: Callable[[], None]) -> AsyncGenerator[int]:
    async with database.listen() as connection:
        woken, seen = asyncio.Event(), asyncio.Queue[int]()
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None  # noqa: S101 - for mypy
        driver.add_termination_listener(lambda _: woken.set())
        await driver.add_listener(CHANNEL, lambda *_: woken.set())
        # Goes on while the caller reads a generation: a server that stops answering in the middle of it is noticed.
        asking = asyncio.create_task(_ask(database, connection, woken, seen, cut))
        asking.add_done_callback(lambda _: seen.put_nowait(ENDED))
        last = ENDED
        try:
            while (generation := _latest(last, await seen.get(), seen)) != ENDED:
                yield (last := generation)
            await asking
        finally:
            asking.cancel()
            await asyncio.wait([asking])


def _latest(last: int, what: T, seen: asyncio.Queue[T]) -> T:
    """The latest of `what` was seen and what is in the queue, but nothing beyond what is no generation, or a lower one
    than that before it (`last` at first): the database went back, and may have come to the same number since."""
    while isinstance(what, int) and what >= max(last, 0) and not seen.empty():
        last, what = what, seen.get_nowait()
    return what


async def _ask(
    database: Database,
    connection: AsyncConnection,
    woken: asyncio.Event,
    seen: asyncio.Queue[int],
    cut: Callable[[], None],
) -> None:
    """Put each generation into `seen`. A server that is silent for SILENT_SECONDS (stopped, or behind a network that
    drops every packet) is an outage: connections are `cut`, so that nothing else waits for it."""
    while True:
        woken.clear()
        silent = asyncio.get_running_loop().call_later(SILENT_SECONDS, cut)
        try:
            with database.translating():
                seen.put_nowait(await looked_at(connection, database.clock))
        finally:
            silent.cancel()
        await _wait(woken, SLOW_POLL_SECONDS)


async def _wait(woken: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await woken.wait()
    except TimeoutError:
        return

"""Generations as they change: PostgreSQL tells (LISTEN/NOTIFY), a SQLite file is asked every 100 ms.

Watching never ends by an outage: it reconnects with growing pauses, and asks slowly besides, so
that a lost notification only costs seconds.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import structlog
from sqlalchemy import text

from dnsvip.errors import StoreError
from dnsvip.store.database.database import Database
from dnsvip.store.loading import current_generation

CHANNEL = "dnsvip"
POLL_SECONDS = 0.1
SLOW_POLL_SECONDS = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0

log = structlog.get_logger(__name__)


async def watch(database: Database) -> AsyncGenerator[int]:
    """The generation now, then each one that follows; several at once may come as the last of them."""
    pause, last, lost = FIRST_PAUSE, -1, False
    while True:
        try:
            async with aclosing(_sqlite(database) if database.is_sqlite else _postgresql(database)) as generations:
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
            last, lost = -1, True  # it may come back as another one
            with suppress(StoreError):
                await database.close()  # connections that the outage has cut without a word would be waited for
        await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - so that not all nodes come at once
        pause = min(2 * pause, LONGEST_PAUSE)


async def _sqlite(database: Database) -> AsyncGenerator[int]:
    inode = _inode(database)
    async with database.listen() as connection:
        version = -1
        while _inode(database) == inode:
            # Rises with every commit of another connection; this one never writes.
            seen = (await connection.execute(text("PRAGMA data_version"))).scalar_one()
            if seen != version:
                version = seen
                yield await current_generation(connection)
            await asyncio.sleep(POLL_SECONDS)
    # The file was replaced: connections to the old one would never see a change again.
    await database.close()


async def _postgresql(database: Database) -> AsyncGenerator[int]:
    async with database.listen() as connection:
        woken = asyncio.Event()
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None  # noqa: S101 - for mypy
        driver.add_termination_listener(lambda _: woken.set())
        await driver.add_listener(CHANNEL, lambda *_: woken.set())
        while True:
            woken.clear()
            async with asyncio.timeout(SLOW_POLL_SECONDS):  # a network that swallows everything is an outage too
                generation = await current_generation(connection)
            yield generation
            await _either(woken, SLOW_POLL_SECONDS)


async def _either(woken: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await woken.wait()
    except TimeoutError:
        return


def _inode(database: Database) -> int:
    try:
        return database.path.stat().st_ino
    except OSError as error:
        raise StoreError(f"database {database.label}: {error.strerror}") from error

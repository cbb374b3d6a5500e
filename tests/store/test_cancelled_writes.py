"""A task that writes to SQLite is cancelled at any moment, once or more: the lock is free, and nothing waits on."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path

import pytest
from sqlalchemy import text

from dnsvip.store import KeyEncryptionKey, Store
from dnsvip.store.database.database import Database
from tests.long import LONG
from tests.store.conftest import until

SECONDS = 10.0
"""More than a loaded machine needs to end a statement, far less than a writer waits."""


async def lock_is_free(database: Database) -> bool:
    """Whether another connection gets the write lock."""
    other = sqlite3.connect(database.path, timeout=0, isolation_level=None)
    with closing(other), suppress(TimeoutError):
        async with asyncio.timeout(SECONDS):
            while True:
                with suppress(sqlite3.OperationalError):
                    other.execute("BEGIN IMMEDIATE")
                    other.execute("ROLLBACK")
                    return True
                await asyncio.sleep(0.01)
    return False


async def write(database: Database, number: int) -> None:
    async with database.write_unordered() as connection:
        await connection.execute(text(f"UPDATE state SET next_key_id = '{number}'"))  # noqa: S608 - a number
        await connection.execute(text("UPDATE state SET next_key_id = NULL"))


async def cancelled(database: Database, number: int, rng: random.Random) -> bool:
    """Cancel a write after some turns of the loop and a time, or again and again; whether it was under way."""
    task = asyncio.ensure_future(write(database, number))
    for _ in range(rng.randrange(60)):
        await asyncio.sleep(0)
    await asyncio.sleep(rng.choice([0, rng.random() / 200]))
    under_way = task.cancel()
    for _ in range(rng.choice([0, rng.randrange(60)])):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait([task])
    return under_way


@pytest.mark.parametrize("held", [False, True])
async def test_the_lock_is_free_after(tmp_path: Path, kek: KeyEncryptionKey, *, held: bool) -> None:
    """Whether it was held, waited for, or about to be given back; and what closes the connections ends too."""
    threads = threading.active_count()
    store = await Store.open(f"sqlite:///{tmp_path}/dnsvip.db", kek)
    database, rng, under_way = store._session.database, random.Random(5), 0
    before = asyncio.all_tasks()
    for number in range(3000 if LONG else 150):
        holder = sqlite3.connect(database.path, isolation_level=None) if held else None
        if holder:
            holder.execute("BEGIN IMMEDIATE")
        task = asyncio.ensure_future(cancelled(database, number, rng))
        if holder:
            await asyncio.sleep(rng.random() / 100)
            holder.execute("ROLLBACK")
            holder.close()
        under_way += await task
        assert await lock_is_free(database), number
    assert under_way > 30
    await until(lambda: asyncio.all_tasks() <= before)
    await store.close()
    await until(lambda: threading.active_count() <= threads)

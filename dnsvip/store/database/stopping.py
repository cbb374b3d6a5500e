"""Connections to SQLite that stop once, whoever asks for it, and however often.

A connection has a thread. A task that is cancelled closes its connection; where it is cancelled again meanwhile, the
driver stops the thread at once, and the close that is still under way would then wait for another answer of a thread
that is gone: for ever, and the end of the program with it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

import aiosqlite

ROWS = 64
"""Rows that are fetched from the thread at a time."""


class StoppingConnection(aiosqlite.Connection):
    """A connection whose thread is told to stop once; all wait for the same answer."""

    _stopped: asyncio.Future[Any] | None = None

    def stop(self) -> asyncio.Future[Any] | None:
        """Stop the thread once it has done what it was asked before."""
        if self._stopped is None:
            self._stopped = super().stop()
        return self._stopped


def connect(database: str, **options: Any) -> StoppingConnection:
    """A connection, for SQLAlchemy to await; no thread of it outlives the program."""
    connection = StoppingConnection(lambda: sqlite3.connect(database, **options), ROWS)
    connection._thread.daemon = True
    return connection

"""Ends what a task asks of a SQLite database from outside the task.

A statement runs in the thread of its connection and goes on when the task that waits for it is cancelled; who cancels
one tells the thread first. PostgreSQL's driver tells the server by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

_OPEN: ContextVar[set[Any] | None] = ContextVar("open", default=None)
"""The driver's connections that a task has open, for who may end it."""


class Statements:
    """What the tasks that begin within `watched` ask."""

    def __init__(self) -> None:
        self._open = set[Any]()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Take note of what tasks ask that begin within this context."""
        before = _OPEN.set(self._open)
        try:
            yield
        finally:
            _OPEN.reset(before)

    async def end(self) -> None:
        """End what is being asked now."""
        for connection in tuple(self._open):
            await connection.interrupt()


@contextmanager
def noted(connection: AsyncConnection) -> Iterator[None]:
    """Take note of an open SQLite connection of the running task."""
    connections, sync = _OPEN.get(), connection.sync_connection
    if connections is None or sync is None:
        yield
        return
    driver = sync.connection.driver_connection
    connections.add(driver)
    try:
        yield
    finally:
        connections.discard(driver)

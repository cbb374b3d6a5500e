"""Places for what callers ask of the database: so many at once in all, and so many of one caller.

Who has none waits, and a place that gets free goes to the caller with the fewest. A caller is told by its warrant; who
has none yet, as its token is still looked up, takes one of a few places apart, which nobody known can fill.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from dnsvip.errors import DatabaseBusy, OwnRequests

UNKNOWN = ""
"""The caller before it is known."""

FOR_UNKNOWN = 4
"""Places of those who are not known yet: each is held for the look-up of one token."""


class Places:
    """At most `total` places, and `per_caller` of one caller; who waits does so for at most `patience` seconds."""

    def __init__(self, total: int, per_caller: int, patience: float) -> None:
        self._total, self._per_caller, self._patience = total, per_caller, patience
        self._held: Counter[str] = Counter()
        self._holders: set[asyncio.Task[Any] | None] = set()
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []

    @property
    def most(self) -> int:
        """How many may be held at once, those of unknown callers included."""
        return self._total + FOR_UNKNOWN

    @asynccontextmanager
    async def place(self, caller: str) -> AsyncIterator[None]:
        """A place, or the one that the task has; raises OwnRequests or DatabaseBusy where none gets free in time."""
        task = asyncio.current_task()
        if task in self._holders:  # would wait for itself
            yield
            return
        await self._take(caller)
        self._holders.add(task)
        try:
            yield
        finally:
            self._holders.discard(task)
            self._give(caller)

    async def _take(self, caller: str) -> None:
        if self._may(caller):
            self._held[caller] += 1
            return
        free = asyncio.get_running_loop().create_future()
        waiting = caller, free
        self._waiting.append(waiting)
        try:
            async with asyncio.timeout(self._patience):
                await free
        except BaseException as error:
            if free.done() and not free.cancelled():  # it was given at the last moment
                self._give(caller)
            else:
                self._waiting.remove(waiting)
            if isinstance(error, TimeoutError):
                raise self._in_vain(caller) from None
            raise

    def _give(self, caller: str) -> None:
        self._held[caller] -= 1
        if not self._held[caller]:
            del self._held[caller]
        able = [waiting for waiting in self._waiting if self._may(waiting[0]) and not waiting[1].done()]
        if able:
            chosen = min(able, key=lambda waiting: self._held[waiting[0]])
            self._waiting.remove(chosen)
            self._held[chosen[0]] += 1
            chosen[1].set_result(None)

    def _may(self, caller: str) -> bool:
        if caller == UNKNOWN:
            return self._held[UNKNOWN] < FOR_UNKNOWN
        return self._held[caller] < self._per_caller and self._held.total() - self._held[UNKNOWN] < self._total

    def _in_vain(self, caller: str) -> DatabaseBusy:
        waited = f"this one has waited {self._patience:g} s for the database in vain"
        if caller != UNKNOWN and self._held[caller] >= self._per_caller:
            return OwnRequests(f"{self._held[caller]} requests of this token are using the database; {waited}")
        return DatabaseBusy(f"the database is busy with requests of others; {waited}")

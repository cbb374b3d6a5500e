"""When each of many streams is looked at, by one timer for all: one of the event loop for each costs more than the rest
of what is noted of a new connection."""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from typing import Protocol

WIDTH = 0.05
"""Seconds by which a stream may be looked at too late: those of so long are looked at together."""


class Due(Protocol):
    """A stream that will be looked at."""

    def look(self) -> None:
        """See whether its time is over."""


class Deadlines:
    """Those of one event loop, of which it is told when they are added."""

    def __init__(self) -> None:
        self._due: dict[int, dict[Due, None]] = {}
        self._moments: list[int] = []
        """The keys of `_due`, a heap."""
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0
        """When it runs."""

    def add(self, one: Due, when: float) -> int:
        """Have one looked at then, by the clock of the event loop; the moment, by which it is removed."""
        moment = int(when / WIDTH) + 1
        due = self._due.get(moment)
        if due is None:
            due = self._due[moment] = {}
            heappush(self._moments, moment)
        due[one] = None
        if self._timer is None or moment < self._next:
            self._schedule()
        return moment

    def remove(self, one: Due, moment: int) -> None:
        """Have one not looked at, if it still would be."""
        due = self._due.get(moment)
        if due is not None:
            due.pop(one, None)

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._moments and not self._due[self._moments[0]]:  # most streams end before their time
            del self._due[heappop(self._moments)]
        if self._moments:
            self._next = self._moments[0]
            self._timer = asyncio.get_running_loop().call_at(self._next * WIDTH, self._run)

    def _run(self) -> None:
        now = asyncio.get_running_loop().time() / WIDTH
        try:
            while self._moments and self._moments[0] <= now:
                due = self._due[self._moments[0]]
                while due:
                    due.popitem()[0].look()
                del self._due[heappop(self._moments)]
        finally:
            self._schedule()

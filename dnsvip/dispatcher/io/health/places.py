"""Places for the probes of all pools, so that no pool keeps the others' servers unchecked.

So many run at once, so many begin in a second, as packets wait for each, and who waits has a place in the turn of its
pool. A probe of a server that does not answer may take a minute: while others wait for a place, one ends that has had
LEAST_SECONDS, of the pool with most under way the one that has run longest.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

from dnsvip.fair_places import FairPlaces

LEAST_SECONDS = 1.0
"""What a probe has in any case, if its timeout is not shorter."""

PACE_SECONDS, AT_ONCE = 0.001, 8
"""Between the beginnings of two probes, a quarter of a millisecond of work each; so many may begin in a row."""

T = TypeVar("T")


class GaveWay(Exception):
    """A probe has ended for another one."""


class _Running(NamedTuple):
    """A probe that has a place: of which pool, since when."""

    pool: str
    since: float


class ProbePlaces(FairPlaces):
    """At most `most` probes at once. One event loop."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self._running: dict[asyncio.Task[Any], _Running] = {}
        """Those that have not been told to end, the first one first."""
        self._ended: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._pumping: asyncio.TimerHandle | None = None
        self._next = 0.0

    async def run(self, pool: str, probe: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of a probe, in the turn of its pool; raises GaveWay."""
        async with self.place(pool):
            task = asyncio.ensure_future(probe())
            self._running[task] = _Running(pool, asyncio.get_running_loop().time())
            try:
                return await task
            except asyncio.CancelledError:
                own = asyncio.current_task()
                if task in self._ended and not (own and own.cancelling()):
                    raise GaveWay from None
                raise
            finally:
                task.cancel()
                self._ended.discard(task)
                self._running.pop(task, None)

    def _pump(self) -> None:
        """Give free places to who waits, as far as it is time for the next ones."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._next = max(self._next, now - AT_ONCE * PACE_SECONDS)
        while self._free and self._next <= now and (given := self._waiting.take()) is not None:
            if not given.done():
                self._free -= 1
                self._next += PACE_SECONDS
                given.set_result(None)
        if not len(self._waiting):
            return
        if self._free and self._pumping is None:
            self._pumping = loop.call_at(self._next, self._pump_again)
        elif not self._free:
            self._hurry()

    def _pump_again(self) -> None:
        self._pumping = None
        self._pump()

    def _hurry(self) -> None:
        """End a probe of the pool with most once it has had its time, if others wait then."""
        if self._timer is None and len(self._waiting) and not self._free:
            loop, first = asyncio.get_running_loop(), self._first()
            since = loop.time() if first is None else self._running[first].since
            self._timer = loop.call_at(since + LEAST_SECONDS, self._end_first)

    def _end_first(self) -> None:
        self._timer = None
        late = asyncio.get_running_loop().time() - LEAST_SECONDS
        first = self._first() if len(self._waiting) and not self._free else None
        if first is not None and self._running[first].since <= late:
            del self._running[first]
            self._ended.add(first)
            first.cancel()
        self._hurry()

    def _first(self) -> asyncio.Task[Any] | None:
        """Of the probes of the pools that have most of them the one that has run longest."""
        numbers = Counter(one.pool for one in self._running.values())
        most = max(numbers.values(), default=0)
        return next((task for task, one in self._running.items() if numbers[one.pool] == most), None)

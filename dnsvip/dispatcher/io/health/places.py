"""Places for the probes of all pools, so that no pool keeps the others' servers unchecked.

So many run at once, so many begin in a second, as packets wait for each, and who waits has a place in the turn of its
pool. A probe of a server that does not answer may take a minute: while others wait for a place, one ends that has had
LEAST_SECONDS, and with what the pool's probes took in vain lately no less than others have had: that with most. A
quarter of the places are for probes that are spared then: twice LEAST_SECONDS, and twice as long after each time that
was not enough, those who need least first. So servers that answer slowly have their time beside very many pools that do
not answer.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

from dnsvip.dispatcher.io.health.probes import Result
from dnsvip.fair_places import FairPlaces

LEAST_SECONDS = 1.0
"""What a probe has in any case, if its timeout is not shorter."""

PACE_SECONDS, AT_ONCE = 0.001, 8
"""Between the beginnings of two probes, a quarter of a millisecond of work each; so many may begin in a row."""

LATELY_SECONDS = 10.0
"""What probes took in vain counts half after so long."""

CLOSE_SECONDS = 0.001
"""What is closer together is alike."""

SPARED_SHARE, MOST_DOUBLINGS = 4, 6
"""Of so many places one may be a spared probe's; how often the time of one doubles."""

MOST_POOLS = 4096
"""Pools of which is remembered what they had, the latest ones."""

R = TypeVar("R", bound=Result)
V = TypeVar("V")


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
        self._most_spared = max(1, most // SPARED_SHARE)
        self._spared: dict[asyncio.Task[Any], float] = {}
        """Those that run beyond LEAST_SECONDS though others wait, and until when."""
        self._spared_in_vain: OrderedDict[str, tuple[int, int]] = OrderedDict()
        """Of a pool, how often that was in vain, since one passed (then -1) and in all; the latest one comes last."""
        self._running: dict[asyncio.Task[Any], _Running] = {}
        """Those that have not been told to end."""
        self._ended: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._pumping: asyncio.TimerHandle | None = None
        self._next = 0.0
        self._in_vain: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Of a pool, the seconds that its probes took in vain, as of when; the latest one comes last."""

    async def run(self, pool: str, probe: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """The result of a probe, in the turn of its pool; raises GaveWay."""
        loop = asyncio.get_running_loop()
        async with self.place(pool):
            task, since, passed = asyncio.ensure_future(probe()), loop.time(), False
            self._running[task] = _Running(pool, since)
            try:
                result = await task
                passed = result.passed
                return result
            except asyncio.CancelledError:
                own = asyncio.current_task()
                if task in self._ended and not (own and own.cancelling()):
                    raise GaveWay from None
                raise
            finally:
                task.cancel()
                self._ended.discard(task)
                self._running.pop(task, None)
                spared = self._spared.pop(task, None)
                if not passed:
                    self._note(pool, loop.time() - since)
                if spared is not None:
                    self._note_spared(pool, passed=passed)

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
        """End a probe once it has had its time, if others wait then."""
        if self._timer is None and len(self._waiting) and not self._free:
            loop = asyncio.get_running_loop()
            since = min((self._running[task].since for task, _ in self._greedy()), default=loop.time())
            self._timer = loop.call_at(since + LEAST_SECONDS, self._end_one)

    def _end_one(self) -> None:
        self._timer = None
        if len(self._waiting) and not self._free:
            late = asyncio.get_running_loop().time() - LEAST_SECONDS + CLOSE_SECONDS
            may_end = [(task, seconds) for task, seconds in self._greedy() if self._running[task].since <= late]
            if may_end and not self._spare([task for task, _ in may_end]):
                task, _ = max(may_end, key=itemgetter(1))
                del self._running[task]
                self._ended.add(task)
                task.cancel()
        self._hurry()

    def _spare(self, tasks: Sequence[asyncio.Task[Any]]) -> bool:
        """Spare one of the probes that would end, in place of one whose pool was spared more often, or has more that
        are, where there are enough; False where none may be."""
        now = asyncio.get_running_loop().time()
        spared = [task for task, until in self._spared.items() if until > now]
        new = [task for task in tasks if task not in self._spared]
        if not new:
            return False
        beside = Counter(self._running[task].pool for task in spared)

        def needs(task: asyncio.Task[Any]) -> tuple[int, int]:
            others = beside[self._running[task].pool] - (task in self._spared)
            return self._times_of(task)[0], others

        task = min(new, key=needs)
        if len(spared) >= self._most_spared:
            most = max(spared, key=needs)
            if needs(most) <= needs(task):
                return False
            self._spared[most] = now
        _, in_all = self._times_of(task)
        self._spared[task] = now + LEAST_SECONDS * ((2 << min(in_all, MOST_DOUBLINGS)) - 1)
        return True

    def _times_of(self, task: asyncio.Task[Any]) -> tuple[int, int]:
        """How often probes of a probe's pool were spared in vain."""
        return self._spared_in_vain.get(self._running[task].pool, (0, 0))

    def _greedy(self) -> list[tuple[asyncio.Task[Any], float]]:
        """The probes that have had no less than others on average, and what they have had: seconds of their own and
        those that their pool's took in vain. Those that are being spared are not among them."""
        now = asyncio.get_running_loop().time()
        had = [
            (task, now - one.since + self._seconds_in_vain(one.pool, now))
            for task, one in self._running.items()
            if self._spared.get(task, now) <= now
        ]
        mean = sum(seconds for _, seconds in had) / max(len(had), 1)
        return [(task, seconds) for task, seconds in had if seconds >= mean - CLOSE_SECONDS]

    def _seconds_in_vain(self, pool: str, now: float) -> float:
        seconds, at = self._in_vain.get(pool, (0.0, now))
        return seconds * math.exp2((at - now) / LATELY_SECONDS)

    def _note(self, pool: str, seconds: float) -> None:
        """Remember that a probe took time in vain."""
        now = asyncio.get_running_loop().time()
        _remember(self._in_vain, pool, (self._seconds_in_vain(pool, now) + seconds, now))

    def _note_spared(self, pool: str, *, passed: bool) -> None:
        """Remember whether it was of use to spare a probe: the next one has as long, or twice as long."""
        since_passed, in_all = self._spared_in_vain.get(pool, (0, 0))
        _remember(self._spared_in_vain, pool, (-1, in_all) if passed else (since_passed + 1, in_all + 1))


def _remember(pools: OrderedDict[str, V], pool: str, value: V) -> None:
    pools[pool] = value
    pools.move_to_end(pool)
    if len(pools) > MOST_POOLS:
        pools.popitem(last=False)

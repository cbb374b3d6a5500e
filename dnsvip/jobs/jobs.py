"""Expensive work in processes of its own: so many at a time in all and of one owner, bounded waiting, bounded time.

A job ends when its caller is cancelled: the process is killed. Processes are kept for the next job for a while.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import IO, Any

from dnsvip.errors import DnsvipError
from dnsvip.fair_places import may_wait
from dnsvip.jobs.channel import Job
from dnsvip.jobs.process import JobProcess, Take

PLACE_SECONDS = 60.0
"""That a job waits for a process that is free."""

TURN_SECONDS = 60.0
"""That an operation waits for others of the same owner."""

KEPT_SECONDS = 30.0
"""That a process without a job is kept."""

SHARE = 4
"""One owner takes at most this part of the places to wait."""


class Busy(DnsvipError):
    """Too many are waiting already; nothing has been done."""


class OwnTurn(Busy):
    """Too many operations of the same owner are waiting, or they take too long."""


class TooLong(DnsvipError):
    """A job took too long and has been stopped."""


class Jobs:
    """At most `processes` jobs at a time, `per_owner` of one owner, and `waiting` others that wait."""

    def __init__(self, processes: int = 2, per_owner: int = 1, waiting: int = 64, bytes_: int = 2 << 30) -> None:
        self._per_owner, self._waiting, self._bytes = per_owner, waiting, bytes_
        self._places = asyncio.Semaphore(processes)
        self._owners: Counter[str] = Counter()
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._idle: dict[JobProcess, asyncio.TimerHandle] = {}
        self._running: set[JobProcess] = set()
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def pids(self) -> list[int]:
        """The processes."""
        return [process.pid for process in (*self._idle, *self._running)]

    @property
    def running(self) -> int:
        """How many work now."""
        return len(self._running)

    @asynccontextmanager
    async def turn(self, owner: str, patience: float = TURN_SECONDS) -> AsyncIterator[None]:
        """The turn of an owner; raises OwnTurn where too many of it wait, or this one has for `patience` seconds, and
        Busy where too many of all wait and it has its part of them."""
        if self._owners[owner] >= self._per_owner + max(1, self._waiting // SHARE):
            raise OwnTurn(f"{self._owners[owner]} expensive operations of this token wait already")
        if not may_wait(self._owners, owner, self._waiting):
            raise Busy(f"{self._waiting} expensive operations wait already")
        turn = self._turns.setdefault(owner, asyncio.Semaphore(self._per_owner))
        self._owners[owner] += 1
        try:
            try:
                async with asyncio.timeout(patience):
                    await turn.acquire()
            except TimeoutError:
                text = f"an expensive operation of this token has been going on for {patience:g} s"
                raise OwnTurn(f"{text}; this one has waited for its turn in vain") from None
            try:
                yield
            finally:
                turn.release()
        finally:
            self._owners[owner] -= 1
            if not self._owners[owner]:
                del self._owners[owner], self._turns[owner]

    async def run(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        seconds: float,
        files: tuple[IO[Any], ...] = (),
        take: Take | None = None,
        keep: bool = False,
        patience: float = PLACE_SECONDS,
    ) -> Any:
        """The result of a function in a process. Raises what it raised, TooLong, DnsvipError, and Busy where none is
        free after `patience` seconds.

        It is called with the arguments and then the files, and may be a coroutine function, or an asynchronous
        generator of bytes, which `take` takes. `seconds` begin with its process. With `keep`
        the result is large and stays: the garbage collector will not look at it.
        """
        async with self._place(patience):
            process = self._kept() or await JobProcess.start(self._bytes)
            self._running.add(process)
            job = Job(function, arguments, len(files))
            try:
                async with asyncio.timeout(seconds):
                    result = await process.run(job, [file.fileno() for file in files], take, keep=keep)
            except TimeoutError:
                self._end(process)
                raise TooLong(f"took longer than {seconds:g} s and has been stopped") from None
            except BaseException:  # the process may be in the midst of it
                self._end(process)
                raise
            self._running.discard(process)
            later = asyncio.get_running_loop().call_later(KEPT_SECONDS, self._end, process)
            self._idle[process] = later
            return result

    @asynccontextmanager
    async def _place(self, patience: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(patience):
                await self._places.acquire()
        except TimeoutError:
            raise Busy(f"every process for expensive operations has been busy for {patience:g} s") from None
        try:
            yield
        finally:
            self._places.release()

    async def close(self) -> None:
        """Kill all."""
        for process in (*self._idle, *self._running):
            self._end(process)
        await asyncio.gather(*self._ending)

    def _kept(self) -> JobProcess | None:
        if not self._idle:
            return None
        process, later = self._idle.popitem()
        later.cancel()
        return process

    def _end(self, process: JobProcess) -> None:
        self._running.discard(process)
        if later := self._idle.pop(process, None):
            later.cancel()
        self._ending.add(task := asyncio.ensure_future(process.end()))
        task.add_done_callback(self._ending.discard)

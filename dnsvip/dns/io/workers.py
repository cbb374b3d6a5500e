"""Several processes answering on the same ports: started, watched, restarted, stopped; their counters summed.

Each worker is a program of its own (`argv`) with its own feed and server: it shares nothing with the others but
the ports (SO_REUSEPORT), so one that fails takes no other with it. It reports to the parent by lines of JSON on its
standard output: that it is ready, and its counters. It stops when its standard input ends. What a worker answers
is unknown here.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import structlog

from dnsvip.dns.io.listen import Endpoint
from dnsvip.errors import PlatformError
from dnsvip.jobs.parent import die_with_parent

Totals: TypeAlias = Mapping[str, Mapping[str, int]]

REPORT_SECONDS = 0.25
"""Seconds between a worker's reports of its counters."""

SILENT_SECONDS = 30.0
"""A worker that is silent for this long is stuck, and killed."""

LONGEST_LINE = 1 << 20
"""Bytes of one report; its counters name the tiers of the site."""

STOP_SECONDS = 5.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""Between a worker's end and the next one in its place, doubled each time until one lives as long as the longest."""

_LIVE = "_open"
"""How numbers of a state end, which a worker that has ended does not leave behind."""

log = structlog.get_logger()


class Workers:
    """`number` processes running `argv`, from `start` to `stop`. Belongs to the running event loop."""

    def __init__(self, argv: Sequence[str], number: int) -> None:
        self.endpoints: tuple[Endpoint, ...] = ()
        self._argv = argv
        self._places = [_Place() for _ in range(number)]
        self._tasks: list[asyncio.Task[None]] = []
        self._ended: dict[str, dict[str, int]] = {}

    async def start(self) -> None:
        """Return when all are ready; raises PlatformError with the first failure, and stops all."""
        self._tasks = [asyncio.create_task(self._keep(place)) for place in self._places]
        try:
            self.endpoints = (await asyncio.gather(*(place.ready for place in self._places)))[0]
        except PlatformError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop all, and kill those that do not."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks, self.endpoints = [], ()

    def counters(self) -> Totals:
        """Totals of all workers since the start, those that have ended included."""
        total: dict[str, dict[str, int]] = {}
        for part in (self._ended, *(place.counters for place in self._places)):
            add(total, part)
        return total

    @property
    def pids(self) -> list[int]:
        """The processes running now."""
        return [place.process.pid for place in self._places if place.process]

    def signal(self, number: signal.Signals) -> None:
        """Signal all that run now; one that has just ended misses it."""
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    async def _keep(self, place: _Place) -> None:
        """Keep a worker running in this place."""
        pause, loop = FIRST_PAUSE, asyncio.get_running_loop()
        while True:
            started = loop.time()
            status = await self._run(place)
            if not place.ready.done():
                place.ready.set_exception(PlatformError(place.failure or f"a DNS worker ended with status {status}"))
                return
            if loop.time() - started > LONGEST_PAUSE:
                pause = FIRST_PAUSE
            log.error("a DNS worker has ended, starting another", status=status, why=place.failure, seconds=pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _run(self, place: _Place) -> int:
        """One worker from its start to its end; its exit status."""
        place.process = process = await asyncio.create_subprocess_exec(
            *self._argv, stdin=PIPE, stdout=PIPE, limit=LONGEST_LINE
        )
        place.failure = ""
        try:
            await _listen(process, place)
        finally:
            await asyncio.shield(_end(process))
            place.process = None
            add(self._ended, place.counters, without=_LIVE)
            place.counters = {}
        return process.returncode or 0


class _Place:
    """The place of one worker, and of its replacements."""

    def __init__(self) -> None:
        self.ready: asyncio.Future[tuple[Endpoint, ...]] = asyncio.get_running_loop().create_future()
        self.process: Process | None = None
        self.counters: Totals = {}
        self.failure = ""


async def _listen(process: Process, place: _Place) -> None:
    """Read a worker's reports until it ends, or is silent for too long after it was ready."""
    assert process.stdout  # noqa: S101 - it was asked for
    patience: float | None = None
    while True:
        try:
            line = await asyncio.wait_for(process.stdout.readline(), patience)
        except TimeoutError:
            place.failure = f"was silent for {SILENT_SECONDS:g} seconds"
            process.kill()
            return
        if not line:
            return
        try:
            report = json.loads(line)
        except ValueError:  # cut short by its end
            continue
        place.counters = report.get("counters", place.counters)
        place.failure = report.get("failed", "")
        if "ready" in report:
            patience = SILENT_SECONDS
            if not place.ready.done():
                place.ready.set_result(tuple(Endpoint(*endpoint) for endpoint in report["ready"]))


async def _end(process: Process) -> None:
    """Let a worker stop; kill it where it does not."""
    assert process.stdin  # noqa: S101 - it was asked for
    process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()


def add(total: dict[str, dict[str, int]], part: Totals, without: str | None = None) -> None:
    """Add up groups of numbers, into `total`, without those whose names end so."""
    for group, numbers in part.items():
        sums = total.setdefault(group, {})
        for name, number in numbers.items():
            if without is None or not name.endswith(without):
                sums[name] = sums.get(name, 0) + number


class Parent:
    """The parent as the worker sees it; created first, before anything slow.

    The worker ends when its parent does, whatever it is doing, or when the parent says so: not by the
    signals that a terminal or a service manager sends to a whole process group.
    """

    def __init__(self) -> None:
        die_with_parent()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self._out = os.dup(sys.stdout.fileno())
        os.set_blocking(self._out, False)
        self._rest = b""
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # anything else printed is for people

    def report(self, **fields: Any) -> None:
        """Report to the parent. What a full pipe does not take of a line now goes before the next one, which is left
        out where the rest of the last has yet to go; the parent misses only what the next report repeats."""
        if not self._rest:
            self._rest = json.dumps(fields).encode() + b"\n"
        with suppress(BlockingIOError, BrokenPipeError):
            self._rest = self._rest[os.write(self._out, self._rest) :]

    async def stopped(self, counters: Callable[[], Totals]) -> None:
        """Report the counters until the parent stops this worker."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        stdin = sys.stdin.fileno()
        loop.add_reader(stdin, ended.set)  # nothing is ever written there: it can only end
        try:
            while not ended.is_set():
                self.report(counters=counters())
                with suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), REPORT_SECONDS)
        finally:
            loop.remove_reader(stdin)

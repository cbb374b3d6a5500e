"""Adds what clients use at this dispatcher to the sums in the database, every few seconds.

What the database does not take stays until it does, of at most MOST_WAITING clients. Each round has those that have
used most since their last, at most MOST_AT_ONCE; the others follow.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import reduce
from heapq import nlargest

import structlog

from dnsvip.dispatcher.flows.usage import MOST, Used, added
from dnsvip.dispatcher.io.data_plane import DataPlane
from dnsvip.errors import DnsvipError
from dnsvip.node.figures import DispatcherTop
from dnsvip.store.following.follower import SnapshotFollower

SECONDS = 5.0
PRUNE_SECONDS = 3600.0
MOST_AT_ONCE = 2000
MOST_WAITING = 2 * MOST

log = structlog.get_logger()


class UsageReport:
    """Reports from `run` on, and once more at the end. What a program in the kernel counted before that is left out.
    `total` is what all clients have used since then, `top` knows who uses most."""

    def __init__(self, runner: DataPlane, follower: SnapshotFollower, top: DispatcherTop) -> None:
        self._runner, self._follower, self.top = runner, follower, top
        self.total = Used()
        self._waiting: dict[int, Used] = {}
        self._one_by_one = asyncio.Lock()
        self._pruned = 0.0

    async def run(self) -> None:
        """Report until cancelled."""
        await self._runner.take_usage()
        try:
            while True:
                await asyncio.sleep(SECONDS)
                await asyncio.shield(self._report())  # what was taken is not lost when this ends
        finally:
            await asyncio.shield(self._report())

    async def _report(self) -> None:
        async with self._one_by_one:
            used = await self._runner.take_usage()
            self.total = reduce(Used.plus, used.values(), self.total)
            self.top.used(used)
            self._waiting = added(self._waiting, used, MOST_WAITING)
            await self._store()

    async def _store(self) -> None:
        store = self._follower.store
        if store is None:
            return
        more = largest(self._waiting, MOST_AT_ONCE)
        try:
            if more:
                await store.usage.add(self._follower.name, more, self._follower.now())
                for client in more:
                    del self._waiting[client]
            if time.monotonic() - self._pruned > PRUNE_SECONDS or not self._pruned:
                await store.usage.prune()
                self._pruned = time.monotonic()
        except DnsvipError as error:
            log.debug("cannot report usage", error=str(error))


def largest(used: Mapping[int, Used], most: int) -> dict[int, Used]:
    """What the clients have used that have used most."""
    return {client: used[client] for client in nlargest(most, used, key=lambda client: used[client])}

"""So many at once: places for what a node itself sends, in the turn of their owners; and who may wait for others."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dnsvip.fair_queue import FairQueue


def may_wait(waiting: Counter[str], owner: str, most: int) -> bool:
    """Whether one more of an owner may wait where so many of each owner do (0 of none), and `most` in all. Where all
    places are taken, who has less than its part of them may all the same: some owners together keep nobody out. No
    more than one of each owner is beyond `most` where there are as many owners as places."""
    part = most // (len(waiting) + (owner not in waiting))
    return waiting.total() < most or waiting[owner] < max(1, part)


class FairPlaces:
    """At most `most` places. One that gets free goes to the owners in turn, however many wait for one of them."""

    def __init__(self, most: int) -> None:
        self._free = most
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue(sys.maxsize)

    @asynccontextmanager
    async def place(self, owner: str) -> AsyncIterator[None]:
        """A place for an owner, waited for as long as it takes."""
        await self._take(owner)
        try:
            yield
        finally:
            self._give()

    async def _take(self, owner: str) -> None:
        given = asyncio.get_running_loop().create_future()
        self._waiting.put(owner.encode(), given)
        self._pump()
        try:
            await given
        except asyncio.CancelledError:
            if given.done() and not given.cancelled():  # it was given at the last moment
                self._give()
            raise

    def _give(self) -> None:
        self._free += 1
        self._pump()

    def _pump(self) -> None:
        """Give free places to who waits."""
        while self._free and (given := self._waiting.take()) is not None:
            if not given.done():
                self._free -= 1
                given.set_result(None)

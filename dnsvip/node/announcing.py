"""Announces prefixes by routes in the kernel while this process is ready for them, and withdraws them first of all.

It needs neither the database nor a token: what speaks against a prefix is known in the process. Routing daemons (BIRD,
FRR, ExaBGP) pass the routes on; deploy/bgp has their files.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import structlog

from dnsvip.errors import DnsvipError
from dnsvip.node.announced_routes import AnnouncedRoutes, Prefix
from dnsvip.site.announcement import Announcement, advance
from dnsvip.site.readiness import Reason

LOOK_SECONDS = 0.1
"""How often readiness is looked at; a signal to stop is acted on at once."""

REPAIR_SECONDS = 3.0
"""How often routes are made again that others have removed, or that the kernel has refused."""

log = structlog.get_logger(__name__)


class Announcer:
    """The announcements of one process. `against` gives for each prefix the reasons against it, now."""

    def __init__(
        self,
        routes: AnnouncedRoutes,
        against: Callable[[], Mapping[Prefix, Collection[Reason]]],
        grace_seconds: Callable[[], float],
        hold_seconds: float,
    ) -> None:
        self._routes, self._against = routes, against
        self._grace_seconds, self._hold_seconds = grace_seconds, hold_seconds
        self._now: dict[Prefix, Announcement] = {}
        self._repaired = float("-inf")
        self._worker = ThreadPoolExecutor(1, "announce")

    async def run(self, stopping: asyncio.Event) -> None:
        """Keep the routes as they should be, until cancelled; then withdraw them."""
        try:
            while True:
                try:
                    await self._step()
                except Exception as error:
                    log.exception("cannot announce, trying again", error=str(error))
                await _pause(stopping)
        finally:
            await asyncio.shield(self._in_worker(self._close))
            self._worker.shutdown()

    async def _step(self) -> None:
        at, against = time.monotonic(), self._against()
        before, now = self._now, dict[Prefix, Announcement]()
        for prefix, reasons in against.items():
            codes = {reason.code for reason in reasons}
            was = before.get(prefix, Announcement())
            now[prefix] = advance(was, codes, at, self._grace_seconds(), self._hold_seconds)
        self._now = now
        changed = [name for name, one in now.items() if one.standing is not before.get(name, Announcement()).standing]
        if not changed and before.keys() == now.keys() and at < self._repaired + REPAIR_SECONDS:
            return
        self._repaired = at
        await self._in_worker(lambda: self._routes.align({prefix: one.standing for prefix, one in now.items()}))
        for prefix in changed:
            why = [reason.message for reason in against[prefix]]
            standing = now[prefix].standing.name.lower()
            log.info("route", prefix=str(prefix), standing=standing, **({"why": why} if why else {}))

    async def _in_worker(self, work: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._worker, work)

    def _close(self) -> None:
        with suppress(DnsvipError):
            self._routes.close()


async def _pause(stopping: asyncio.Event) -> None:
    """Wait for the next look; where the signal to stop comes meanwhile, no longer."""
    if stopping.is_set():
        await asyncio.sleep(LOOK_SECONDS)
        return
    with suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), LOOK_SECONDS)

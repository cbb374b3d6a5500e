"""Reports when DNS tokens were last used in this process, once a minute at most; no query ever waits for it."""

from __future__ import annotations

import asyncio

import structlog

from dnsvip.dns.io.server import DnsServer
from dnsvip.errors import DnsvipError
from dnsvip.store.following.follower import SnapshotFollower

SECONDS = 60.0

log = structlog.get_logger()


class TokenReport:
    """Reports from `run` on, and once more at the end. What the database does not take waits, within bounds."""

    def __init__(self, server: DnsServer, follower: SnapshotFollower) -> None:
        self._server, self._follower = server, follower
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Report until cancelled."""
        try:
            while True:
                await asyncio.sleep(SECONDS)
                await asyncio.shield(self._report())
        finally:
            await asyncio.shield(self._report())

    async def _report(self) -> None:
        async with self._turn:  # the last one waits for one that is under way
            store, check = self._follower.store, self._server.engine.tokens
            if store is None or not check.uses:
                return
            uses = check.take_uses()
            try:
                await store.dns_token_uses.add(uses)
            except DnsvipError as error:
                check.give_back(uses)
                log.debug("cannot report the use of DNS tokens", error=str(error))

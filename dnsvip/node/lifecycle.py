"""What every long-running process shares: stop on a signal, run tasks until one ends, follow the database."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress

import structlog

from dnsvip.node.sd_notify import Notifier
from dnsvip.site.node_file import NodeConfig
from dnsvip.site.zone_changes import ZoneDiffer
from dnsvip.store.following.follower import SnapshotFollower

log = structlog.get_logger(__name__)


class Stopping:
    """The end of a process in two steps: `asked` by SIGTERM or SIGINT, and over `grace_seconds` later, or at once by
    the next signal. In between it works as before, and says that it should get no more traffic."""

    def __init__(self) -> None:
        self.asked, self._at_once = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)

    def _signalled(self) -> None:
        (self._at_once if self.asked.is_set() else self.asked).set()

    async def over(self, notifier: Notifier, grace_seconds: Callable[[], float]) -> None:
        """Return when the process is to stop; the service manager is told when that begins."""
        await self.asked.wait()
        notifier.stopping()
        if seconds := grace_seconds():
            log.info("stopping, without new traffic first", seconds=seconds)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._at_once.wait(), seconds)


def stop_on_signal() -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets."""
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    return stopped


async def run_until_one_ends(work: Iterable[Awaitable[object]]) -> None:
    """Run all until the first ends, by being stopped or by an error, which is raised; cancel the others."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@asynccontextmanager
async def following(
    node: NodeConfig, roles: Sequence[str], differ: ZoneDiffer | None = None
) -> AsyncIterator[SnapshotFollower]:
    """A started follower of the node's database, while the context lasts. With `differ` what it changes in zones is
    kept for incremental transfers."""
    follower = SnapshotFollower(node, roles, differ=differ)
    await follower.start()
    try:
        yield follower
    finally:
        await follower.close()

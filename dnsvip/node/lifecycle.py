"""What every long-running process shares: stop on a signal, run tasks until one ends, follow the database."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from contextlib import asynccontextmanager

from dnsvip.node.large_zones import Comparing
from dnsvip.site.node_file import NodeConfig
from dnsvip.store.following.follower import SnapshotFollower


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
async def following(node: NodeConfig, roles: Sequence[str]) -> AsyncIterator[SnapshotFollower]:
    """A started follower of the node's database, while the context lasts."""
    comparing = Comparing()
    follower = SnapshotFollower(node, roles, differ=comparing.change)
    await follower.start()
    try:
        yield follower
    finally:
        await follower.close()
        await comparing.close()

"""SIGHUP: the node file is read again, and what can change while a process runs does. The rest is named and waits."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeAlias

import structlog

from dnsvip.errors import ConfigError
from dnsvip.node.sd_notify import Notifier
from dnsvip.site.io.files import load_node
from dnsvip.site.node_file import NodeConfig
from dnsvip.telemetry.log import configure

LIVE = frozenset(
    {
        "log",
        "dns.identity",
        "dns.version",
        "dns.nsid",
        "dns.require_cookies",
        "dns.rate_limit",
        "dns.tcp",
        "metrics.allow",
        "metrics.stale_seconds",
    }
)
"""Keys of the node file, and tables, that are taken over at once; all others need a restart."""

MOST_WAITING = 2
"""Reloads at a time: the one that runs, and one more, which sees whatever changed meanwhile."""

Taken: TypeAlias = Callable[[NodeConfig], Awaitable[None] | None]

log = structlog.get_logger()


class Live:
    """The node file of a running process. `node` holds it as it is in force; who depends on a part of it subscribes."""

    def __init__(self, node_file: Path, node: NodeConfig) -> None:
        self.node = node
        self._file = node_file
        self._takers: list[Taken] = []

    def subscribe(self, taken: Taken) -> None:
        """Have `taken` called with each node file that is read anew."""
        self._takers.append(taken)

    async def reload(self, notifier: Notifier, status: str) -> None:
        """Read the file; where it is wrong, or cannot be read, all stays as it is, and the log says why."""
        notifier.reloading()
        try:
            node = load_node(self._file)
        except ConfigError as error:
            log.error("the node file is wrong, going on as before", error=str(error))
        else:
            await self._take(node)
        notifier.ready(status)

    async def _take(self, node: NodeConfig) -> None:
        changed = list(differences(self.node, node))
        live = [key for key in changed if is_live(key)]
        self.node = node
        configure(node.log)
        for taken in self._takers:
            if isinstance(waiting := taken(node), Awaitable):
                await waiting
        later = [key for key in changed if key not in live]
        log.info("node file read again", changed=live, **({"only_after_a_restart": later} if later else {}))


def reload_on_hangup(live: Live, notifier: Notifier, status: str) -> None:
    """Reload on SIGHUP from now on; one after the other, however many come."""
    loop, turn, tasks = asyncio.get_running_loop(), asyncio.Lock(), set[asyncio.Task[None]]()

    async def reload() -> None:
        async with turn:
            await live.reload(notifier, status)

    def hangup() -> None:
        if len(tasks) < MOST_WAITING:
            tasks.add(task := loop.create_task(reload()))
            task.add_done_callback(tasks.discard)

    loop.add_signal_handler(signal.SIGHUP, hangup)


def is_live(key: str) -> bool:
    """Whether a key can change while the process runs."""
    return any(key == each or key.startswith(f"{each}.") for each in LIVE)


def differences(before: Any, after: Any, head: str = "") -> Iterator[str]:
    """The dotted keys of two node files (or tables of them) whose values differ."""
    if before == after:
        return
    if type(before) is not type(after) or not is_dataclass(before):
        yield head
        return
    for each in fields(before):
        path = f"{head}.{each.name}" if head else each.name
        yield from differences(getattr(before, each.name), getattr(after, each.name), path)

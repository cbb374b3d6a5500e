"""SIGHUP: reload the node file. Settings that can change at run time do; the others are logged and need a restart."""

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
        "grace_seconds",
    }
)
"""Keys and tables of the node file that a reload applies; all others need a restart."""

MOST_WAITING = 2
"""Reloads at a time: the running one and one more, which sees every later change."""

Subscriber: TypeAlias = Callable[[NodeConfig], Awaitable[None] | None]

log = structlog.get_logger()


class LiveConfig:
    """The node file of a running process: `node` is the one in force; parts that depend on it subscribe."""

    def __init__(self, node_file: Path, node: NodeConfig) -> None:
        self.node = node
        self._file = node_file
        self._subscribers: list[Subscriber] = []

    def subscribe(self, subscriber: Subscriber) -> None:
        """Call `subscriber` with each reloaded node file."""
        self._subscribers.append(subscriber)

    async def reload(self, notifier: Notifier, status: str) -> None:
        """Reload the file; where it is invalid or unreadable nothing changes, and the log says why."""
        notifier.reloading()
        try:
            node = load_node(self._file)
        except ConfigError as error:
            log.error("the node file is invalid, keeping the previous one", error=str(error))
        else:
            await self._take(node)
        notifier.ready(status)

    async def _take(self, node: NodeConfig) -> None:
        changed = list(differences(self.node, node))
        live = [key for key in changed if is_live(key)]
        self.node = node
        configure(node.log)
        for subscriber in self._subscribers:
            if isinstance(pending := subscriber(node), Awaitable):
                await pending
        later = [key for key in changed if key not in live]
        log.info("node file reloaded", changed=live, **({"only_after_a_restart": later} if later else {}))


def reload_on_hangup(live: LiveConfig, notifier: Notifier, status: str) -> None:
    """Reload on SIGHUP from now on, one at a time."""
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
    """Whether a key can change at run time."""
    return any(key == live or key.startswith(f"{live}.") for live in LIVE)


def differences(before: Any, after: Any, head: str = "") -> Iterator[str]:
    """The dotted keys of two node files (or tables of them) whose values differ."""
    if before == after:
        return
    if type(before) is not type(after) or not is_dataclass(before):
        yield head
        return
    for field in fields(before):
        path = f"{head}.{field.name}" if head else field.name
        yield from differences(getattr(before, field.name), getattr(after, field.name), path)

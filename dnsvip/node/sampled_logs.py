"""A sampled log of a process, as the node file says; a reload reconfigures it. query_logs.py and flow_log.py use it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from dnsvip.node.reload import LiveConfig
from dnsvip.site.node_file import NodeConfig
from dnsvip.site.node_log import DnstapSettings, SampleSettings
from dnsvip.telemetry.sample_log import SampleLog, T

S = TypeVar("S", SampleSettings, DnstapSettings)
Use = Callable[[SampleLog[T, Any] | None, int], None]


@contextmanager
def configured(
    live: LiveConfig,
    settings_of: Callable[[NodeConfig], S | None],
    make: Callable[[S], SampleLog[T, Any]],
    use: Use[T],
) -> Iterator[None]:
    """A log with the current settings; with unchanged settings a reload reopens its file, for logrotate."""
    current: list[tuple[S, SampleLog[T, Any]]] = []

    def take(node: NodeConfig) -> None:
        settings = settings_of(node)
        if current and current[0][0] == settings:
            current[0][1].reopen()
            return
        log = make(settings) if settings else None
        if log:
            log.start()
        use(log, settings.one_in if settings else 1)
        for _, previous in current:
            previous.stop()
        current[:] = [(settings, log)] if settings and log else []

    take(live.node)
    live.subscribe(take)
    try:
        yield
    finally:
        use(None, 1)
        for _, log in current:
            log.stop()

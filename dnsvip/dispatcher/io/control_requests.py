"""The requests of the control socket (control.py): status, flows, purge, watch, top.

Flows are read in slices, and packets are queued for a watcher in a bounded queue: a slow client loses packets, which
are counted in its answer, and never delays the data plane.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from math import inf
from typing import Any, TypeAlias

from dnsvip.dispatcher.observe.as_json import event_json, flow_json
from dnsvip.dispatcher.observe.filter import CompiledFilter, read_filter
from dnsvip.dispatcher.observe.plane import Event, Flow, ObservedPlane
from dnsvip.errors import ConfigError

SLICE = 500
"""Flows read before packets get their turn again."""
MOST_FLOWS = 100_000
"""Flows in one answer."""
QUEUE = 1000
"""Packets queued for a watcher."""
MOST_GROUPS = 10_000
"""Groups that `top` counts apart; packets of any further group are counted together."""
LONGEST_TOP = 60
"""Seconds."""
LONGEST_FLOWS = 3600
"""Seconds."""

Request: TypeAlias = dict[str, Any]
Answer: TypeAlias = AsyncGenerator[dict[str, Any]]


class Responder:
    """Answers requests about one data plane; every method raises ConfigError for a parameter that is not valid."""

    def __init__(self, plane: ObservedPlane, status: Callable[[], dict[str, Any]]) -> None:
        self._plane, self._status = plane, status

    async def status(self, _: Request) -> Answer:
        """The status of the runner."""
        yield self._status()
        yield {"end": True}

    async def flows(self, request: Request) -> Answer:
        """The flows that match, at most `limit` of them; the end has the number of all that match, and is `cut`
        where the `seconds` that were given for it ended before the table."""
        selection, limit = self._selection(request), _number(request, "limit", 1000, MOST_FLOWS)
        until = time.monotonic() + _number(request, "seconds", LONGEST_FLOWS, LONGEST_FLOWS)
        count = 0
        async for flow in self._matching(selection, until):
            count += 1
            if count <= limit:
                yield {"flow": flow_json(flow, selection, time.time())}
        yield {"end": True, "flows": count, **({"cut": True} if time.monotonic() >= until else {})}

    async def purge(self, request: Request) -> Answer:
        """Remove the flows that match."""
        selection = self._selection(request)
        purged = 0
        async for flow in self._matching(selection):
            purged += self._plane.table.forget(flow.key)
        yield {"end": True, "purged": purged}

    async def _matching(self, selection: CompiledFilter, until: float = inf) -> AsyncIterator[Flow]:
        for number, flow in enumerate(self._plane.table.flows(), 1):
            if selection.matches_flow(flow, time.time()):
                yield flow
            if not number % SLICE:
                await asyncio.sleep(0)
                if time.monotonic() >= until:
                    return

    async def watch(self, request: Request) -> Answer:
        """The packets that match, without end; `lost` counts those dropped because the client was too slow, `unseen`
        those that the data plane did not show."""
        selection, queue, wake = self._selection(request), deque[Event](), asyncio.Event()
        lost, events = 0, self._plane.events
        before = events.missed

        def sink(event: Event) -> None:
            nonlocal lost
            if not selection.matches_event(event, event.at / 1e9):
                return
            if len(queue) >= QUEUE:
                lost += 1
                return
            queue.append(event)
            wake.set()

        stop = events.watch(sink, selection.criteria)
        try:
            yield {"watching": True}
            while True:
                await wake.wait()
                wake.clear()
                while queue:
                    yield {"packet": event_json(queue.popleft(), selection)}
                if lost or events.missed != before:
                    yield {"lost": lost, "unseen": events.missed - before}
                    lost, before = 0, events.missed
        finally:
            stop()

    async def top(self, request: Request) -> Answer:
        """The flows, sources, servers and so on (`by`) with the most packets within `seconds`."""
        selection, by = self._selection(request), request.get("by", "flow")
        seconds, limit = _number(request, "seconds", 2, LONGEST_TOP), _number(request, "limit", 20, 1000)
        if by not in GROUPS:
            raise ConfigError(f"{by!r}: packets are grouped by {', '.join(GROUPS)}")
        packets, size = Counter[tuple[Any, ...]](), Counter[tuple[Any, ...]]()

        def sink(event: Event) -> None:
            if selection.matches_event(event, event.at / 1e9):
                packet = event_json(event, selection)
                group = tuple(packet[name] for name in GROUPS[by])
                group = group if group in packets or len(packets) < MOST_GROUPS else _REST
                packets[group] += 1
                size[group] += event.size

        before, stop = self._plane.events.missed, self._plane.events.watch(sink, selection.criteria)
        try:
            await asyncio.sleep(seconds)
        finally:
            stop()
        for group, count in packets.most_common(limit):
            shown = dict(zip(GROUPS[by], group, strict=True)) if group else {"others": True}
            yield {"top": {**shown, "packets": count, "bytes": size[group]}}
        unseen = self._plane.events.missed - before
        yield {"end": True, "packets": packets.total(), "seconds": seconds, "unseen": unseen}

    def _selection(self, request: Request) -> CompiledFilter:
        tables = self._plane.tables
        criteria = request.get("match", {})
        if not isinstance(criteria, dict):
            raise ConfigError("match must be an object")
        return CompiledFilter(read_filter(criteria, tables), tables)


def _number(request: Request, name: str, default: int, most: int) -> int:
    """A parameter from 1 to `most`; raises ConfigError."""
    value = request.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ConfigError(f"{name}: {value!r}: must be a number from 1 to {most}")
    return value


GROUPS: Mapping[str, tuple[str, ...]] = {
    "flow": ("protocol", "source", "source_port", "vip", "port"),
    "source": ("source",),
    "vip": ("vip",),
    "client": ("client",),
    "tier": ("tier",),
    "server": ("pool", "server"),
    "reason": ("reason",),
}
"""What `top` may group packets by, and the fields of a packet that make up the group."""

_REST: tuple[Any, ...] = ()
REQUESTS: Mapping[str, Callable[[Responder, Request], Answer]] = {
    "status": Responder.status,
    "flows": Responder.flows,
    "top": Responder.top,
    "purge": Responder.purge,
    "watch": Responder.watch,
}
"""By the `do` of a request."""

"""Flows and packet events of the user-space runner, for observation. It costs nothing while nobody watches.

Events are rate limited; packets beyond the limit are only counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.flows.owner import dscp_of, server_of
from dnsvip.dispatcher.flows.segment import Segment
from dnsvip.dispatcher.observe.plane import Event, Filter, Flow, FlowState
from dnsvip.dispatcher.reason import PacketReason
from dnsvip.dispatcher.token_bucket import SECOND, Buckets, Limit
from dnsvip.dispatcher.verdict import Verdict

SHOWN = Limit(SECOND // 5_000, SECOND // 5)
"""At most 5,000 packets a second are made into events, 1,000 at once."""

_OF_KNOWN = frozenset({PacketReason.KNOWN.value, PacketReason.REPLY.value})

Sink = Callable[[Event], None]


class UserEvents:
    """The runner's Events. `sinks` is empty while nobody watches: look there before calling `show`."""

    def __init__(self) -> None:
        self.sinks: tuple[Sink, ...] = ()
        self.missed = 0
        self._budget = Buckets()
        self._watchers: list[tuple[Sink, Filter]] = []
        self._opening = True

    def watch(self, sink: Sink, criteria: Filter) -> Callable[[], None]:
        """See `plane.Events`."""
        entry = (sink, criteria)
        self._settle([*self._watchers, entry])
        return lambda: self._settle([watcher for watcher in self._watchers if watcher is not entry])

    def _settle(self, watchers: list[tuple[Sink, Filter]]) -> None:
        self._watchers = watchers
        self.sinks = tuple(sink for sink, _ in watchers)
        self._opening = all(criteria.opening for _, criteria in watchers)

    def show(self, data: bytes, verdict: Verdict, now: int) -> None:
        """Show one packet and its verdict."""
        if self._opening and verdict.reason in _OF_KNOWN:
            return
        if self._budget.take("", SHOWN, now) is None:
            self.missed += 1
            return
        key = verdict.packet.key if verdict.packet else b""
        event = Event(
            now, key, len(data), verdict.reason, verdict.action, verdict.server, verdict.dscp, verdict.delay
        )  # fmt: skip
        for sink in self.sinks:
            sink(event)


class UserFlows:
    """The runner's FlowTable; `tables` gives the Tables in force."""

    def __init__(self, flows: Flows, tables: Callable[[], DispatchTables]) -> None:
        self._flows, self._tables = flows, tables

    def flows(self) -> Iterator[Flow]:
        """See `plane.FlowTable`. A flow that becomes established meanwhile is left out rather than repeated."""
        state = FlowState.ESTABLISHED
        for segment in (self._flows.established, self._flows.probation):
            for slot in range(len(segment.keys)):
                if segment.keys[slot] is not None:
                    yield self._flow(segment, slot, FlowState.CLOSING if segment.closing[slot] else state)
            state = FlowState.NEW

    def forget(self, key: bytes) -> bool:
        """See `plane.FlowTable`."""
        if self._flows.find(key) is None:
            return False
        self._flows.remove(key)
        return True

    def _flow(self, segment: Segment, slot: int, state: FlowState) -> Flow:
        tables, owner = self._tables(), segment.owner[slot]
        server = tables.targets.get(server_of(owner))
        return Flow(segment.keys[slot] or b"", segment.seen[slot], state, tables.home_of(owner), server, dscp_of(owner))

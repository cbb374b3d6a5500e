"""Flows and packets of the kernel's program, for `dnsvip flows` and `dnsvip watch`: its map of flows, its events.

Nobody watching costs a packet one comparison. Where every watcher asks for one address or one client the program
picks those packets itself (map `watches`); else it samples, and the share is set anew every second so that about
SHOWN packets a second come up. A shell, in the event loop; it reads maps and writes the two settings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from ipaddress import ip_address
from typing import Protocol

from dnsvip.dispatcher.dispatch_tables import DispatchTables, dscp_of
from dnsvip.dispatcher.io.xdp.layout import ACTIONS, EVENT, FLOW, FLOW_KEY, FLOW_STATES, WATCH, padded
from dnsvip.dispatcher.io.xdp.map_writer import MapWriter
from dnsvip.dispatcher.io.xdp.table import records
from dnsvip.dispatcher.observe.plane import Event, Filter, Flow, FlowState
from dnsvip.dispatcher.reason import MALFORMED, REASONS, Action
from dnsvip.dispatcher.verdict import Target
from dnsvip.xdp.libbpf import KernelRefused
from dnsvip.xdp.maps import Map
from dnsvip.xdp.ring import Ring

SHOWN = 5000
"""Packets a second that are made into events, about."""
ALL = (1 << 32) - 1
ADJUST_SECONDS = 1.0
ETHERNET = 14
"""Bytes of a frame before its packet."""
_WATCH_ADDRESS, _WATCH_CLIENT = 0, 1
_UNREADABLE = frozenset(MALFORMED.values())

Sink = Callable[[Event], None]


class Kernel(Protocol):
    """What this needs of a runner: its tables, and the maps and the feed of the program in force, None before there
    is one."""

    tables: DispatchTables

    def kernel_maps(self) -> tuple[Mapping[str, Map], MapWriter] | None:
        """Maps by name, and who writes them."""


class KernelFlows:
    """The program's FlowTable."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def flows(self) -> Iterator[Flow]:
        """See `plane.FlowTable`."""
        found = self._kernel.kernel_maps()
        if found is None:
            return
        maps, feed = found
        servers = _Servers(feed, self._kernel.tables)
        with suppress(KernelRefused):  # the program has been replaced meanwhile, and its maps with it
            for record in records(maps["flows"]):
                flow = FLOW.unpack(record)
                pool, server = servers.of(flow["owner"] >> 8)
                yield Flow(key_of(flow["key"]), flow["seen"], _state(flow), pool, server, dscp_of(flow["owner"]))

    def forget(self, key: bytes) -> bool:
        """See `plane.FlowTable`."""
        found = self._kernel.kernel_maps()
        try:
            return found is not None and found[1].purge(name_of(key))
        except KernelRefused:  # the program has been replaced meanwhile
            return False


class KernelEvents:
    """The program's Events."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._sinks: list[tuple[Sink, Filter]] = []
        self._ring: Ring | None = None
        self._maps: Mapping[str, Map] = {}
        self._feed: MapWriter | None = None
        self._names: set[bytes] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._sample = 0
        self._before = (0, 0)
        self._shown = self._missed = 0

    @property
    def missed(self) -> int:
        """See `plane.Events`."""
        return self._missed

    def watch(self, sink: Sink, criteria: Filter) -> Callable[[], None]:
        """See `plane.Events`."""
        entry = (sink, criteria)
        self._sinks.append(entry)
        self._renew()

        def stop() -> None:
            self._sinks = [each for each in self._sinks if each is not entry]
            self._renew()

        return stop

    def _renew(self) -> None:
        """Have the program tell what is asked for now, by the maps in force."""
        found = self._kernel.kernel_maps()
        maps, feed = found or ({}, None)
        if feed is not self._feed or not self._sinks:
            self._close()
        if feed is None or not self._sinks:
            return
        if self._ring is None:
            self._maps, self._feed = maps, feed
            maps["watches"].delete_many(list(maps["watches"].keys()))  # of a process that was killed
            self._ring = Ring(maps["events"], self._take)
            asyncio.get_running_loop().add_reader(self._ring.fileno(), self._ring.consume)
            self._before = self._counts(feed)
            self._timer = asyncio.get_running_loop().call_later(ADJUST_SECONDS, self._adjust)
        names = [self._named(criteria) for _, criteria in self._sinks]
        exact = all(name is not None for name in names)
        self._put({name for name in names if name is not None})
        self._set(0 if exact else self._sample or ALL)

    def _close(self) -> None:
        if self._ring is not None:
            asyncio.get_running_loop().remove_reader(self._ring.fileno())
            self._ring.close()
        if self._timer is not None:
            self._timer.cancel()
        self._ring = self._timer = None
        if self._feed is not None:
            with suppress(KernelRefused):  # of a program that has been replaced
                self._put(set())
                self._set(0)
        self._feed, self._sample = None, 0
        self._names.clear()

    def _adjust(self) -> None:
        """Set the share of packets by how many there were, and count those that were not told."""
        found = self._kernel.kernel_maps()
        if self._feed is None or found is None or found[1] is not self._feed:
            self._renew()
            return
        packets, lost = self._counts(self._feed)
        came, overflown = packets - self._before[0], lost - self._before[1]
        self._missed += overflown if self._sample in (0, ALL) else max(came - self._shown, 0)
        self._before, self._shown = (packets, lost), 0
        if self._sample:
            self._set(min(ALL, max(1, ALL * SHOWN // max(came, SHOWN))))
        self._timer = asyncio.get_running_loop().call_later(ADJUST_SECONDS, self._adjust)

    def _take(self, data: bytes) -> None:
        """One event of the program."""
        assert self._feed is not None  # noqa: S101 - the ring is closed before it goes
        raw = EVENT.unpack(data[: EVENT.size])
        self._shown += 1
        _, server = _Servers(self._feed, self._kernel.tables).of(raw["server"])
        reason, action = REASONS[raw["reason"]], Action(ACTIONS[raw["action"]])
        key = b"" if reason in _UNREADABLE else key_of(raw["key"])
        event = Event(raw["time"], key, raw["length"] - ETHERNET, reason, action, server)
        for sink, _query in tuple(self._sinks):
            sink(event)

    def _named(self, criteria: Filter) -> bytes | None:
        """The entry of `watches` for a query; None where there is none that finds all of it."""
        if criteria.client is not None:
            client = self._kernel.tables.snapshot.site.clients.get(criteria.client)
            return WATCH.pack(kind=_WATCH_CLIENT, value=client.id.to_bytes(16, "big")) if client else None
        network = criteria.address
        if network is None or network.prefixlen != network.max_prefixlen:
            return None
        packed = network.network_address.packed
        if any(target.address == packed for target in self._kernel.tables.targets.values()):
            return None  # the program looks at packets' own addresses only
        return WATCH.pack(kind=_WATCH_ADDRESS, value=padded(packed))

    def _put(self, names: set[bytes]) -> None:
        watches = self._maps["watches"]
        for name in self._names - names:
            watches.delete(name)
        for name in names - self._names:
            watches.put(name, bytes(4))
        self._names = names
        if self._feed is not None:
            self._feed.settings(watched=len(names))

    def _set(self, sample: int) -> None:
        self._sample = sample
        if self._feed is not None:
            self._feed.settings(sample=sample)

    @staticmethod
    def _counts(feed: MapWriter) -> tuple[int, int]:
        return sum(feed.counters().values()), feed.auxiliary_counters()["event-lost"]


class _Servers:
    """The program's numbers of servers in words: its own, not those of Tables."""

    def __init__(self, feed: MapWriter, tables: DispatchTables) -> None:
        self._feed, self._tables = feed, tables
        self._known: dict[int, tuple[str, Target | None]] = {}

    def of(self, number: int) -> tuple[str, Target | None]:
        """The pool, and the server where it keeps flows."""
        if number not in self._known:
            self._known[number] = self._find(self._feed.server(number))
        return self._known[number]

    def _find(self, name: str) -> tuple[str, Target | None]:
        pool, _, rest = name.partition("/")
        server, _, address = rest.partition("/")
        packed = ip_address(address).packed if address else b""
        wanted = (pool, server, packed)
        fits = (each for each in self._tables.targets.values() if (each.pool, each.name, each.address) == wanted)
        return pool, next(fits, None)


def key_of(raw: bytes) -> bytes:
    """A `struct flow_key` as a flow key (packet.Packet); empty where the packet could not be read."""
    key = FLOW_KEY.unpack(raw)
    if key["version"] not in (4, 6):
        return b""
    cut = 0 if key["version"] == 6 else 12
    ports: bytes = key["source_port"] + key["destination_port"]
    addresses: bytes = key["source"][cut:] + key["destination"][cut:]
    return bytes((key["protocol"],)) + addresses + ports


def name_of(key: bytes) -> bytes:
    """A flow key as a `struct flow_key`."""
    half = (len(key) - 5) // 2
    return FLOW_KEY.pack(
        source=padded(key[1 : 1 + half]),
        destination=padded(key[1 + half : 1 + 2 * half]),
        source_port=key[-4:-2],
        destination_port=key[-2:],
        protocol=key[0],
        version=6 if half == 16 else 4,
    )


def _state(flow: dict[str, int]) -> FlowState:
    if flow["closing"]:
        return FlowState.CLOSING
    return FlowState(FLOW_STATES[flow["state"]])

"""Shows flows and packets of the kernel program to `dnsvip flows` and `dnsvip watch`: its map of flows, its events.

Without a watcher a packet pays one comparison. Where every watcher asks for one address or one client, the program
selects those packets itself (map `watches`); otherwise it samples, at a rate that is adjusted every second so that
about SHOWN packets a second come up. Runs in the event loop; reads maps and writes two settings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from ipaddress import ip_address
from typing import Protocol

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.flows.owner import dscp_of
from dnsvip.dispatcher.io.user.refused import Show
from dnsvip.dispatcher.io.xdp.image import parts_of, set_name
from dnsvip.dispatcher.io.xdp.kernel_types import TYPES, padded
from dnsvip.dispatcher.io.xdp.map_writer import MapWriter
from dnsvip.dispatcher.io.xdp.table import records
from dnsvip.dispatcher.observe.plane import Event, Filter, Flow, FlowState
from dnsvip.dispatcher.reason import MALFORMED, Action
from dnsvip.dispatcher.verdict import Target
from dnsvip.xdp.libbpf import KernelRefused
from dnsvip.xdp.maps import Map, RingBuffer
from dnsvip.xdp.structs import u32

SHOWN = 5000
"""About how many packets a second become events."""
MOST_AT_ONCE = 256
"""Events in a turn of the event loop."""
ALL = (1 << 32) - 1
ADJUST_SECONDS = 1.0
ETHERNET = 14
"""Bytes of a frame before its packet."""
REFUSED_SHOWN = 256
"""About how many refused packets become events between two calls of `watch_refused`, at most."""
_REFUSED = frozenset((Action.DROP, Action.ANSWER))
_UNREADABLE = frozenset(MALFORMED.values())

Sink = Callable[[Event], None]


class Kernel(Protocol):
    """The dispatcher in the kernel, as far as this needs it."""

    @property
    def tables(self) -> DispatchTables:
        """The tables in force."""
        ...

    def kernel_maps(self) -> tuple[Mapping[str, Map], MapWriter] | None:
        """The maps of the program in force, by name, and their writer; None before there are any."""
        ...


class KernelFlows:
    """The kernel program's FlowTable."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def flows(self) -> Iterator[Flow]:
        """See `plane.FlowTable`."""
        in_force = self._kernel.kernel_maps()
        if in_force is None:
            return
        maps, writer = in_force
        servers = _Servers(writer, self._kernel.tables)
        unpack, states = TYPES.struct("flow").unpack, _by_number("flow_state", "FLOW_")
        most = TYPES.constants("bounds")["MAX_SERVERS"]  # above are the marks of a flow that has ended
        with suppress(KernelRefused):  # the program has been replaced meanwhile, and its maps with it
            for record in records(maps["flows"]):
                flow = unpack(record)
                pool, server = servers.of(flow["owner"] >> 8 & most - 1)
                state = FlowState.CLOSING if flow["closing"] else FlowState(states[flow["state"]])
                yield Flow(key_of(flow["key"]), flow["seen"], state, pool, server, dscp_of(flow["owner"]))

    def forget(self, key: bytes) -> bool:
        """See `plane.FlowTable`."""
        in_force = self._kernel.kernel_maps()
        try:
            return in_force is not None and in_force[1].purge(struct_of(key))
        except KernelRefused:  # the program has been replaced meanwhile
            return False


class KernelEvents:
    """The kernel program's Events."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._sinks: list[tuple[Sink, Filter]] = []
        self._ring: RingBuffer | None = None
        self._maps: Mapping[str, Map] = {}
        self._writer: MapWriter | None = None
        self._entries: set[bytes] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._sample = self._drops = 0
        self._refused: Show | None = None
        self._refused_shown = 0
        self._counted = (0, 0)
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
            self._sinks = [watcher for watcher in self._sinks if watcher is not entry]
            self._renew()

        return stop

    def watch_refused(self, show: Show | None) -> None:
        """See `DataPlane.watch_refused`. The share that is sent is halved where too many came since the last time, and
        doubled where few did."""
        if (show is None) is not (self._refused is None):
            self._refused, self._drops = show, 0 if show is None else ALL
        elif show is not None:
            many, few = self._refused_shown > REFUSED_SHOWN, self._refused_shown < REFUSED_SHOWN // 4
            self._drops = self._drops // 2 or 1 if many else min(ALL, 2 * self._drops + 1) if few else self._drops
        self._refused_shown = 0
        self._renew()

    def _renew(self) -> None:
        """Have the program in force send the events that are asked for now."""
        maps, writer = self._kernel.kernel_maps() or ({}, None)
        wanted = bool(self._sinks) or self._refused is not None
        if writer is not self._writer or not wanted:
            self._close()
        if writer is None or not wanted:
            return
        if self._ring is None:
            self._open(maps, writer)
        entries = [self._entry(criteria) for _, criteria in self._sinks]
        exact = all(entry is not None for entry in entries)
        self._set_watches({entry for entry in entries if entry is not None})
        self._set_sample(0 if exact else self._sample or ALL)
        writer.settings(drops=self._drops)

    def _open(self, maps: Mapping[str, Map], writer: MapWriter) -> None:
        loop = asyncio.get_running_loop()
        self._maps, self._writer = maps, writer
        maps["watches"].delete_many(list(maps["watches"].keys()))  # of a process that was killed
        self._ring = RingBuffer(maps["events"], self._take)
        loop.add_reader(self._ring.fileno(), self._ring.consume, MOST_AT_ONCE)
        self._counted = self._count(writer)
        self._timer = loop.call_later(ADJUST_SECONDS, self._adjust)

    def _close(self) -> None:
        if self._ring is not None:
            asyncio.get_running_loop().remove_reader(self._ring.fileno())
            self._ring.close()
        if self._timer is not None:
            self._timer.cancel()
        self._ring = self._timer = None
        if self._writer is not None:
            with suppress(KernelRefused):  # of a program that has been replaced
                self._set_watches(set())
                self._set_sample(0)
                self._writer.settings(drops=0)
        self._writer, self._sample = None, 0
        self._entries.clear()

    def _adjust(self) -> None:
        """Adjust the sampling rate to the packet rate, and count the packets that were not shown."""
        in_force = self._kernel.kernel_maps()
        if self._writer is None or in_force is None or in_force[1] is not self._writer:
            self._renew()
            return
        packets, lost = self._count(self._writer)
        new_packets, new_lost = packets - self._counted[0], lost - self._counted[1]
        if self._sinks:
            self._missed += new_lost if self._sample in (0, ALL) else max(new_packets - self._shown, 0)
        self._counted, self._shown = (packets, lost), 0
        if self._sample:
            self._set_sample(min(ALL, max(1, ALL * SHOWN // max(new_packets, SHOWN))))
        self._timer = asyncio.get_running_loop().call_later(ADJUST_SECONDS, self._adjust)

    def _take(self, data: bytes) -> None:
        """One event of the program."""
        assert self._writer is not None  # noqa: S101 - the ring is closed before it goes
        event_type = TYPES.struct("event")
        raw = event_type.unpack(data[: event_type.size])
        self._shown += 1
        _, server = _Servers(self._writer, self._kernel.tables).of(raw["server"])
        reason = _by_number("reason", "REASON_")[raw["reason"]]
        action = Action(_by_number("action", "ACTION_")[raw["action"]])
        key = b"" if reason in _UNREADABLE else key_of(raw["key"])
        event = Event(raw["time"], key, raw["length"] - ETHERNET, reason, action, server)
        if self._refused is not None and action in _REFUSED and key and self._drops:
            self._refused_shown += 1
            half = (len(key) - 5) // 2
            self._refused(key[1 : 1 + half], reason, max(1, ALL // max(self._drops, self._sample)))
        for sink, _query in tuple(self._sinks):
            sink(event)

    def _entry(self, criteria: Filter) -> bytes | None:
        """The entry of map `watches` that selects all packets of a filter; None where there is none."""
        pack, kinds = TYPES.struct("watch").pack, TYPES.words("watch_kind", "WATCH_")
        if criteria.client is not None:
            client = self._kernel.tables.snapshot.site.clients.get(criteria.client)
            return pack(kind=kinds["client"], value=client.id.to_bytes(16, "big")) if client else None
        network = criteria.address
        if network is None or network.prefixlen != network.max_prefixlen:
            return None
        packed = network.network_address.packed
        if any(target.address == packed for target in self._kernel.tables.targets.values()):
            return None  # the program compares the packet's own addresses only
        return pack(kind=kinds["address"], value=padded(packed))

    def _set_watches(self, entries: set[bytes]) -> None:
        watches = self._maps["watches"]
        for entry in self._entries - entries:
            watches.delete(entry)
        for entry in entries - self._entries:
            watches.put(entry, u32(0))
        self._entries = entries
        if self._writer is not None:
            self._writer.settings(watched=len(entries))

    def _set_sample(self, sample: int) -> None:
        self._sample = sample
        if self._writer is not None:
            self._writer.settings(sample=sample)

    @staticmethod
    def _count(writer: MapWriter) -> tuple[int, int]:
        return sum(writer.counters.by_reason().values()), writer.counters.auxiliary()["event-lost"]


class _Servers:
    """Names for the program's server numbers, which are not those of Tables."""

    def __init__(self, writer: MapWriter, tables: DispatchTables) -> None:
        self._writer, self._tables = writer, tables
        self._known: dict[int, tuple[str, Target | None]] = {}

    def of(self, number: int) -> tuple[str, Target | None]:
        """The pool, and the server where it keeps flows."""
        if number not in self._known:
            self._known[number] = self._find(self._writer.server(number))
        return self._known[number]

    def _find(self, name: str) -> tuple[str, Target | None]:
        pool, own, server, address = parts_of(name)
        wanted = (pool, server, ip_address(address).packed if address else b"")
        some = (t for t in self._tables.targets.values() if (t.pool, t.name, t.address) == wanted)
        return pool, next((t for t in some if own == (set_name(t.own) if t.own else "")), None)


@cache
def _by_number(enum: str, prefix: str) -> Mapping[int, str]:
    """The words of an enum by their numbers."""
    return {number: word for word, number in TYPES.words(enum, prefix).items()}


def key_of(raw: bytes) -> bytes:
    """A `struct flow_key` as a flow key (packet.Packet); empty where the packet could not be read."""
    key = TYPES.struct("flow_key").unpack(raw)
    if key["version"] not in (4, 6):
        return b""
    skip = 0 if key["version"] == 6 else 12
    ports: bytes = key["source_port"] + key["destination_port"]
    addresses: bytes = key["source"][skip:] + key["destination"][skip:]
    return bytes((key["protocol"],)) + addresses + ports


def struct_of(key: bytes) -> bytes:
    """A flow key as a `struct flow_key`."""
    half = (len(key) - 5) // 2
    return TYPES.struct("flow_key").pack(
        source=padded(key[1 : 1 + half]),
        destination=padded(key[1 + half : 1 + 2 * half]),
        source_port=key[-4:-2],
        destination_port=key[-2:],
        protocol=key[0],
        version=6 if half == 16 else 4,
    )

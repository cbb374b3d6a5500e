<<<<<<< HEAD
"""Flows and packets of the kernel's program, for `dnsvip flows` and `dnsvip watch`: its map of flows, its events.

Nobody watching costs a packet one comparison. Where every watcher asks for one address or one client the program
picks those packets itself (map `watches`); else it samples, and the share is set anew every second so that about
SHOWN packets a second come up. A shell, in the event loop; it reads maps and writes the two settings.
=======
"""The flows and packets of the kernel's program, as `observe` wants them: read from its maps and its ring buffer.

While nobody watches the program sends nothing. A watcher of one address or client is told of every packet of it;
others get so many a second, by chance where there are more.
>>>>>>> 2422b39 (dispatcher: flows and watch look into the kernel's program too)
"""

from __future__ import annotations

import asyncio
<<<<<<< HEAD
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
=======
import os
import time
from collections.abc import Callable, Iterator
>>>>>>> 2422b39 (dispatcher: flows and watch look into the kernel's program too)
from ipaddress import ip_address
from typing import Protocol

from dnsvip.bpf.feed import Feed
<<<<<<< HEAD
from dnsvip.bpf.layout import ACTIONS, EVENT, FLOW, FLOW_KEY, WATCH, padded
from dnsvip.bpf.libbpf import KernelRefused
from dnsvip.bpf.maps import EXISTING, Map
from dnsvip.bpf.ring import Ring
from dnsvip.dispatcher.observe import Event, Flow, FlowState, Query
from dnsvip.dispatcher.tables import Tables, dscp_of
from dnsvip.dispatcher.verdict import MALFORMED, REASONS, Action, Target

SHOWN = 5000
"""Packets a second that are made into events, about."""
ALL = (1 << 32) - 1
ADJUST_SECONDS = 1.0
ETHERNET = 14
"""Bytes of a frame before its packet."""
_WATCH_ADDRESS, _WATCH_CLIENT = 0, 1
_UNREADABLE = frozenset(MALFORMED.values())
=======
from dnsvip.bpf.layout import ACTIONS, EVENT, FLOW, FLOW_KEY, NONE, WATCH, padded, word
from dnsvip.bpf.maps import EXISTING, Map
from dnsvip.bpf.ring import Ring
from dnsvip.dispatcher.observe import Event, Flow, FlowState, Query
from dnsvip.dispatcher.plane import Plane
from dnsvip.dispatcher.tables import Tables, dscp_of
from dnsvip.dispatcher.verdict import REASONS, Action, Target

ETHERNET = 14
"""Bytes of a frame before the packet."""
EVERY = 0xFFFF_FFFF
"""`config.sample`: all packets."""
PURGED = 1
"""`flow.seen` of a flow that was made unknown; the next packet or sweep removes it."""
SHOWN_PER_SECOND = 5000
TURN_SECONDS = 0.1
"""How often the share of packets that are told is set anew."""
WATCH_ADDRESS, WATCH_CLIENT = 0, 1
_CLOSING = 1
>>>>>>> 2422b39 (dispatcher: flows and watch look into the kernel's program too)

Sink = Callable[[Event], None]


class Kernel(Protocol):
<<<<<<< HEAD
    """What this needs of a runner: its tables, and the maps and the feed of the program in force, None before there
    is one."""

    tables: Tables

    def kernel_maps(self) -> tuple[Mapping[str, Map], Feed] | None:
        """Maps by name, and who writes them."""


class KernelFlows:
    """The program's FlowTable."""
=======
    """The runner, as far as it is looked into here."""

    tables: Tables

    @property
    def halves(self) -> tuple[Plane, Feed] | None:
        """The kernel's program with what feeds it; None before the start and after the stop."""


class KernelFlows:
    """The FlowTable of the kernel's program."""
>>>>>>> 2422b39 (dispatcher: flows and watch look into the kernel's program too)

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def flows(self) -> Iterator[Flow]:
<<<<<<< HEAD
        """See `observe.FlowTable`; forgotten ones that the sweep has not come by are left out."""
        found = self._kernel.kernel_maps()
        if found is None:
            return
        maps, feed = found
        servers = _Servers(feed, self._kernel.tables)
        with suppress(KernelRefused):  # the program has been replaced meanwhile, and its maps with it
            for key, values in maps["flows"].items():
                flow = FLOW.unpack(values[0])
                if flow["seen"]:
                    pool, server = servers.of(flow["owner"] >> 8)
                    yield Flow(key_of(key), flow["seen"], _state(flow), pool, server, dscp_of(flow["owner"]))

    def forget(self, key: bytes) -> bool:
        """See `observe.FlowTable`. The flow is made one that expired long ago: the program's own sweep then settles all
        that hangs on it, which only it can do while packets come."""
        found = self._kernel.kernel_maps()
        if found is None:
            return False
        flows, name = found[0]["flows"], name_of(key)
        value = flows.get(name)
        if value is None or not FLOW.unpack(value)["seen"]:
            return False
        try:
            flows.put(name, FLOW.pack(**{**FLOW.unpack(value), "seen": 0}), EXISTING)
        except KernelRefused:
            return False
=======
        """See `observe.FlowTable`."""
        if self._kernel.halves is None:
            return
        plane, feed = self._kernel.halves
        servers = _servers(self._kernel.tables)
        for key, values in plane.maps["flows"].items():
            held = FLOW.unpack(values[0])
            if held["seen"] == PURGED:
                continue
            name = feed.server(held["owner"] >> 8)
            state = FlowState.NEW if held["fresh"] else FlowState.ESTABLISHED
            state = FlowState.CLOSING if held["closing"] else state
            server = servers.get(name)
            yield Flow(
                _short(key), held["seen"], state, name.partition("/")[0], server, dscp_of(held["owner"])
            )  # fmt: skip

    def forget(self, key: bytes) -> bool:
        """See `observe.FlowTable`. The program itself removes it, as one that has expired, so that its count of flows
        stays right."""
        if self._kernel.halves is None:
            return False
        flows = self._kernel.halves[0].maps["flows"]
        held = flows.get(_long(key))
        if held is None:
            return False
        expired = FLOW.unpack(held) | {"seen": PURGED, "closing": _CLOSING}
        flows.put(_long(key), FLOW.pack(**expired), EXISTING)
>>>>>>> 2422b39 (dispatcher: flows and watch look into the kernel's program too)
        return True


class KernelEvents:
<<<<<<< HEAD
    """The program's Events."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._sinks: list[tuple[Sink, Query]] = []
        self._ring: Ring | None = None
        self._maps: Mapping[str, Map] = {}
        self._feed: Feed | None = None
        self._names: set[bytes] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._sample = 0
        self._before = (0, 0)
        self._shown = self._missed = 0

    @property
    def missed(self) -> int:
        """See `observe.Events`."""
        return self._missed

    def watch(self, sink: Sink, query: Query) -> Callable[[], None]:
        """See `observe.Events`."""
        entry = (sink, query)
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
            self._ring = Ring(maps["events"], self._take)
            asyncio.get_running_loop().add_reader(self._ring.fileno(), self._ring.consume)
            self._before = self._counts(feed)
            self._timer = asyncio.get_running_loop().call_later(ADJUST_SECONDS, self._adjust)
        names = [self._named(query) for _, query in self._sinks]
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

    def _named(self, query: Query) -> bytes | None:
        """The entry of `watches` for a query; None where there is none that finds all of it."""
        if query.client is not None:
            client = self._kernel.tables.snapshot.site.clients.get(query.client)
            return WATCH.pack(kind=_WATCH_CLIENT, value=client.id.to_bytes(16, "big")) if client else None
        network = query.address
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
    def _counts(feed: Feed) -> tuple[int, int]:
        return sum(feed.counters().values()), feed.sides()["event-lost"]


class _Servers:
    """The program's numbers of servers in words: its own, not those of Tables."""

    def __init__(self, feed: Feed, tables: Tables) -> None:
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
    return FlowState.NEW if flow["fresh"] else FlowState.ESTABLISHED
=======
    """The Events of the kernel's program."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._sinks: dict[Sink, Query] = {}
        self._ring: Ring | None = None
        self._servers: dict[str, Target] = {}
        self._sample = 0
        self._told = self._turn = self._before = 0
        self._missed = 0
        self._since = 0.0

    def watch(self, sink: Sink, query: Query) -> Callable[[], None]:
        """See `observe.Events`."""
        self._sinks[sink] = query
        self._open()
        self._choose()

        def stop() -> None:
            self._sinks.pop(sink, None)
            self._choose()
            if not self._sinks:
                self.close()

        return stop

    @property
    def missed(self) -> int:
        """See `observe.Events`: packets that were not told of while somebody wanted them all."""
        return self._missed + (max(self._packets() - self._before - self._told, 0) if self._sample else 0)

    def close(self) -> None:
        """Read no more."""
        if self._ring is not None:
            asyncio.get_running_loop().remove_reader(self._ring.fileno())
            self._ring.close()
            self._ring = None

    def _open(self) -> None:
        if self._ring is None and self._kernel.halves is not None:
            # A descriptor of its own: the plane may be loaded anew, with this very map.
            self._ring = Ring(Map(os.dup(self._kernel.halves[0].maps["events"].fd)), self._take)
            asyncio.get_running_loop().add_reader(self._ring.fileno(), self._read)

    def _choose(self) -> None:
        """Have the program tell what the watchers want."""
        if self._kernel.halves is None:
            return
        plane, feed = self._kernel.halves
        self._servers = _servers(self._kernel.tables)
        narrow = {query: self._narrow(query) for query in self._sinks.values()}
        wanted = {key for key in narrow.values() if key}
        watches = plane.maps["watches"]
        for key in set(watches.keys()) - wanted:
            watches.delete(key)
        for key in wanted:
            watches.put(key, word(1))
        if self._sample:
            self._missed = self.missed
        self._sample = EVERY if any(key is None for key in narrow.values()) else 0
        self._before, self._told, self._turn, self._since = self._packets(), 0, 0, time.monotonic()
        feed.settings(sample=self._sample, watched=len(wanted))

    def _narrow(self, query: Query) -> bytes | None:
        """The entry of map `watches` for a query of one client or one address other than a server's; else None."""
        address = query.address
        if query.client is not None:
            client = self._kernel.tables.snapshot.site.clients.get(query.client)
            return WATCH.pack(kind=WATCH_CLIENT, value=client.id.to_bytes(16, "big")) if client else None
        if address is None or address.prefixlen != address.max_prefixlen:
            return None
        packed = address.network_address.packed
        if any(target.address == packed for target in self._servers.values()):
            return None
        return WATCH.pack(kind=WATCH_ADDRESS, value=padded(packed))

    def _read(self) -> None:
        if self._ring is not None:
            self._ring.consume()
        elapsed = time.monotonic() - self._since
        if self._sample and elapsed > TURN_SECONDS:
            self._pace(elapsed)

    def _pace(self, elapsed: float) -> None:
        """Tell a smaller or greater share of the packets, for about SHOWN_PER_SECOND of them."""
        fitting = SHOWN_PER_SECOND * elapsed / max(self._turn, 1)
        self._sample = min(max(int(self._sample * min(fitting, 2.0)), 1), EVERY)
        self._turn, self._since = 0, time.monotonic()
        if self._kernel.halves is not None:
            self._kernel.halves[1].settings(sample=self._sample)

    def _take(self, data: bytes) -> None:
        found = EVENT.unpack(data)
        self._told += 1
        self._turn += 1
        reason = REASONS[found["reason"]]
        key = b"" if reason.startswith("malformed") else _short(found["key"])
        server = None
        if found["server"] != NONE and self._kernel.halves is not None:
            server = self._servers.get(self._kernel.halves[1].server(found["server"]))
        size = max(found["length"] - ETHERNET, 0)
        event = Event(found["time"], key, size, reason, Action(ACTIONS[found["action"]]), server)
        for sink in tuple(self._sinks):
            sink(event)

    def _packets(self) -> int:
        return sum(self._kernel.halves[1].counters().values()) if self._kernel.halves is not None else 0


def _servers(tables: Tables) -> dict[str, Target]:
    """The servers that keep flows, by what the kernel's numbers stand for (bpf/image.py, server_name)."""
    return {f"{each.pool}/{each.name}/{ip_address(each.address)}": each for each in tables.targets.values()}


def _short(key: bytes) -> bytes:
    """A flow's key as `Packet.key` has it; empty for none."""
    held = FLOW_KEY.unpack(key)
    if held["version"] not in (4, 6):
        return b""
    start = 12 if held["version"] == 4 else 0
    ends = held["source"][start:], held["destination"][start:], held["source_port"], held["destination_port"]
    return bytes((held["protocol"],)) + b"".join(ends)


def _long(key: bytes) -> bytes:
    """A `Packet.key` as the kernel's program has it."""
    size = (len(key) - 5) // 2
    return FLOW_KEY.pack(
        source=padded(key[1 : 1 + size]),
        destination=padded(key[1 + size : 1 + 2 * size]),
        source_port=key[-4:-2],
        destination_port=key[-2:],
        protocol=key[0],
        version=6 if size == 16 else 4,
    )
>>>>>>> 2422b39 (dispatcher: flows and watch look into the kernel's program too)

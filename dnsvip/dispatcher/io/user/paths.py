"""How packets leave the dispatcher: one raw socket per server. Under direct it has a mark of its own that a policy
rule sends to a table of its own, whose default route is that server; so the destination address can stay. Under
encap the main table leads to the server, as to any address.

It makes no decisions: it creates what a snapshot needs and reports the servers that no route leads to.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address

import structlog

from dnsvip.dispatcher.io.user.netlink import (
    EVERYWHERE,
    FAMILIES,
    MAIN_TABLE,
    MARK_BASE,
    PRIORITY,
    Kernel,
    Route,
    Rule,
)
from dnsvip.site import Forward, Snapshot

SEND_BUFFER_BYTES = 4 << 20
_MTU_OPTIONS = {6: (socket.IPPROTO_IPV6, 24), 4: (socket.IPPROTO_IP, 14)}
"""IPV6_MTU of linux/in6.h and IP_MTU of linux/in.h, for which the socket module has no names."""
_SMALLEST_MTU = {6: 1280, 4: 68}
_SOMEWHERE = {4: "192.0.2.1", 6: "2001:db8::1"}
"""What a server's socket is connected to: any address that is routed by its table's default route."""

log = structlog.get_logger()


class Paths:
    """Sockets, routes and rules for a snapshot. Only `senders`, `tunnels` and `send_on` are for the thread that
    moves packets. `mtus` are those of the ways to the servers (packed), in bytes, as far as the kernel tells."""

    def __init__(self) -> None:
        self.senders: dict[tuple[bytes, int], Callable[[bytes], int]] = {}
        self.tunnels: dict[bytes, Callable[[bytes], int]] = {}
        self.mtus: dict[bytes, int] = {}
        self._tunnels: dict[bytes, socket.socket] = {}
        self.unreachable: frozenset[bytes] = frozenset()
        self._numbers: dict[bytes, int] = {}
        self._sockets: dict[tuple[bytes, int], socket.socket] = {}
        self._on: dict[int, socket.socket] = {}
        self._wanted: list[Route | Rule] = []
        self._device = 0
        self._versions: set[int] = set()
        self._refused: set[Route | Rule] = set()
        self._encapsulated: set[bytes] = set()

    def open(self, device: int) -> None:
        """Begin with the TUN device of this index."""
        self._device = device
        self._on = {version: _raw_socket(version, MARK_BASE) for version in FAMILIES}

    def close(self) -> None:
        """Close all sockets."""
        self.senders, self.tunnels = {}, {}
        for each in (*self._sockets.values(), *self._tunnels.values(), *self._on.values()):
            each.close()
        self._sockets, self._tunnels, self._on = {}, {}, {}

    def extend(self, kernel: Kernel, snapshot: Snapshot) -> None:
        """Make what the snapshot needs; `unreachable` says afterwards which servers (packed) there is no way to."""
        self._versions = {cluster.prefix.version for cluster in snapshot.site.clusters.values()}
        servers = dict.fromkeys(_servers(snapshot, Forward.DIRECT))
        self._wanted = [*self._common(snapshot), *self._ways(servers), *self._returns(snapshot)]
        failed = dict(kernel.align(self._wanted))
        lost = {packed for packed in servers if any(way in failed for way in self._way(packed))}
        for packed in sorted(lost - self.unreachable):
            log.warning("no way to server", address=str(ip_address(packed)), error=self._why(packed, failed))
        refused = failed.keys() - {way for packed in servers for way in self._way(packed)}
        for thing in refused - self._refused:
            log.warning("the kernel refuses a setting, trying on", setting=str(thing), error=failed[thing])
        self._refused = refused
        for packed in servers:
            if packed not in lost:
                self._connect(packed)
        self.unreachable = frozenset(lost | set(self.open_tunnels(snapshot)))
        self.mtus = dict(self._measure(snapshot))

    def tidy(self, kernel: Kernel) -> list[socket.socket]:
        """Remove what the snapshot given to `extend` last does not need; answers sockets to be closed by who sends."""
        kernel.remove_others(self._wanted)
        marks = {thing.mark for thing in self._wanted if isinstance(thing, Rule)}
        tunnels = self._tunnels.keys() - self._encapsulated
        gone = {(packed, v) for packed, v in self._sockets if MARK_BASE + self._numbers[packed] not in marks}
        for place in gone:
            self.senders.pop(place, None)
        for packed in tunnels:
            self.tunnels.pop(packed, None)
        return [self._sockets.pop(place) for place in gone] + [self._tunnels.pop(packed) for packed in tunnels]

    def send_on(self, data: bytes) -> None:
        """Send a packet by its own destination; link-local and multicast ones stay on their link. Raises OSError."""
        version = data[0] >> 4
        address = IPv6Address(data[24:40]) if version == 6 else IPv4Address(data[16:20])
        if not (address.is_multicast or address.is_link_local):
            self._on[version].sendto(data, (str(address), 0))

    def _why(self, packed: bytes, failed: dict[Route | Rule, str]) -> str:
        return next(failed[way] for way in self._way(packed) if way in failed)

    def _common(self, snapshot: Snapshot) -> Iterator[Route | Rule]:
        for version in FAMILIES:
            yield Rule(version, PRIORITY, MAIN_TABLE, mark=MARK_BASE)
            # What is marked for a server whose table has no route must not come back to us by the main table.
            yield Rule(version, PRIORITY + 2, 0, mark=MARK_BASE)
        for cluster in snapshot.site.clusters.values():
            yield Route(cluster.prefix, MAIN_TABLE, device=self._device)

    def _ways(self, servers: Iterable[bytes]) -> Iterator[Route | Rule]:
        for packed in servers:
            yield from self._way(packed)

    def _way(self, packed: bytes) -> Iterator[Route | Rule]:
        """Rules and default routes of a direct server; IPv4 packets go by an IPv6 next hop too (RFC 8950)."""
        mark = MARK_BASE + self._numbers.setdefault(packed, len(self._numbers) + 1)
        for version in self._carried(packed):
            yield Rule(version, PRIORITY + 1, mark, mark=mark)
            yield Route(EVERYWHERE[version], mark, via=str(ip_address(packed)))

    def _carried(self, packed: bytes) -> set[int]:
        return self._versions if len(packed) == 16 else self._versions & {4}

    def _returns(self, snapshot: Snapshot) -> Iterator[Route | Rule]:
        """What servers under nat send comes to us, to get its VIP back."""
        pools = [pool for pool in snapshot.site.pools.values() if pool.forward is Forward.NAT]
        if pools:
            yield Route(EVERYWHERE[6], MARK_BASE, device=self._device)
        for address in dict.fromkeys(server.address for pool in pools for server in pool.servers):
            yield Rule(6, PRIORITY + 3, MARK_BASE, source=str(address))

    def _connect(self, packed: bytes) -> None:
        for version in self._carried(packed):
            if (packed, version) in self._sockets:
                continue
            made = _raw_socket(version, MARK_BASE + self._numbers[packed])
            with suppress(OSError):  # tried again: without a way the packets are counted as not sent
                made.connect((_SOMEWHERE[version], 0))
                self._sockets[packed, version] = made
                self.senders[packed, version] = made.send
                continue
            made.close()

    def open_tunnels(self, snapshot: Snapshot) -> Iterator[bytes]:
        """Open tunnels to the servers under encap; yields those (packed) that no route leads to."""
        self._encapsulated = set(_servers(snapshot, Forward.ENCAP))
        for packed in self._encapsulated:
            made = self._tunnels.get(packed) or _raw_socket(6, MARK_BASE)
            try:
                made.connect((str(ip_address(packed)), 0))
            except OSError as error:
                if packed not in self.unreachable:
                    log.warning("no way to server", address=str(ip_address(packed)), error=error.strerror)
                if packed not in self._tunnels:
                    made.close()
                yield packed
                continue
            self._tunnels[packed], self.tunnels[packed] = made, made.send

    def _measure(self, snapshot: Snapshot) -> Iterator[tuple[bytes, int]]:
        for packed in {packed for packed, _ in self._sockets} | self._tunnels.keys():
            ways = [(made, _SOMEWHERE[v]) for (address, v), made in self._sockets.items() if address == packed]
            ways += [(self._tunnels[packed], str(ip_address(packed)))] if packed in self._tunnels else []
            known = [mtu for made, to in ways if (mtu := _mtu(made, to))]
            if known:
                yield packed, min(known)
        for packed in dict.fromkeys(_servers(snapshot, Forward.NAT)):
            with _marked(socket.SOCK_DGRAM, 0, 6, MARK_BASE) as way:  # they share the socket of `send_on`
                if mtu := _mtu(way, str(ip_address(packed))):
                    yield packed, mtu


def _mtu(way: socket.socket, to: str) -> int:
    """The MTU of the way that a socket connected to `to` sends by; 0 where the kernel does not tell.

    It is connected anew first: else the kernel tells of the route that it found last, be it gone by now.
    """
    version = 6 if way.family == socket.AF_INET6 else 4
    level, option = _MTU_OPTIONS[version]
    with suppress(OSError):
        way.connect((to, 9))  # a port, which raw sockets take no notice of
        mtu = way.getsockopt(level, option)
        return mtu if mtu >= _SMALLEST_MTU[version] else 0
    return 0


def _servers(snapshot: Snapshot, mode: Forward) -> Iterator[bytes]:
    for pool in snapshot.site.pools.values():
        if pool.forward is mode:
            yield from (server.address.packed for server in pool.servers)


def _raw_socket(version: int, mark: int) -> socket.socket:
    """A socket that sends ready-made packets (IPPROTO_RAW implies IP_HDRINCL)."""
    made = _marked(socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_RAW, version, mark)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    return made


def _marked(kind: int, protocol: int, version: int, mark: int) -> socket.socket:
    """A socket whose packets are routed by a mark."""
    made = socket.socket(FAMILIES[version], kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    return made

"""Egress of the user-space runner: one raw socket per server.

Under direct each server has a firewall mark, a policy rule for the mark and a routing table whose default route is the
server, so packets keep their destination address. Under encap packets are routed by the main table.

No decisions here: it installs what a snapshot needs and reports unreachable servers.
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
from dnsvip.dispatcher.io.user.route_mtu import RouteMtus
from dnsvip.site import Forward, Snapshot

SEND_BUFFER_BYTES = 4 << 20
_DISCOVER, _PROBE = {6: (socket.IPPROTO_IPV6, 23), 4: (socket.IPPROTO_IP, 10)}, 3
"""IPV6_MTU_DISCOVER of linux/in6.h and IP_MTU_DISCOVER of linux/in.h, for which the socket module has no names, and the
value of both for packets that leave whole, whatever the kernel has been told of their way."""
_SOMEWHERE = {4: "192.0.2.1", 6: "2001:db8::1"}
"""Peer of a direct server's socket: any address that the default route of its table covers."""

log = structlog.get_logger()


class Paths:
    """Sockets, routes and rules of a snapshot. The packet path uses `senders`, `tunnels` and `send_on` only.

    `mtus` has the path MTU in bytes by server (packed), where the kernel reports one; `unreachable` the servers
    (packed) without a route. `peers` are other dispatchers (packed), to which tunnels lead as well.
    """

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
        self.peers: frozenset[bytes] = frozenset()

    def open(self, device: int) -> None:
        """Use the TUN device with this interface index."""
        self._device = device
        self._on = {version: _raw_socket(version, MARK_BASE) for version in FAMILIES}

    def close(self) -> None:
        """Close all sockets."""
        self.senders, self.tunnels = {}, {}
        for open_socket in (*self._sockets.values(), *self._tunnels.values(), *self._on.values()):
            open_socket.close()
        self._sockets, self._tunnels, self._on = {}, {}, {}

    def extend(self, kernel: Kernel, snapshot: Snapshot) -> None:
        """Install what the snapshot needs, and update `unreachable` and `mtus`."""
        self._versions = {cluster.prefix.version for cluster in snapshot.site.clusters.values()}
        servers = dict.fromkeys(_servers(snapshot, Forward.DIRECT))
        self._wanted = [*self._common(snapshot), *self._ways(servers), *self._returns(snapshot)]
        failed = dict(kernel.align(self._wanted))
        lost = {packed for packed in servers if any(way in failed for way in self._way(packed))}
        for packed in sorted(lost - self.unreachable):
            log.warning("no way to server", address=str(ip_address(packed)), error=self._why(packed, failed))
        refused = failed.keys() - {way for packed in servers for way in self._way(packed)}
        for setting in refused - self._refused:
            log.warning("the kernel refuses a setting, will retry", setting=str(setting), error=failed[setting])
        self._refused = refused
        for packed in servers:
            if packed not in lost:
                self._connect(packed)
        self.unreachable = frozenset(lost | set(self.open_tunnels(snapshot)))
        self.mtus = dict(self._measure(snapshot))

    def tidy(self, kernel: Kernel) -> list[socket.socket]:
        """Remove what the last snapshot given to `extend` does not need; returns the sockets, for the sending thread to
        close."""
        kernel.remove_others(self._wanted)
        marks = {item.mark for item in self._wanted if isinstance(item, Rule)}
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
            # A packet marked for a server whose table has no route must not loop back by the main table.
            yield Rule(version, PRIORITY + 2, 0, mark=MARK_BASE)
        for cluster in snapshot.site.clusters.values():
            yield Route(cluster.prefix, MAIN_TABLE, device=self._device)
            # Of a killed process this stays: its packets must not go back to the router that they come from.
            yield Route(cluster.prefix, MAIN_TABLE, discard=True)

    def _ways(self, servers: Iterable[bytes]) -> Iterator[Route | Rule]:
        for packed in servers:
            yield from self._way(packed)

    def _way(self, packed: bytes) -> Iterator[Route | Rule]:
        """Rules and default routes of a direct server; IPv4 packets may use an IPv6 next hop (RFC 8950)."""
        mark = MARK_BASE + self._numbers.setdefault(packed, len(self._numbers) + 1)
        for version in self._carried(packed):
            yield Rule(version, PRIORITY + 1, mark, mark=mark)
            yield Route(EVERYWHERE[version], mark, via=str(ip_address(packed)))

    def _carried(self, packed: bytes) -> set[int]:
        return self._versions if len(packed) == 16 else self._versions & {4}

    def _returns(self, snapshot: Snapshot) -> Iterator[Route | Rule]:
        """Route packets from nat servers into the device, to restore the VIP as their source."""
        servers = [ip_address(packed) for packed in dict.fromkeys(_servers(snapshot, Forward.NAT))]
        for version in sorted({address.version for address in servers}):
            yield Route(EVERYWHERE[version], MARK_BASE, device=self._device)
        for address in servers:
            yield Rule(address.version, PRIORITY + 3, MARK_BASE, source=str(address))

    def _connect(self, packed: bytes) -> None:
        for version in self._carried(packed):
            if (packed, version) in self._sockets:
                continue
            raw = _raw_socket(version, MARK_BASE + self._numbers[packed])
            with suppress(OSError):  # retried by the next `extend`; until then the packets count as send_failed
                raw.connect((_SOMEWHERE[version], 0))
                self._sockets[packed, version] = raw
                self.senders[packed, version] = raw.send
                continue
            raw.close()

    def open_tunnels(self, snapshot: Snapshot) -> Iterator[bytes]:
        """Open a socket per encap server and other dispatcher; yields those without a route."""
        self._encapsulated = {*_servers(snapshot, Forward.ENCAP), *self.peers}
        for packed in self._encapsulated:
            tunnel = self._tunnels.get(packed) or _raw_socket(6, MARK_BASE)
            try:
                tunnel.connect((str(ip_address(packed)), 0))
            except OSError as error:
                if packed not in self.unreachable:
                    log.warning("no way to server", address=str(ip_address(packed)), error=error.strerror)
                if packed not in self._tunnels:
                    tunnel.close()
                yield packed
                continue
            self._tunnels[packed], self.tunnels[packed] = tunnel, tunnel.send

    def _measure(self, snapshot: Snapshot) -> Iterator[tuple[bytes, int]]:
        with RouteMtus() as routes:
            ways = {packed: [(packed, MARK_BASE)] for packed in self._tunnels}
            for packed, version in self._sockets:
                mark = MARK_BASE + self._numbers[packed]
                ways.setdefault(packed, []).append((ip_address(_SOMEWHERE[version]).packed, mark))
            for packed in dict.fromkeys(_servers(snapshot, Forward.NAT)):
                ways[packed] = [(packed, MARK_BASE)]  # as `send_on` sends
            for packed, by in ways.items():
                known = [mtu for to, mark in by if (mtu := routes.of(to, mark))]
                if known:
                    yield packed, min(known)


def _servers(snapshot: Snapshot, mode: Forward) -> Iterator[bytes]:
    for pool in snapshot.site.pools.values():
        if pool.forward is mode:
            yield from (server.address.packed for server in pool.servers)


def _raw_socket(version: int, mark: int) -> socket.socket:
    """A socket that sends complete IP packets (IPPROTO_RAW implies IP_HDRINCL)."""
    raw = _marked(socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_RAW, version, mark)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    raw.setsockopt(*_DISCOVER[version], _PROBE)
    return raw


def _marked(kind: int, protocol: int, version: int, mark: int) -> socket.socket:
    """A socket whose packets carry a firewall mark."""
    marked = socket.socket(FAMILIES[version], kind, protocol)
    marked.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    return marked


def relayed_socket(own: IPv6Address | None, header: int) -> socket.socket:
    """A socket that takes tunnels to this address with a next header (RFC 2473); it reads the packets inside."""
    relayed = socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, header)
    relayed.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SEND_BUFFER_BYTES)
    relayed.bind((str(own), 0))
    return relayed

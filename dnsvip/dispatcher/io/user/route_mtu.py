"""The MTU of the route by which packets leave: its own, or that of its interface (rtnetlink(7)).

Not the path MTU that a socket reports (IPV6_MTU): in that is what Packet Too Big messages have told the kernel, which
believes any that quotes an echo of this host. A router takes none of them, as Linux does for what it forwards itself
(`ip_forward_use_pmtu` in the kernel's ip-sysctl). Calls block, for microseconds.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from dnsvip.rtnetlink import (
    HEADER,
    NLM_F_REQUEST,
    ROUTE,
    RTA_DST,
    RTA_OIF,
    RTM_GETROUTE,
    attribute,
    attributes,
    message,
)

_RTM_NEWROUTE = 24
_RTM_F_FIB_MATCH = 0x2000
"""Answer with the route itself, in place of what the kernel has learned of one destination."""
_RTA_METRICS, _RTA_MULTIPATH, _RTA_MARK = 8, 9, 16
_RTAX_MTU = 2
_HOP = struct.Struct("=HBBi")
_SIOCGIFMTU = 0x8921
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_SMALLEST = {4: 68, 6: 1280}
"""The MTU that every link has (RFC 791, RFC 8200 section 5)."""


class RouteMtus:
    """A connection to the kernel that remembers the MTU of each interface while it is open."""

    def __init__(self) -> None:
        self._kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._links: dict[tuple[int, int], int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kernel.close()

    def of(self, to: bytes, mark: int) -> int:
        """The MTU in bytes for packets to an address (packed) with a firewall mark, the smallest of several hops; 0
        without a route, or where it is less than IP allows. Raises OSError where the kernel tells nothing."""
        version = 6 if len(to) == 16 else 4
        request = ROUTE.pack(_FAMILIES[version], len(to) * 8, 0, 0, 0, 0, 0, 0, _RTM_F_FIB_MATCH)
        request += attribute(RTA_DST, to) + attribute(_RTA_MARK, struct.pack("=I", mark))
        self._kernel.send(message(RTM_GETROUTE, NLM_F_REQUEST, request))
        answer = self._kernel.recv(65_536)
        length, kind, *_ = HEADER.unpack_from(answer)
        if kind != _RTM_NEWROUTE:
            return 0
        mtu = self._of_route(dict(attributes(answer[HEADER.size + ROUTE.size : length])), version)
        return mtu if mtu >= _SMALLEST[version] else 0

    def _of_route(self, route: Mapping[int, bytes], version: int) -> int:
        own = dict(attributes(route.get(_RTA_METRICS, b""))).get(_RTAX_MTU)
        if own:
            return int.from_bytes(own, sys.byteorder)
        hops = [int.from_bytes(route[RTA_OIF], sys.byteorder)] if RTA_OIF in route else []
        hops += _interfaces(route.get(_RTA_MULTIPATH, b""))
        return min((mtu for hop in hops if (mtu := self._link(hop, version))), default=0)

    def _link(self, index: int, version: int) -> int:
        if (index, version) not in self._links:
            self._links[index, version] = _link_mtu(index, version)
        return self._links[index, version]


def _link_mtu(index: int, version: int) -> int:
    """The MTU of an interface; for IPv6 a router on its link may have told a smaller one (RFC 4861 section 4.6.4)."""
    with suppress(OSError, ValueError):
        name = socket.if_indextoname(index)
        if version == 6:
            return int(Path("/proc/sys/net/ipv6/conf", name, "mtu").read_text())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            answer = fcntl.ioctl(any_socket, _SIOCGIFMTU, struct.pack("16si20x", name.encode(), 0))
        return int(struct.unpack_from("=16xi", answer)[0])
    return 0


def _interfaces(data: bytes) -> Iterator[int]:
    """The interfaces of several next hops (struct rtnexthop)."""
    while len(data) >= _HOP.size:
        length, _, _, index = _HOP.unpack_from(data)
        if length < _HOP.size:
            return
        yield index
        data = data[length + -length % 4 :]

"""The few words of rtnetlink (rtnetlink(7)) that a source address needs: how a destination is routed, and a new address
on an interface."""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Iterator
from ipaddress import IPv6Address
from typing import NamedTuple

RTM_NEWADDR, RTM_GETROUTE = 20, 26
NLM_F_REQUEST, NLM_F_ACK, NLM_F_REPLACE, NLM_F_CREATE = 1, 4, 0x100, 0x400
NLMSG_ERROR = 2
RTA_DST, RTA_OIF = 1, 4
IFA_ADDRESS, IFA_LOCAL, IFA_CACHEINFO, IFA_FLAGS = 1, 2, 6, 8
IFA_F_NODAD, IFA_F_NOPREFIXROUTE = 0x02, 0x200
RTN_LOCAL = 2
HEADER = struct.Struct("=IHHII")
ROUTE = struct.Struct("=BBBBBBBBI")
ATTRIBUTE = struct.Struct("=HH")


class Route(NamedTuple):
    """Whether an address is this host's, and the interface that packets to it leave by."""

    is_local: bool
    interface: int


def route_to(address: IPv6Address) -> Route:
    """How the kernel routes an address; raises OSError without a route."""
    request = ROUTE.pack(socket.AF_INET6, 128, 0, 0, 0, 0, 0, 0, 0) + _attribute(RTA_DST, address.packed)
    answer = _exchange(RTM_GETROUTE, NLM_F_REQUEST, request)
    attributes = dict(_attributes(answer[ROUTE.size :]))
    interface = int.from_bytes(attributes.get(RTA_OIF, b""), sys.byteorder)
    return Route(ROUTE.unpack_from(answer)[7] == RTN_LOCAL, interface)


def add_address(address: IPv6Address, interface: int, seconds: int) -> None:
    """Give an interface an address that is used where a program asks for it alone (deprecated, RFC 4862 section 5.5.4),
    for `seconds` from now. Raises OSError, such as EPERM without CAP_NET_ADMIN."""
    lifetimes = struct.pack("=IIII", 0, seconds, 0, 0)
    request = (
        struct.pack("=BBBBI", socket.AF_INET6, 128, IFA_F_NODAD, 0, interface)
        + _attribute(IFA_LOCAL, address.packed)
        + _attribute(IFA_ADDRESS, address.packed)
        + _attribute(IFA_FLAGS, struct.pack("=I", IFA_F_NODAD | IFA_F_NOPREFIXROUTE))
        + _attribute(IFA_CACHEINFO, lifetimes)
    )
    _exchange(RTM_NEWADDR, NLM_F_REQUEST | NLM_F_ACK | NLM_F_REPLACE | NLM_F_CREATE, request)


def _exchange(kind: int, flags: int, body: bytes) -> bytes:
    """The body of the answer to a request; raises OSError for a refusal."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as kernel:
        kernel.send(HEADER.pack(HEADER.size + len(body), kind, flags, 1, 0) + body)
        answer = kernel.recv(65_536)
    length, answered, _, _, _ = HEADER.unpack_from(answer)
    content = answer[HEADER.size : length]
    if answered == NLMSG_ERROR and (refusal := -struct.unpack_from("=i", content)[0]):
        raise OSError(refusal, os.strerror(refusal))
    return content


def _attribute(kind: int, value: bytes) -> bytes:
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= ATTRIBUTE.size:
        length, kind = ATTRIBUTE.unpack_from(data)
        if length < ATTRIBUTE.size:
            return
        yield kind & 0x3FFF, data[ATTRIBUTE.size : length]
        data = data[length + -length % 4 :]

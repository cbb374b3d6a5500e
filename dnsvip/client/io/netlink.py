"""The few words of rtnetlink (rtnetlink(7)) that a source address needs: how a destination is routed, and a new address
on an interface."""

from __future__ import annotations

import os
import socket
import struct
import sys
from ipaddress import IPv6Address
from typing import NamedTuple

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

RTM_NEWADDR = 20
NLM_F_ACK, NLM_F_REPLACE, NLM_F_CREATE = 4, 0x100, 0x400
NLMSG_ERROR = 2
IFA_ADDRESS, IFA_LOCAL, IFA_CACHEINFO, IFA_FLAGS = 1, 2, 6, 8
IFA_F_NODAD, IFA_F_NOPREFIXROUTE = 0x02, 0x200
RTN_LOCAL = 2


class Route(NamedTuple):
    """Whether an address is this host's, and the interface that packets to it leave by."""

    is_local: bool
    interface: int


def route_to(address: IPv6Address) -> Route:
    """How the kernel routes an address; raises OSError without a route."""
    request = ROUTE.pack(socket.AF_INET6, 128, 0, 0, 0, 0, 0, 0, 0) + attribute(RTA_DST, address.packed)
    answer = _exchange(RTM_GETROUTE, NLM_F_REQUEST, request)
    route = dict(attributes(answer[ROUTE.size :]))
    interface = int.from_bytes(route.get(RTA_OIF, b""), sys.byteorder)
    return Route(ROUTE.unpack_from(answer)[7] == RTN_LOCAL, interface)


def add_address(address: IPv6Address, interface: int, seconds: int) -> None:
    """Give an interface an address that is used where a program asks for it alone (deprecated, RFC 4862 section 5.5.4),
    for `seconds` from now. Raises OSError, such as EPERM without CAP_NET_ADMIN."""
    lifetimes = struct.pack("=IIII", 0, seconds, 0, 0)
    request = (
        struct.pack("=BBBBI", socket.AF_INET6, 128, IFA_F_NODAD, 0, interface)
        + attribute(IFA_LOCAL, address.packed)
        + attribute(IFA_ADDRESS, address.packed)
        + attribute(IFA_FLAGS, struct.pack("=I", IFA_F_NODAD | IFA_F_NOPREFIXROUTE))
        + attribute(IFA_CACHEINFO, lifetimes)
    )
    _exchange(RTM_NEWADDR, NLM_F_REQUEST | NLM_F_ACK | NLM_F_REPLACE | NLM_F_CREATE, request)


def _exchange(kind: int, flags: int, body: bytes) -> bytes:
    """The body of the answer to a request; raises OSError for a refusal."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as kernel:
        kernel.send(message(kind, flags, body))
        answer = kernel.recv(65_536)
    length, answered, _, _, _ = HEADER.unpack_from(answer)
    content = answer[HEADER.size : length]
    if answered == NLMSG_ERROR and (refusal := -struct.unpack_from("=i", content)[0]):
        raise OSError(refusal, os.strerror(refusal))
    return content

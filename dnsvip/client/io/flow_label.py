"""A flow label of our own on a connection (RFC 6437), as Linux has programs set it.

The label is leased by IPV6_FLOWLABEL_MGR, so that the kernel gives it to nobody else for another destination, and goes
with the address that is connected to. Where it leases none of that value (net.ipv6.flowlabel_state_ranges keeps half of
them for itself), it still sends it unless some program has leased one for itself alone.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from ipaddress import IPv6Address

from dnsvip.errors import ClientError

IPV6_FLOWLABEL_MGR, IPV6_FLOWINFO_SEND = 32, 33
"""Options of a socket (include/uapi/linux/in6.h); the socket module has no names for them."""

GET, CREATE, SHARED = 0, 1, 255
"""IPV6_FL_A_GET, IPV6_FL_F_CREATE, IPV6_FL_S_ANY."""

LINGER_SECONDS = 6
"""How long the kernel keeps a lease after its socket is closed: the least that it takes."""


def use_label(sock: socket.socket, address: IPv6Address, label: int) -> None:
    """Have a TCP socket send `label` to `address` once it is connected there with that flow information. Raises
    ClientError where this system cannot."""
    request = (
        address.packed + struct.pack("!I", label) + struct.pack("=BBHHHI", GET, SHARED, CREATE, 0, LINGER_SECONDS, 0)
    )
    try:
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FLOWLABEL_MGR, request)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FLOWINFO_SEND, 1)
    except OSError as error:
        raise ClientError(
            f"this system lets no program set a flow label ({error.strerror}): claim nothing in it"
        ) from None

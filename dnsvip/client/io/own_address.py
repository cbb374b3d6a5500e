"""Connecting from a source address that says who the client is (address/README.md, "Source").

The address is one of this client's /64, and nobody has given it to an interface yet. In this order: it is bound where
it is on an interface; bound freely (IP_FREEBIND) where a route on lo has the /64 for this host, which needs no
privilege; else given to the interface towards the cluster, which needs CAP_NET_ADMIN. There it is deprecated from the
start, so that the system selects it for no other connection, and gone a day after it was added.
"""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv6Address

from dnsvip.client.io.netlink import add_address, route_to
from dnsvip.client.io.prover import IP_BIND_ADDRESS_NO_PORT
from dnsvip.client.tickets import network_of
from dnsvip.errors import ClientError

IP_FREEBIND = 15  # ip(7)
KEPT_SECONDS = 86_400
"""How long an address stays on its interface; flows from it end then."""


def bound_to(source: IPv6Address, destination: IPv6Address) -> socket.socket:
    """A non-blocking TCP socket that connects from `source` to `destination`; raises ClientError where this host cannot
    have that address."""
    sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        try:
            sock.bind((str(source), 0))
        except OSError as error:
            if error.errno != errno.EADDRNOTAVAIL:
                raise
            _have(source, destination, sock)
            sock.bind((str(source), 0))
    except OSError as error:
        sock.close()
        raise ClientError(_refused(source, error)) from None
    except BaseException:
        sock.close()
        raise
    return sock


def _have(source: IPv6Address, destination: IPv6Address, sock: socket.socket) -> None:
    """Make `source` an address that the socket can be bound to; raises OSError."""
    if route_to(source).is_local:
        sock.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
    else:
        add_address(source, route_to(destination).interface, KEPT_SECONDS)


def _refused(source: IPv6Address, error: OSError) -> str:
    text = f"this host cannot connect from its own address {source}: {error.strerror}"
    if error.errno not in (errno.EPERM, errno.EACCES):
        return text
    network = network_of(source)
    return (
        f"{text}. Give the program CAP_NET_ADMIN, or, where {network} is routed to this host, add once as root:"
        f" ip -6 route add local {network} dev lo"
    )

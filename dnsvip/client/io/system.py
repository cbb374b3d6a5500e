"""The operating system's part: source address selection, the system resolver, ordinary connections."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address

from aiohappyeyeballs import AddrInfoType, start_connection

from dnsvip.errors import ClientError


def is_address(name: str) -> bool:
    """Whether a name is an IP address literal."""
    try:
        ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


NO_ROUTE = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EACCES}
)
"""What connecting fails with where this host has no IPv6, no route or none of its kind (EACCES: `prohibit`)."""


class Unreachable(ClientError):
    """This host has no way to an address: no IPv6, no route or no source address."""


def source_towards(address: IPv6Address) -> IPv6Address:
    """The source address this host selects; connecting a UDP socket sends nothing. Raises Unreachable."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), 9))
            return IPv6Address(probe.getsockname()[0].partition("%")[0])
    except OSError as error:
        raise Unreachable(f"{address} cannot be reached from here: {error.strerror}") from None


def is_unreachable(error: Exception) -> bool:
    """Whether an error says that this host has no way to the address, and not that the other side refused."""
    return isinstance(error, Unreachable) or (isinstance(error, OSError) and error.errno in NO_ROUTE)


async def connected(sock: socket.socket, address: str, port: int, label: int = 0) -> socket.socket:
    """Connect a non-blocking socket and return it; on failure close it and raise OSError. Of one to IPv6 the flow label
    is `label`, 0 for the host's own."""
    end = (address, port, label, 0) if label else (address, port)
    try:
        await asyncio.get_running_loop().sock_connect(sock, end)
    except BaseException:
        sock.close()
        raise
    return sock


async def system_addresses(name: str, port: int) -> Sequence[AddrInfoType]:
    """The system resolver's answer, in its order of preference; raises ClientError."""
    try:
        return await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise ClientError(f"{name}: {getattr(error, 'strerror', None) or error}") from None


async def connect_as_system(name: str, port: int) -> socket.socket:
    """A connected TCP socket, trying both address families (RFC 8305); raises ClientError or OSError."""
    addresses = await system_addresses(name, port)
    return await start_connection(addresses, happy_eyeballs_delay=0.25)  # RFC 8305

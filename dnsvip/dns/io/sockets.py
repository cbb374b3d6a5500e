"""Sockets of a listener: one of each protocol, on one port."""

from __future__ import annotations

import socket
from collections.abc import Sequence

PORT_TRIES = 8
"""Attempts to find a port that is free for both UDP and TCP."""

STREAM_BUFFER = 1 << 17
"""Bytes of answers that the kernel holds of a connection, and half as many of queries, at twice as much memory. By
default it lets a peer that asks and does not read fill 4 MB, a thousand connections 4 GB."""


def bind(host: str, port: int, protocols: Sequence[str], *, shared: bool) -> list[socket.socket]:
    """A socket of each protocol on one port; port 0 takes one that is free for all. Several processes may bind a
    `shared` one (SO_REUSEPORT). Raises OSError."""
    for attempt in range(PORT_TRIES):
        socks: list[socket.socket] = []
        try:
            for protocol in protocols:
                at = socks[0].getsockname()[1] if socks else port
                socks.append(_socket(host, at, _KINDS[protocol], shared=shared))
        except OSError:
            for sock in socks:
                sock.close()
            if port or attempt == PORT_TRIES - 1:
                raise
        else:
            return socks
    raise AssertionError("unreachable: the last attempt returns or raises")


_KINDS = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM}


def _socket(host: str, port: int, kind: socket.SocketKind, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, kind)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, STREAM_BUFFER)  # of each connection
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, STREAM_BUFFER // 2)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock

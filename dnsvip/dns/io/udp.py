"""Datagrams: read, have them answered, send the answer from the address that was asked.

Knows sockets and nothing of DNS. The loop tells when there is something to read; each time at most
`BATCH` datagrams are taken, so that nothing else starves.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from struct import Struct
from typing import Any, TypeAlias

Respond: TypeAlias = Callable[[bytes, IPv4Address | IPv6Address, str, str], bytes | None]
"""(message, source, listener, "udp" or "tcp") -> the answer, None for none."""

BATCH = 32
RECEIVE_BUFFER = 4 << 20

IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)  # named in the socket module from Python 3.14 on
_INFO4 = Struct("=I4s4s")
_INFO6 = Struct("=16sI")
_ANCILLARY = socket.CMSG_SPACE(_INFO6.size)


class Datagrams:
    """One UDP socket bound to `host` and `port`, answering in the name of `listener` from `start` to `stop`."""

    def __init__(self, sock: socket.socket, listener: str, respond: Respond, tally: Counter[str]) -> None:
        self._sock, self._listener, self._respond, self._tally = sock, listener, respond, tally
        self._ancillary = _ANCILLARY if ip_address(sock.getsockname()[0]).is_unspecified else 0

    def start(self) -> None:
        """Read as datagrams come."""
        sock = self._sock
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if self._ancillary and sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        elif self._ancillary:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        asyncio.get_running_loop().add_reader(sock.fileno(), self._readable)

    def stop(self) -> None:
        """Read no more, and give up the port."""
        asyncio.get_running_loop().remove_reader(self._sock.fileno())
        self._sock.close()

    def _readable(self) -> None:
        for _ in range(BATCH):
            try:
                wire, ancillary, _, peer = self._sock.recvmsg(65535, self._ancillary)
            except BlockingIOError:
                return
            except OSError:  # an earlier answer's ICMP error; it belongs to no datagram
                self._tally["udp_errors"] += 1
                continue
            self._tally["udp_messages"] += 1
            answer = self._respond(wire, ip_address(peer[0]), self._listener, "udp")
            if answer is not None:
                self._send(answer, ancillary, peer)

    def _send(self, answer: bytes, ancillary: list[tuple[int, int, bytes]], peer: Any) -> None:
        try:
            self._sock.sendmsg([answer], _from_where_asked(ancillary), 0, peer)
        except OSError:  # a full buffer, or nowhere to send it: UDP may lose it, the requester will ask again
            self._tally["udp_unsent"] += 1


def _from_where_asked(ancillary: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """The received packet's destination as the answer's source. An interface is named for link-local ones only."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            _, local, _ = _INFO4.unpack(data[: _INFO4.size])
            return [(level, kind, _INFO4.pack(0, local, bytes(4)))]
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            address, interface = _INFO6.unpack(data[: _INFO6.size])
            scoped = IPv6Address(address).is_link_local
            return [(level, kind, _INFO6.pack(address, interface if scoped else 0))]
    return []

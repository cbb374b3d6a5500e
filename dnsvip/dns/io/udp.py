"""Datagrams by the batch: recvmmsg and sendmmsg into fixed buffers, one system call for up to 64 messages.

Knows sockets and nothing of DNS. One turn of the event loop takes at most `ROUNDS` batches, so that nothing else
starves. Answers to one port, such as a front end's or a forwarder's, are sent as one buffer where the kernel and the
interface can segment it (`buffers`); after they could not, the next SINGLY batches go out one by one.

Path MTUs that ICMP errors report are ignored (IP_PMTUDISC_OMIT), as NSD, Knot, BIND and PowerDNS do: anyone can forge
one, which would fragment answers that fit every path. What an interface cannot carry is fragmented (RFC 9715).
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from itertools import groupby
from typing import TypeAlias

from dnsvip.dns.hotpath.keys import WIDTH
from dnsvip.dns.io.buffers import BATCH, Buffers, Run

RespondAll: TypeAlias = Callable[[Sequence[bytes], bytearray, str, int], Sequence[bytes | None]]
"""(keys, the messages' ids, listener, width as in `hotpath.keys`) -> the answers after their ids, None for none. Each
is sent with the two bytes that then stand in its place of the ids."""

ROUNDS = 4
RECEIVE_BUFFER = 4 << 20

IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)  # named in the socket module from Python 3.14 on

IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_OMIT = 10, 23, 5
"""Options of linux/in.h and linux/in6.h that the socket module does not name; OMIT is the same for both."""

SINGLY = 1024
"""Batches sent one by one after the kernel could not segment one: it may have been for one destination only."""

LEAST_IN_RUNS = 4
"""Batches with fewer answers are not searched for common destinations."""


class Batches:
    """One bound UDP socket, answering in the name of `listener` from `start` to `stop`."""

    def __init__(self, sock: socket.socket, listener: str, respond: RespondAll, tally: Counter[str]) -> None:
        self._sock, self._listener, self._respond, self._tally = sock, listener, respond, tally
        self._buffers = Buffers(sock.family, wild=ip_address(sock.getsockname()[0]).is_unspecified)
        self._width = WIDTH[4 if sock.family == socket.AF_INET else 6]
        self._singly = 0

    def start(self) -> None:
        """Read as datagrams come."""
        sock = self._sock
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if self._buffers.wild and sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        elif self._buffers.wild:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_OMIT)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_OMIT)
        asyncio.get_running_loop().add_reader(sock.fileno(), self.poll)

    def stop(self) -> None:
        """Stop reading, and release the port."""
        asyncio.get_running_loop().remove_reader(self._sock.fileno())
        self._sock.close()

    def poll(self) -> None:
        """Answer what has come."""
        buffers, fd = self._buffers, self._sock.fileno()
        for _ in range(ROUNDS):
            number = buffers.receive(fd)
            if number < 0:
                if ctypes.get_errno() not in _NOTHING_NOW:  # an earlier answer's ICMP error; it belongs to no datagram
                    self._tally["udp_errors"] += 1
                    continue
                return
            self._tally["udp_messages"] += number
            self._send(fd, self._respond(buffers.keys(number), buffers.ids, self._listener, self._width))
            if number < BATCH:
                return

    def _send(self, fd: int, answers: Sequence[bytes | None]) -> None:
        """Send each answer to where its query came from; messages without an answer are skipped."""
        sizes = self._buffers.put(answers)
        if self._singly:
            self._singly -= 1
        elif len(sizes) >= LEAST_IN_RUNS and (runs := self._buffers.runs(sizes)):
            rest = self._send_runs(fd, runs)
            self._buffers.in_order()
            if rest:
                self._singly = SINGLY
                self._buffers.put(answers)
                for place in rest:
                    self._send_run(fd, place, place + 1)
            return
        if all(sizes):
            self._send_run(fd, 0, len(sizes))
            return
        for due, run in groupby(range(len(sizes)), lambda place: bool(sizes[place])):
            if due:
                places = list(run)
                self._send_run(fd, places[0], places[-1] + 1)

    def _send_runs(self, fd: int, runs: list[Run]) -> list[int]:
        """Send each run as one buffer; returns the places of the answers that have to be sent one by one."""
        at = 0
        while at < len(runs):
            sent = self._buffers.send_runs(fd, at, len(runs) - at)
            if sent > 0:
                at += sent
                continue
            number = ctypes.get_errno()
            if number in _UNABLE:
                return [place for run in runs[at:] for place in run]
            if number in _FULL:
                self._tally["udp_unsent"] += sum(map(len, runs[at:]))
                break
            if number != errno.EINTR:
                self._tally["udp_unsent"] += len(runs[at])
                at += 1
        return []

    def _send_run(self, fd: int, at: int, end: int) -> None:
        while at < end:
            sent = self._buffers.send(fd, at, end - at)
            if sent > 0:
                at += sent
            elif ctypes.get_errno() in _FULL:  # UDP may lose them, the requesters will retry
                self._tally["udp_unsent"] += end - at
                return
            elif ctypes.get_errno() != errno.EINTR:  # nowhere to send this one
                self._tally["udp_unsent"] += 1
                at += 1


_NOTHING_NOW = frozenset((errno.EAGAIN, errno.EINTR))
_FULL = frozenset((errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM))
_UNABLE = frozenset((errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.EOPNOTSUPP, errno.ENOPROTOOPT))
"""The kernel or the interface cannot segment, or the path MTU is below an answer."""

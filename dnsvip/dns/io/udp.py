"""Datagrams by the batch: recvmmsg and sendmmsg into fixed buffers, one system call for up to 64 messages.

Knows sockets and nothing of DNS. One turn of the event loop takes at most `ROUNDS` batches, and begins none after
`SLICE`, so that nothing else starves; what cannot be answered at once is answered in `turns`. Answers to one port, such
as a front end's or a forwarder's, are sent as one buffer where the kernel and the interface can segment it (`buffers`);
after they could not, the next SINGLY batches go out one by one, and APART after a batch with many destinations.

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
from struct import Struct
from time import perf_counter, thread_time
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from dnsvip.dns.hotpath.keys import WIDTH
from dnsvip.dns.io.buffers import BATCH, Buffers, Destination, Run
from dnsvip.dns.io.latency import Latency

W = TypeVar("W")
W_contra = TypeVar("W_contra", contravariant=True)
"""A message that is to be answered later."""

RespondAll: TypeAlias = Callable[[Sequence[bytes], bytearray, str, int], tuple[Sequence[bytes | None], Sequence[W]]]
"""(keys, the messages' ids, listener, width as in `hotpath.keys`) -> the answers after their ids, None for none, and
what is to be answered in turns. Each answer is sent with the two bytes that then stand in its place of the ids."""


class Turns(Protocol[W_contra]):
    """Where messages wait to be answered."""

    def put(self, some: Sequence[W_contra], sender: Batches[Any], destination: Callable[[int], Destination]) -> None:
        """Have messages answered in the turns of their sources; `destination` is that of a place in their batch."""

    def begin(self) -> None:
        """Answer some now."""


ROUNDS, SLICE = 4, 0.002
"""Batches in one turn of the event loop, and seconds of processor time after which it begins no other."""

RECEIVE_BUFFER = 4 << 20
MOST_DISCARDED = 1 << 14
"""Datagrams, more than that buffer has room for."""

SO_MEMINFO, MEMORY = 55, Struct("=9I")
"""An option of asm-generic/socket.h, and the numbers that it gives (linux/sock_diag.h)."""

IP_PKTINFO = getattr(socket, "IP_PKTINFO", 8)  # named in the socket module from Python 3.14 on

IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_OMIT = 10, 23, 5
"""Options of linux/in.h and linux/in6.h that the socket module does not name; OMIT is the same for both."""

SINGLY = 1024
"""Batches sent one by one after the kernel could not segment one: it may have been for one destination only."""

APART = 8
"""Batches sent one by one after one that had too many destinations for it to be of use."""

LEAST_IN_RUNS = 4
"""Batches with fewer answers are not searched for common destinations."""


class Batches(Generic[W]):
    """One bound UDP socket, answering in the name of `listener` from `start` to `stop`."""

    def __init__(
        self,
        sock: socket.socket,
        listener: str,
        respond: RespondAll[W],
        tally: Counter[str],
        turns: Turns[W],
        latency: Latency | None = None,
    ) -> None:
        self._sock, self._listener, self._respond, self._tally, self._turns = sock, listener, respond, tally, turns
        self._latency = latency or Latency()
        wild = ip_address(sock.getsockname()[0]).is_unspecified
        self._buffers, self._later = (Buffers(sock.family, wild=wild) for _ in range(2))
        self._width = WIDTH[4 if sock.family == socket.AF_INET else 6]
        self._singly = 0
        self.spent = 0.0
        """Seconds of reading and answering at once (`perf_counter`)."""

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

    def held(self) -> tuple[int, int]:
        """Bytes that wait in the kernel to be read, as it counts them, and datagrams that it had no room for."""
        memory = MEMORY.unpack(self._sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, MEMORY.size))
        return memory[0], memory[-1]

    def discard(self) -> int:
        """Answer nothing of what waits to be read; how many messages that was."""
        total = 0
        for _ in range(MOST_DISCARDED // BATCH):
            number = self._buffers.receive(self._sock.fileno())
            total += max(number, 0)
            if number < BATCH:
                break
        self._tally["udp_messages"] += total
        return total

    def poll(self) -> None:
        """Answer what has come: at once what there are answers to, and some of the rest."""
        self.read()
        self._turns.begin()

    def read(self) -> None:
        """Answer that of what has come which there are answers to; the rest waits for its turn."""
        begun = perf_counter()
        self._read()
        self.spent += perf_counter() - begun

    def _read(self) -> None:
        buffers, fd = self._buffers, self._sock.fileno()
        end = thread_time() + SLICE
        for _ in range(ROUNDS):
            number = buffers.receive(fd)
            if number < 0:
                if ctypes.get_errno() not in _NOTHING_NOW:  # an earlier answer's ICMP error; it belongs to no datagram
                    self._tally["udp_errors"] += 1
                    continue
                return
            self._tally["udp_messages"] += number
            begun = perf_counter() if self._latency.is_due() else 0.0
            answers, later = self._respond(buffers.keys(number), buffers.ids, self._listener, self._width)
            if later:
                self._turns.put(later, self, buffers.destination)
            if len(later) < number:
                self._send(fd, answers)
                if begun:
                    self._latency.observe(perf_counter() - begun, number - len(later))
            if number < BATCH or thread_time() >= end:
                return

    def send_later(self, answers: Sequence[tuple[Destination, bytes, bytes]]) -> None:
        """Send answers: where to, id, and what follows the id; at most BATCH."""
        for place, (destination, id_, _) in enumerate(answers):
            self._later.direct(place, destination, id_)
        self._send(self._sock.fileno(), [answer for _, _, answer in answers], self._later)

    def _send(self, fd: int, answers: Sequence[bytes | None], buffers: Buffers | None = None) -> None:
        """Send each answer to where its query came from; messages without an answer are skipped."""
        buffers = buffers or self._buffers
        sizes = buffers.put(answers)
        if self._singly:
            self._singly -= 1
        elif len(sizes) >= LEAST_IN_RUNS and (runs := buffers.runs(sizes)):
            if rest := self._send_runs(fd, runs, buffers):
                self._singly = SINGLY
                buffers.put(answers)
                for place in rest:
                    self._send_run(fd, place, place + 1, buffers)
            return
        elif len(sizes) >= LEAST_IN_RUNS:
            self._singly = APART
        if all(sizes):
            self._send_run(fd, 0, len(sizes), buffers)
            return
        for due, run in groupby(range(len(sizes)), lambda place: bool(sizes[place])):
            if due:
                places = list(run)
                self._send_run(fd, places[0], places[-1] + 1, buffers)

    def _send_runs(self, fd: int, runs: list[Run], buffers: Buffers) -> list[int]:
        """Send each run as one buffer; returns the places of the answers that have to be sent one by one."""
        at = 0
        while at < len(runs):
            sent = buffers.send_runs(fd, at, len(runs) - at)
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

    def _send_run(self, fd: int, at: int, end: int, buffers: Buffers) -> None:
        while at < end:
            sent = buffers.send(fd, at, end - at)
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

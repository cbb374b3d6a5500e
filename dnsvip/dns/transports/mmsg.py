"""Datagrams by the batch: recvmmsg and sendmmsg into fixed buffers, one system call for up to 64 messages.

Knows sockets and nothing of DNS. It answers as `udp.Datagrams` does, which stays the way where the C library
has no recvmmsg. Each time the loop calls it takes at most `ROUNDS` batches, so that nothing else starves.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import socket
import struct
import sys
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from itertools import groupby
from typing import Any, TypeAlias, cast

from dnsvip.dns.transports.udp import IP_PKTINFO, RECEIVE_BUFFER

RespondAll: TypeAlias = Callable[[Sequence[bytes], Sequence[bytes], str], Sequence[bytes | None]]
"""(messages, their senders' addresses as 4 or 16 bytes, listener) -> the answers, None for none."""

BATCH, ROUNDS = 64, 4

NEAR = 512
"""Bytes of a message kept close to the next one's; nearly all are shorter. The rest of a longer one goes elsewhere."""

FAR = 65536 - NEAR
ANSWER = 4096
"""Room for an answer; UDP ones are at most 1232 bytes."""

_MSG_DONTWAIT = 0x40


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("len", ctypes.c_size_t))


class _Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Mmsghdr(ctypes.Structure):
    _fields_ = (("hdr", _Msghdr), ("len", ctypes.c_uint32))


_SIZE = ctypes.sizeof(_Mmsghdr)
_NAME = 28  # sockaddr_in6
_CONTROL = 40  # CMSG_SPACE of in6_pktinfo
_INFO_AT = 16  # CMSG_DATA

# PyDLL keeps the interpreter's lock: these calls never wait, and giving the lock away costs more than they take.
_libc = ctypes.PyDLL(None, use_errno=True)
_recvmmsg: Any = getattr(_libc, "recvmmsg", None)
_sendmmsg: Any = getattr(_libc, "sendmmsg", None)
if _recvmmsg and _sendmmsg:
    _recvmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
    _sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)

AVAILABLE = bool(_recvmmsg and _sendmmsg)
"""Whether the C library has both calls (Linux)."""


class Batches:
    """One bound UDP socket, answering in the name of `listener` from `start` to `stop`."""

    def __init__(self, sock: socket.socket, listener: str, respond: RespondAll, tally: Counter[str]) -> None:
        self._sock, self._listener, self._respond, self._tally = sock, listener, respond, tally
        self._buffers = _Buffers(sock.family, wild=ip_address(sock.getsockname()[0]).is_unspecified)

    def start(self) -> None:
        """Read as datagrams come."""
        sock = self._sock
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        if self._buffers.wild and sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        elif self._buffers.wild:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        asyncio.get_running_loop().add_reader(sock.fileno(), self._readable)

    def stop(self) -> None:
        """Read no more, and give up the port."""
        asyncio.get_running_loop().remove_reader(self._sock.fileno())
        self._sock.close()

    def _readable(self) -> None:
        buffers, fd = self._buffers, self._sock.fileno()
        for _ in range(ROUNDS):
            number = buffers.receive(fd)
            if number < 0:
                if ctypes.get_errno() not in _NOTHING_NOW:  # an earlier answer's ICMP error; it belongs to no datagram
                    self._tally["udp_errors"] += 1
                    continue
                return
            self._tally["udp_messages"] += number
            wires, peers = buffers.taken(number)
            self._send(fd, self._respond(wires, peers, self._listener))
            if number < BATCH:
                return

    def _send(self, fd: int, answers: Sequence[bytes | None]) -> None:
        """Send the answers, each to where its question came from; those in between that have none are left out."""
        self._buffers.put(answers)
        if None not in answers:
            self._send_run(fd, 0, len(answers))
            return
        for due, run in groupby(enumerate(answers), lambda pair: pair[1] is not None):
            if due:
                places = [place for place, _ in run]
                self._send_run(fd, places[0], places[-1] + 1)

    def _send_run(self, fd: int, at: int, end: int) -> None:
        while at < end:
            sent = self._buffers.send(fd, at, end - at)
            if sent > 0:
                at += sent
            elif ctypes.get_errno() in _FULL:  # UDP may lose it, the askers will ask again
                self._tally["udp_unsent"] += end - at
                return
            elif ctypes.get_errno() != errno.EINTR:  # nowhere to send this one
                self._tally["udp_unsent"] += 1
                at += 1


_NOTHING_NOW = frozenset((errno.EAGAIN, errno.EINTR))
_FULL = frozenset((errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM))


class _Buffers:
    """The memory of both calls. Message n's sender and control data serve its answer, as they are."""

    def __init__(self, family: int, *, wild: bool) -> None:
        v4 = family == socket.AF_INET
        self.wild, self._v4 = wild, v4
        self._address = slice(4, 8) if v4 else slice(8, 24)  # in sockaddr_in and sockaddr_in6
        self._near, self._out = bytearray(BATCH * NEAR), bytearray(BATCH * ANSWER)
        self._far = bytearray(BATCH * FAR)
        self._names, self._control = bytearray(BATCH * _NAME), bytearray(BATCH * _CONTROL)
        self._received, self._sent = (_Mmsghdr * BATCH)(), (_Mmsghdr * BATCH)()
        self._parts, self._out_parts = (_Iovec * (2 * BATCH))(), (_Iovec * BATCH)()
        for n in range(BATCH):
            self._lay_out(n, 16 if v4 else 28)
        self._lengths = _column(self._received, _Mmsghdr.len.offset, "I", _SIZE)
        self._out_lengths = _column(self._out_parts, _Iovec.len.offset, "Q", ctypes.sizeof(_Iovec))
        self._controls = _column(self._received, _Msghdr.controllen.offset, "Q", _SIZE)
        self._out_controls = _column(self._sent, _Msghdr.controllen.offset, "Q", _SIZE)
        self._room = memoryview(_CONTROL.to_bytes(8, sys.byteorder) * BATCH).cast("Q")
        self._interfaces = memoryview(self._control).cast("I")[4 if v4 else 8 :: _CONTROL // 4]  # in in(6)_pktinfo
        self._in_at, self._out_at = ctypes.addressof(self._received), ctypes.addressof(self._sent)

    def _lay_out(self, n: int, name_size: int) -> None:
        name, control = _at(self._names) + n * _NAME, _at(self._control) + n * _CONTROL if self.wild else None
        self._parts[2 * n] = _Iovec(_at(self._near) + n * NEAR, NEAR)
        self._parts[2 * n + 1] = _Iovec(_at(self._far) + n * FAR, FAR)
        self._out_parts[n] = _Iovec(_at(self._out) + n * ANSWER, 0)
        parts, out = ctypes.addressof(self._parts[2 * n]), ctypes.addressof(self._out_parts[n])
        self._received[n].hdr = _Msghdr(name, name_size, parts, 2, control)
        self._sent[n].hdr = _Msghdr(name, name_size, out, 1, control)

    def receive(self, fd: int) -> int:
        """How many messages came; -1 and errno where there are none."""
        if self.wild:
            self._controls[:] = self._room
        return int(_recvmmsg(fd, self._in_at, BATCH, _MSG_DONTWAIT, None))

    def taken(self, number: int) -> tuple[list[bytes], list[bytes]]:
        """The messages that came, and their senders' addresses."""
        near, names = bytes(memoryview(self._near)[: number * NEAR]), bytes(memoryview(self._names)[: number * _NAME])
        lengths = self._lengths[:number].tolist()
        wires = [near[at : at + length] for at, length in zip(_NEAR_AT, lengths, strict=False)]
        if max(lengths) > NEAR:
            for n, length in enumerate(lengths):
                if length > NEAR:
                    wires[n] = near[n * NEAR : (n + 1) * NEAR] + self._far[n * FAR : n * FAR + length - NEAR]
        first, last = self._address.start, self._address.stop
        peers = [names[at + first : at + last] for at in _NAME_AT[:number]]
        if self.wild:
            self._answer_from_where_asked(number)
        return wires, peers

    def _answer_from_where_asked(self, number: int) -> None:
        """The received control data as the answer's; an interface is named for link-local addresses only."""
        self._out_controls[:number] = self._controls[:number]
        for n in range(number):
            at = n * _CONTROL + _INFO_AT
            if self._v4 or self._control[at] != 0xFE or self._control[at + 1] & 0xC0 != 0x80:
                self._interfaces[n] = 0

    def put(self, answers: Sequence[bytes | None]) -> None:
        """Make the answers ready to be sent."""
        out, sizes = self._out, array("Q")
        add = sizes.append
        for at, answer in zip(_OUT_AT, answers, strict=False):
            size = len(answer) if answer else 0
            add(size)
            if answer:
                out[at : at + size] = answer
        self._out_lengths[: len(sizes)] = memoryview(sizes)

    def send(self, fd: int, at: int, number: int) -> int:
        """How many answers were sent, of `number` from the one `at`; -1 and errno where the first was not."""
        return int(_sendmmsg(fd, self._out_at + at * _SIZE, number, _MSG_DONTWAIT))


_NEAR_AT, _NAME_AT = range(0, BATCH * NEAR, NEAR), range(0, BATCH * _NAME, _NAME)
_OUT_AT = range(0, BATCH * ANSWER, ANSWER)


def _at(buffer: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def _column(array: ctypes.Array[Any], offset: int, form: str, stride: int) -> memoryview:
    """One field of every structure in an array."""
    size = struct.calcsize(form)
    flat: memoryview = memoryview(array).cast("B").cast(cast("Any", form))
    return flat[offset // size :: stride // size]

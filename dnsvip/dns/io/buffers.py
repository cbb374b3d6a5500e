"""The memory of recvmmsg and sendmmsg: a batch of messages, their senders, and the answers to them.

A message is received scattered: its id by itself, and the rest right behind the sender's address, which together are
its key (`hotpath.keys`). The answers to a batch stand one behind the other, each behind its id; mostly messages and
answers of a batch are of one length, and then all keys are made in one call and all ids are laid out in two. Answers
with one destination and length can go to the kernel as one buffer that it segments (UDP_SEGMENT, Linux 4.18), at a
quarter of the cost. Knows the C structures and neither DNS nor the event loop.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
from array import array
from collections.abc import Sequence
from itertools import accumulate, chain, groupby, repeat
from operator import add
from typing import Any, TypeAlias, cast

BATCH = 64

FAR = 65536
ANSWER = 4096
"""Room for an answer; UDP ones are at most 1232 bytes."""

NEAR: dict[int, int] = {socket.AF_INET: 240, socket.AF_INET6: 228}
"""Bytes of a message after its id that are received behind its sender, by family; nearly all are shorter. The rest
of a longer one goes elsewhere."""

_NAME: dict[int, int] = {socket.AF_INET: 16, socket.AF_INET6: 28}
"""Bytes of sockaddr_in and sockaddr_in6."""

_KEY_AT: dict[int, int] = {socket.AF_INET: 4, socket.AF_INET6: 8}
"""Where in these the address is."""

_SLOT = 256
_MANY = 12
"""From how many messages on one call for all room costs less than one for each message."""

_ID = bytes(2)
_CONTROL = 40  # CMSG_SPACE of in6_pktinfo
_INFO_AT = 16  # CMSG_DATA
_SEGMENT_SIZE = 24  # CMSG_SPACE of a uint16_t
_MOST_BYTES = 65_000
_MSG_DONTWAIT = 0x40
_UDP_SEGMENT = 103
_SEGMENT = struct.Struct("@QiiH6x")

Run: TypeAlias = list[int]
"""Places of messages whose answers go out as one buffer."""

Destination: TypeAlias = tuple[bytes, bytes]
"""Where a message came from: its sender as a socket address, and control data that has the answer leave from where it
was sent to; empty where that is the address of the socket."""


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
_PART = ctypes.sizeof(_Iovec)

# PyDLL keeps the GIL: these calls never block, and releasing it costs more than they take.
_libc = ctypes.PyDLL(None, use_errno=True)
_recvmmsg: Any = _libc.recvmmsg
_recvmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
_sendmmsg: Any = _libc.sendmmsg
_sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)


class Buffers:
    """For one socket family. Where `wild`, each answer leaves from the address that its query was sent to."""

    def __init__(self, family: int, *, wild: bool) -> None:
        self.wild, self._v4 = wild, family == socket.AF_INET
        self.ids = bytearray(2 * BATCH)
        self._near, self._far = bytearray(BATCH * _SLOT), bytearray(BATCH * FAR)
        self._out, self._control = bytearray(BATCH * ANSWER), bytearray(BATCH * _CONTROL)
        self._segments = bytearray(BATCH * (_CONTROL + _SEGMENT_SIZE))
        self._received, self._sent, self._runs = ((_Mmsghdr * BATCH)() for _ in range(3))
        self._parts, self._out_parts = (_Iovec * (3 * BATCH))(), (_Iovec * BATCH)()
        self._laid_out: list[int] = []
        self._forms: dict[int, struct.Struct] = {}
        self._name, self._near_size = _NAME[family], NEAR[family]
        self._keys_at = range(_KEY_AT[family], BATCH * _SLOT, _SLOT)
        self._sender = self._name - _KEY_AT[family] - 2  # of a key, less the id that a length counts
        for n in range(BATCH):
            self._lay_out(n)
        self._columns()

    def _lay_out(self, n: int) -> None:
        name, control = _at(self._near) + n * _SLOT, _at(self._control) + n * _CONTROL if self.wild else None
        self._parts[3 * n] = _Iovec(_at(self.ids) + 2 * n, 2)
        self._parts[3 * n + 1] = _Iovec(name + self._name, self._near_size)
        self._parts[3 * n + 2] = _Iovec(_at(self._far) + n * FAR, FAR)
        parts, out = ctypes.addressof(self._parts[3 * n]), ctypes.addressof(self._out_parts[n])
        self._received[n].hdr = _Msghdr(name, self._name, parts, 3, control)
        self._sent[n].hdr = _Msghdr(name, self._name, out, 1, control)

    def _columns(self) -> None:
        """Each field of all structures as one array, read or written at once."""
        self._lengths = _column(self._received, _Mmsghdr.len.offset, "I", _SIZE)
        self._controls = _column(self._received, _Msghdr.controllen.offset, "Q", _SIZE)
        self._out_controls = _column(self._sent, _Msghdr.controllen.offset, "Q", _SIZE)
        self._room = memoryview(_CONTROL.to_bytes(8, sys.byteorder) * BATCH).cast("Q")
        self._interfaces = memoryview(self._control).cast("I")[
            4 if self._v4 else 8 :: _CONTROL // 4
        ]  # in in(6)_pktinfo
        self._out_bases = _column(self._out_parts, 0, "Q", _PART)
        self._out_lengths = _column(self._out_parts, _Iovec.len.offset, "Q", _PART)
        self._in_at, self._sent_at, self._runs_at = map(ctypes.addressof, (self._received, self._sent, self._runs))
        self._out_at, self._out_parts_at = _at(self._out), ctypes.addressof(self._out_parts)
        senders, infos = memoryview(self._near).cast("Q"), memoryview(self._control).cast("Q")
        self._whence = [senders[n :: _SLOT // 8] for n in range(1 if self._v4 else 3)]
        if self.wild:
            self._whence += [infos[_INFO_AT // 8 + n :: _CONTROL // 8] for n in range(1 if self._v4 else 3)]

    def receive(self, fd: int) -> int:
        """The number of messages received; -1 and errno where there are none."""
        if self.wild:
            self._controls[:] = self._room
        return int(_recvmmsg(fd, self._in_at, BATCH, _MSG_DONTWAIT, None))

    def keys(self, number: int) -> Sequence[bytes]:
        """The keys of the messages that came; their ids are in `ids`."""
        lengths = self._lengths[:number].tolist()
        most = self._near_size + 2
        if self.wild:
            self._answer_from_where_asked(number)
        if number >= _MANY and lengths[0] <= most and lengths.count(lengths[0]) == number:
            return self._form(lengths[0]).unpack_from(self._near)[:number]
        near, sender = bytes(memoryview(self._near)[: number * _SLOT]), self._sender
        keys = [near[at : at + sender + length] for at, length in zip(self._keys_at, lengths, strict=False)]
        if max(lengths) > most:
            for n, length in enumerate(lengths):
                if length > most:
                    keys[n] = keys[n][: sender + most] + self._far[n * FAR : n * FAR + length - most]
        return keys

    def _form(self, length: int) -> struct.Struct:
        """The keys of a whole batch of messages of one length, among all that is received of them."""
        form = self._forms.get(length)
        if form is None:
            at, size = self._keys_at[0], self._sender + length
            form = self._forms[length] = struct.Struct(f"{at}x{size}s{_SLOT - at - size}x" * BATCH)
        return form

    def _answer_from_where_asked(self, number: int) -> None:
        """The received control data as the answer's; an interface is named for link-local addresses only."""
        self._out_controls[:number] = self._controls[:number]
        for n in range(number):
            at = n * _CONTROL + _INFO_AT
            if self._v4 or self._control[at] != 0xFE or self._control[at + 1] & 0xC0 != 0x80:
                self._interfaces[n] = 0

    def destination(self, place: int) -> Destination:
        """Where a message of those that `keys` gave came from."""
        at, control = place * _SLOT, place * _CONTROL
        size = self._out_controls[place] if self.wild else 0
        return bytes(self._near[at : at + self._name]), bytes(self._control[control : control + size])

    def direct(self, place: int, destination: Destination, id_: bytes) -> None:
        """Have the answer in a place go to where a message came from, with its id."""
        at, (name, control) = place * _SLOT, destination
        self._near[at : at + self._name] = name
        self.ids[2 * place : 2 * place + 2] = id_
        if self.wild:
            self._control[place * _CONTROL : place * _CONTROL + len(control)] = control
            self._out_controls[place] = len(control)

    def put(self, answers: Sequence[bytes | None]) -> list[int]:
        """Lay out the answers, each without its id, to be sent one by one; returns their lengths."""
        ready = cast("Sequence[bytes]", answers if all(answers) else [answer or b"" for answer in answers])
        sizes, number = list(map(len, ready)), len(ready)
        if number >= _MANY and sizes.count(sizes[0]) == number:
            step = sizes[0] + 2
            joined = _ID + _ID.join(ready)
            self._out[: len(joined)] = joined
            self._out[0 : len(joined) : step] = self.ids[0 : 2 * number : 2]
            self._out[1 : len(joined) : step] = self.ids[1 : 2 * number : 2]
        else:
            ids = bytes(self.ids)
            joined = b"".join(chain.from_iterable(zip(map(ids.__getitem__, _IDS), ready, strict=False)))
            self._out[: len(joined)] = joined
        if self._laid_out[:number] != sizes:
            self._laid_out, lengths = sizes, list(map(add, sizes, repeat(2)))
            self._out_bases[:number] = _quads([*accumulate(lengths, initial=self._out_at)])[:-1]
            self._out_lengths[:number] = _quads(lengths)
        return sizes

    def send(self, fd: int, at: int, number: int) -> int:
        """The number of answers sent, of `number` from index `at`; -1 and errno where the first was not."""
        return int(_sendmmsg(fd, self._sent_at + at * _SIZE, number, _MSG_DONTWAIT))

    def runs(self, sizes: Sequence[int]) -> list[Run]:
        """The places of answers (those with a size) that have destination and length in common; none where there are
        too many kinds for it to be of use. Puts them in that order: `put` again before they are sent one by one."""
        number = len(sizes)
        whence = [column[:number].tolist() for column in self._whence]
        heads: list[Any] = whence[0] if len(whence) == 1 else list(zip(*whence, strict=True))
        if heads.count(heads[0]) == number and sizes.count(sizes[0]) == number and sizes[0]:
            return self._prepare([list(range(number))], sizes)
        if len(set(heads)) * 4 > number:
            return []
        kinds = list(zip(heads, sizes, strict=True))
        order = sorted((place for place in range(number) if sizes[place]), key=kinds.__getitem__)
        bases = self._out_bases[:number].tolist()
        self._laid_out = []
        self._out_bases[: len(order)] = _quads([bases[place] for place in order])
        self._out_lengths[: len(order)] = _quads([sizes[place] + 2 for place in order])
        return self._prepare([list(run) for _, run in groupby(order, kinds.__getitem__)], sizes)

    def _prepare(self, runs: list[Run], sizes: Sequence[int]) -> list[Run]:
        """Write the headers of the runs, which stand one after the other."""
        part = self._out_parts_at
        prepared: list[Run] = []
        for run in runs:
            most = max(1, _MOST_BYTES // (sizes[run[0]] + 2))
            for at in range(0, len(run), most):
                places = run[at : at + most]
                self._head(len(prepared), places, part, sizes[run[0]] + 2)
                part += _PART * len(places)
                prepared.append(places)
        return prepared

    def _head(self, n: int, places: Run, part: int, size: int) -> None:
        hdr, first = self._runs[n].hdr, self._sent[places[0]].hdr
        at = n * (_CONTROL + _SEGMENT_SIZE)
        kept = first.controllen if self.wild else 0
        self._segments[at : at + kept] = memoryview(self._control)[places[0] * _CONTROL :][:kept]
        several = len(places) > 1
        if several:
            _SEGMENT.pack_into(self._segments, at + kept, 18, socket.IPPROTO_UDP, _UDP_SEGMENT, size)
        hdr.name, hdr.namelen, hdr.iov, hdr.iovlen = first.name, self._name, part, len(places)
        hdr.controllen = kept + _SEGMENT_SIZE * several
        hdr.control = _at(self._segments) + at if hdr.controllen else None

    def send_runs(self, fd: int, at: int, number: int) -> int:
        """As `send`, of the runs."""
        return int(_sendmmsg(fd, self._runs_at + at * _SIZE, number, _MSG_DONTWAIT))


_IDS = [slice(at, at + 2) for at in range(0, 2 * BATCH, 2)]
"""Where the ids of a batch are."""


def _quads(numbers: list[int]) -> memoryview:
    return memoryview(array("Q", numbers))


def _at(buffer: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def _column(array_: ctypes.Array[Any], offset: int, form: str, stride: int) -> memoryview:
    """One field of every structure in an array."""
    size = struct.calcsize(form)
    flat: memoryview = memoryview(array_).cast("B").cast(cast("Any", form))
    return flat[offset // size :: stride // size]

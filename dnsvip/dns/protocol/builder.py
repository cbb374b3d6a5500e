"""Responses as bytes: compressed, truncated, with the OPT record that EDNS asks for (RFC 1035 section 4, RFC 6891).

A response costs what fits of it: building ends at the first record that does not, and what is long is built in steps,
so that others have their turns between. Zones, clients and keys are unknown here.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from struct import Struct
from typing import NamedTuple, TypeVar

from dnsvip.dns.protocol.message import (
    ECS,
    HEADER_SIZE,
    IN,
    MAX_SIZE,
    MIN_UDP_SIZE,
    UDP_SIZE,
    Edns,
    Flag,
    Malformed,
    Query,
    Rdata,
    Response,
    RRset,
    Type,
)
from dnsvip.dns.protocol.names import Labels, lowered

POINTER_REACH = 0x4000
"""Offsets from here on do not fit a compression pointer (RFC 1035 section 4.1.4)."""

STEP = 64
"""Records after which `steps` pauses: about a quarter of a millisecond's work."""

LEFT_OUT = 8
"""Record sets that may be found not to fit the additional section before no more are tried: a set with thousands of
targets must not cost more than a short one."""

_HEADER = Struct("!6H")
_FIXED = Struct("!HHI")
_OPT = Struct("!HHIH")
_OPTION = Struct("!HH")

_T = TypeVar("_T")


def size_limit(asked: Query | Malformed, transport: str) -> int:
    """How long the answer may be by `transport` "udp" or "tcp"."""
    if transport != "udp":
        return MAX_SIZE
    return min(max(asked.edns.udp_size, MIN_UDP_SIZE), UDP_SIZE) if asked.edns else MIN_UDP_SIZE


class Built(NamedTuple):
    """A response as sent, whether TC is set in it, its OPT record, and from which room on (bytes without OPT) there is
    more in it; at most one byte more than MAX_SIZE, which is never."""

    wire: bytes
    truncated: bool
    opt: bytes
    beyond: int = MAX_SIZE + 1


def build(asked: Query | Malformed, response: Response, limit: int, scope: int = 0, *, exact: bool = False) -> bytes:
    """The bytes of `compose`."""
    return compose(asked, response, limit, scope, exact=exact).wire


def compose(asked: Query | Malformed, response: Response, limit: int, scope: int = 0, *, exact: bool = False) -> Built:
    """The response, at most `limit` bytes. `scope` is the ECS scope prefix length, sent only where ECS was.

    What does not fit is left out of `additional`; where more does not fit, no record is sent and TC is set. With
    `exact` names are compressed only where their case is the same too, so that every record keeps its own.
    """
    return finished(steps(asked, response, limit, scope, exact=exact))


def steps(
    asked: Query | Malformed, response: Response, limit: int, scope: int = 0, *, exact: bool = False
) -> Generator[None, None, Built]:
    """As `compose`, pausing after each STEP records."""
    edns = asked.edns
    opt = build_opt(edns, response.rcode, scope, response.options, compact_ok=response.compact_ok) if edns else b""
    room = limit - len(opt)
    most = max(room, UDP_SIZE)  # so that `beyond` is exact for all room that there may be over UDP
    writer, due = _Writer(asked, response, exact=exact), STEP
    for section, rrsets in enumerate((response.answer, response.authority, response.glue)):
        for rrset in rrsets:
            for rdatas in _parts(rrset.rdatas):
                if not writer.add(section, rrset, rdatas, most):
                    return _truncated(asked, response, opt, len(writer.data))
                due -= len(rdatas) or 1
                if due <= 0:
                    yield
                    due = STEP
    if len(writer.data) > room:
        return _truncated(asked, response, opt, len(writer.data))
    sizes: list[int] = []
    for rrset in response.additional:
        if not (beyond := writer.add_if_fits(rrset, room, most)):
            due -= len(rrset.rdatas) or 1
        else:
            sizes.append(beyond)
            due -= 1
            if len(sizes) == LEFT_OUT:
                break
        if due <= 0:
            yield
            due = STEP
    return Built(writer.finish(opt), truncated=False, opt=opt, beyond=min(sizes, default=MAX_SIZE + 1))


def finished(generator: Generator[object, None, _T]) -> _T:
    """What a generator returns, without its pauses."""
    while True:
        try:
            next(generator)
        except StopIteration as end:
            value: _T = end.value
            return value


def _parts(rdatas: Sequence[Rdata]) -> Iterable[Sequence[Rdata]]:
    """The data of a set, STEP records at a time."""
    if len(rdatas) <= STEP:
        return (rdatas,)
    return (rdatas[at : at + STEP] for at in range(0, len(rdatas), STEP))


def _truncated(asked: Query | Malformed, response: Response, opt: bytes, beyond: int) -> Built:
    """The response with TC, and without any record but OPT (RFC 2181 section 9)."""
    return Built(_Writer(asked, response, Flag.TC).finish(opt), truncated=True, opt=opt, beyond=beyond)


def build_opt(
    edns: Edns, rcode: int, scope: int, more: tuple[tuple[int, bytes], ...] = (), *, compact_ok: bool = False
) -> bytes:
    """Our OPT record: extended rcode, version 0, DO as asked, CO, the ECS option where there was one, and `more`."""
    options = b""
    if edns.subnet:
        family, source, address = edns.subnet
        data = address[: (source + 7) // 8]
        options = _OPTION.pack(ECS, 4 + len(data)) + family.to_bytes(2, "big") + bytes((source, scope)) + data
    for code, data in more:
        options += _OPTION.pack(code, len(data)) + data
    ttl = rcode >> 4 << 24 | (0x8000 if edns.do else 0) | (0x4000 if compact_ok else 0)
    return b"\0" + _OPT.pack(Type.OPT, UDP_SIZE, ttl, len(options)) + options


class _Writer:
    """A message as it grows. Names are compressed without regard to case (RFC 4343): the case of a question never
    changes the length of its answer. With `exact`, only names of the same case."""

    __slots__ = ("_class", "_counts", "_exact", "_flags", "_id", "_names", "_questions", "data")

    def __init__(
        self, asked: Query | Malformed, response: Response, more_flags: int = 0, *, exact: bool = False
    ) -> None:
        flags = Flag.QR | asked.flags & (Flag.OPCODE | Flag.RD) | response.rcode & 15
        self._id, self._flags = asked.id, flags | (Flag.AA if response.aa else 0) | more_flags
        self._questions = 1 if asked.question else 0
        self._class = asked.qclass if isinstance(asked, Query) else IN
        self._exact = exact
        self._counts = [0, 0, 0]
        self._names: dict[Labels, int] = {}
        self.data = bytearray(HEADER_SIZE) + asked.question  # as it came, in the requester's case
        if isinstance(asked, Query):
            self._learn(asked.qname if exact else asked.key, HEADER_SIZE)

    def add(self, section: int, rrset: RRset, rdatas: Sequence[Rdata], most: int) -> bool:
        """One record of a set for each of its data; False at the first that ends beyond `most` bytes. Sections are 0
        answer, 1 authority, 2 additional."""
        data, fixed, pointer = self.data, _FIXED.pack(rrset.rtype, self._class, rrset.ttl), b""
        key = rrset.owner if self._exact else lowered(rrset.owner)
        for rdata in rdatas:
            if pointer:
                data += pointer
            else:
                self._name(rrset.owner)
                at = self._names.get(key)
                pointer = b"" if at is None else (0xC000 | at).to_bytes(2, "big")
            data += fixed
            if len(rdata) == 1 and isinstance(rdata[0], bytes):
                data += len(rdata[0]).to_bytes(2, "big") + rdata[0]
            else:
                self._pieces(rdata)
            if len(data) > most:
                return False
        self._counts[section] += len(rdatas)
        return True

    def add_if_fits(self, rrset: RRset, room: int, most: int) -> int:
        """Add to the additional section, and return 0; or change nothing, and return the length with it, or its
        least where it is more than `most`."""
        size, names = len(self.data), len(self._names)
        within = self.add(2, rrset, rrset.rdatas, most)
        if within and len(self.data) <= room:
            return 0
        beyond = len(self.data)
        del self.data[size:]
        while len(self._names) > names:
            self._names.popitem()  # the latest
        if within:
            self._counts[2] -= len(rrset.rdatas)
        return beyond

    def finish(self, opt: bytes) -> bytes:
        """The whole message."""
        answer, authority, additional = self._counts
        head = _HEADER.pack(self._id, self._flags, self._questions, answer, authority, additional + bool(opt))
        self.data[:HEADER_SIZE] = head
        return bytes(self.data + opt)

    def _pieces(self, rdata: Rdata) -> None:
        """Data of which the names may be compressed, behind its length."""
        data, start = self.data, len(self.data)
        data += b"\0\0"
        for piece in rdata:
            if isinstance(piece, bytes):
                data += piece
            else:
                self._name(piece)
        data[start : start + 2] = (len(data) - start - 2).to_bytes(2, "big")

    def _name(self, name: Labels) -> None:
        """Append a name, its end by a pointer where that has been written before."""
        data, names = self.data, self._names
        key = name if self._exact else lowered(name)
        for index, label in enumerate(name):
            rest = key[index:] if index else key
            at = names.get(rest)
            if at is not None:
                data += (0xC000 | at).to_bytes(2, "big")
                return
            if len(data) < POINTER_REACH:
                names[rest] = len(data)
            data.append(len(label))
            data += label
        data.append(0)

    def _learn(self, key: Labels, at: int) -> None:
        """Note a name as names are compared here, and its parents, that stand at offset `at` already."""
        for index, label in enumerate(key):
            self._names[key[index:]] = at
            at += 1 + len(label)

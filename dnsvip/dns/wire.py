"""DNS messages as bytes: questions in, answers out (RFC 1035 section 4, RFC 6891, RFC 7871 section 6).

Nothing that arrives can make `parse` raise: it gives a Query, or a Malformed that says which answer is
due. `build` compresses, truncates and adds what EDNS asks for. No library is used here: of a query only
the question and the OPT record are looked at, neither of which may hold a compression pointer, and the
data of answers comes ready from the zone. Zones, clients and keys are unknown to this module.
"""

from __future__ import annotations

from dataclasses import replace
from struct import Struct

from dnsvip.dns.message import (
    IN,
    MAX_NAME,
    Edns,
    Flag,
    Flaw,
    Labels,
    Malformed,
    Opcode,
    Query,
    Response,
    RRset,
    Subnet,
    Type,
    lowered,
)

UDP_SIZE = 1232
"""What we say we take and the most we send by UDP: no fragments on any IPv6 path (RFC 9715)."""

MIN_UDP_SIZE = 512
MAX_SIZE = 65535
POINTER_REACH = 0x4000

_HEADER = Struct("!HHHHHH")
_TYPE_CLASS = Struct("!HH")
_RECORD = Struct("!HHIH")


def parse(wire: bytes) -> Query | Malformed:
    """The question in a message. A pointer in the question and records (but IXFR's SOA) before the additional
    section are malformed, as NSD has it; bytes after the last record are ignored, as BIND and NSD do."""
    if len(wire) < _HEADER.size:
        return Malformed(Flaw.SHORT)
    id_, flags, *counts = _HEADER.unpack_from(wire)
    if flags & Flag.QR:
        return Malformed(Flaw.RESPONSE, id_, flags)
    opcode = (flags & Flag.OPCODE) >> 11
    if opcode not in _READABLE:
        return Malformed(Flaw.OPCODE, id_, flags)
    if counts[0] != 1:
        return Malformed(Flaw.COUNTS, id_, flags)
    try:
        query, at = _question(wire, id_, flags)
    except _Flawed as flawed:
        return Malformed(flawed.flaw, id_, flags)
    if opcode == Opcode.QUERY and (counts[1] or (counts[2] and query.qtype != Type.IXFR)):
        return Malformed(Flaw.COUNTS, id_, flags, query.question)
    try:
        return _records(wire, at, query, counts[1] + counts[2], counts[3])
    except _Flawed as flawed:
        return Malformed(flawed.flaw, id_, flags, query.question, flawed.edns)


_READABLE = frozenset(Opcode)


class _Flawed(Exception):
    def __init__(self, flaw: Flaw, edns: Edns | None = None) -> None:
        self.flaw, self.edns = flaw, edns


def _question(wire: bytes, id_: int, flags: int) -> tuple[Query, int]:
    labels, at = [], _HEADER.size
    while True:
        if at >= len(wire):
            raise _Flawed(Flaw.QUESTION)
        length = wire[at]
        if not length:
            break
        if length > 63:
            raise _Flawed(Flaw.QUESTION)
        labels.append(wire[at + 1 : at + 1 + length])
        at += 1 + length
    end = at + 1 + _TYPE_CLASS.size
    if at + 1 - _HEADER.size > MAX_NAME or end > len(wire):
        raise _Flawed(Flaw.QUESTION)
    qtype, qclass = _TYPE_CLASS.unpack_from(wire, at + 1)
    qname = tuple(labels)
    return Query(id_, flags, wire[_HEADER.size : end], qname, lowered(qname), qtype, qclass), end


def _records(wire: bytes, at: int, query: Query, before: int, additional: int) -> Query:
    """The query with what its additional section adds. Other records are only stepped over."""
    edns, tsig_at = None, 0
    last = before + additional - 1
    for index in range(before + additional):
        start, at, rtype, end = _step(wire, at, edns)
        if rtype == Type.OPT:
            if edns or index < before or wire[start]:
                raise _Flawed(Flaw.OPT, edns)
            edns = _edns(wire, start + 1, end)
        elif rtype == Type.TSIG:
            if index != last or index < before:
                raise _Flawed(Flaw.TSIG, edns)
            tsig_at = start
        at = end
    return replace(query, edns=edns, tsig_at=tsig_at) if edns or tsig_at else query


def _step(wire: bytes, start: int, edns: Edns | None) -> tuple[int, int, int, int]:
    """Of the record at `start`: start, where its type is, its type, its end."""
    at = _after_name(wire, start)
    if at < 0 or at + _RECORD.size > len(wire):
        raise _Flawed(Flaw.RECORD, edns)
    rtype, _, _, length = _RECORD.unpack_from(wire, at)
    end = at + _RECORD.size + length
    if end > len(wire):
        raise _Flawed(Flaw.RECORD, edns)
    return start, at, rtype, end


def _after_name(wire: bytes, at: int) -> int:
    """Where a possibly compressed name ends, not followed; -1 where it does not."""
    while at < len(wire):
        length = wire[at]
        if length >= 0xC0:
            return at + 2
        if length > 63:
            return -1
        at += 1 + length
        if not length:
            return at
    return -1


def _edns(wire: bytes, at: int, end: int) -> Edns:
    _, udp_size, ttl, _ = _RECORD.unpack_from(wire, at)
    edns = Edns(udp_size, ttl >> 16 & 0xFF, bool(ttl & 0x8000))
    if edns.version:  # another version's options mean nothing to us; it gets BADVERS
        return edns
    at += _RECORD.size
    subnet, options = None, []
    while at < end:
        if at + 4 > end:
            raise _Flawed(Flaw.OPT, edns)
        code, length = _TYPE_CLASS.unpack_from(wire, at)
        data = wire[at + 4 : at + 4 + length]
        at += 4 + length
        if at > end:
            raise _Flawed(Flaw.OPT, edns)
        if code != _ECS:
            options.append((code, data))
        elif subnet:
            raise _Flawed(Flaw.ECS, edns)
        else:
            subnet = _subnet(data, edns)
    return replace(edns, subnet=subnet, options=tuple(options)) if subnet or options else edns


_ECS = 8
_FAMILY_BYTES = {0: 0, 1: 4, 2: 16}


def _subnet(data: bytes, edns: Edns) -> Subnet:
    """RFC 7871 section 6: no address bytes beyond SOURCE, unused bits zero, SCOPE zero in a query."""
    if len(data) < 4:
        raise _Flawed(Flaw.ECS, edns)
    family, source, scope, address = int.from_bytes(data[:2], "big"), data[2], data[3], data[4:]
    width = _FAMILY_BYTES.get(family, -1)
    unused = len(address) * 8 - source
    well_formed = (
        source <= width * 8
        and scope == 0
        and 0 <= unused < 8
        and int.from_bytes(address[-1:], "big") & (1 << unused) - 1 == 0
    )
    if not well_formed:
        raise _Flawed(Flaw.ECS, edns)
    return Subnet(family, source, address.ljust(width, b"\0"))


def size_limit(asked: Query | Malformed, transport: str) -> int:
    """How long the answer may be by `transport` "udp" or "tcp"."""
    if transport != "udp":
        return MAX_SIZE
    return min(max(asked.edns.udp_size, MIN_UDP_SIZE), UDP_SIZE) if asked.edns else MIN_UDP_SIZE


def build(asked: Query | Malformed, response: Response, limit: int, scope: int = 0) -> bytes:
    """The answer, at most `limit` bytes. `scope` is the ECS scope prefix length, sent only where ECS was.

    What does not fit is left out of `additional`; where more does not fit, no record is sent and TC is set.
    """
    opt = build_opt(asked.edns, response.rcode, scope) if asked.edns else b""
    room = limit - len(opt)
    writer = _Writer(asked, response)
    for section, rrsets in enumerate((response.answer, response.authority, response.glue)):
        for rrset in rrsets:
            writer.add(section, rrset)
            if len(writer.out) > room:
                return _Writer(asked, response, truncated=True).finish(opt)
    for rrset in response.additional:
        writer.add_if_fits(rrset, room)
    return writer.finish(opt)


def build_opt(edns: Edns, rcode: int, scope: int) -> bytes:
    """Our OPT record: extended rcode, version 0, DO as asked, and the ECS option where there was one."""
    option = b""
    if edns.subnet:
        family, source, address = edns.subnet
        data = family.to_bytes(2, "big") + bytes([source, scope]) + address[: (source + 7) // 8]
        option = _TYPE_CLASS.pack(_ECS, len(data)) + data
    ttl = rcode >> 4 << 24 | (0x8000 if edns.do else 0)
    return b"\0" + _RECORD.pack(Type.OPT, UDP_SIZE, ttl, len(option)) + option


class _Writer:
    """A message as it grows. Names are compressed without regard to case, so case never changes a length."""

    def __init__(self, asked: Query | Malformed, response: Response, *, truncated: bool = False) -> None:
        self.out = bytearray(_HEADER.size) + asked.question
        self._counts = [0, 0, 0]
        self._names: dict[Labels, int] = {}
        self._id = asked.id
        self._questions = 1 if asked.question else 0
        self._flags = Flag.QR | asked.flags & (Flag.OPCODE | Flag.RD) | response.rcode & 15
        self._flags |= (Flag.AA if response.aa else 0) | (Flag.TC if truncated else 0)
        if isinstance(asked, Query):
            at = _HEADER.size
            for index, label in enumerate(asked.key):
                self._names[asked.key[index:]] = at
                at += 1 + len(label)

    def add(self, section: int, rrset: RRset) -> None:
        """One record for each of the set's data; sections 0 answer, 1 authority, 2 additional."""
        out = self.out
        for rdata in rrset.rdatas:
            self._name(rrset.owner)
            out += _RECORD.pack(rrset.rtype, IN, rrset.ttl, 0)
            start = len(out)
            for piece in rdata:
                if isinstance(piece, bytes):
                    out += piece
                else:
                    self._name(piece)
            out[start - 2 : start] = (len(out) - start).to_bytes(2, "big")
        self._counts[section] += len(rrset.rdatas)

    def add_if_fits(self, rrset: RRset, room: int) -> None:
        """Add to the additional section, or change nothing."""
        size, count, names = len(self.out), self._counts[2], dict(self._names)
        self.add(2, rrset)
        if len(self.out) > room:
            del self.out[size:]
            self._counts[2], self._names = count, names

    def finish(self, opt: bytes) -> bytes:
        """The whole message."""
        answers, authority, additional = self._counts
        self.out += opt
        counts = (self._questions, answers, authority, additional + bool(opt))
        _HEADER.pack_into(self.out, 0, self._id, self._flags, *counts)
        return bytes(self.out)

    def _name(self, name: Labels) -> None:
        out, names, key = self.out, self._names, lowered(name)
        for index, label in enumerate(name):
            at = names.get(key[index:])
            if at is not None:
                out += (0xC000 | at).to_bytes(2, "big")
                return
            if len(out) < POINTER_REACH:
                names[key[index:]] = len(out)
            out.append(len(label))
            out += label
        out.append(0)

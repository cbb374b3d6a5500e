"""Queries off the wire (RFC 1035 section 4, RFC 6891, RFC 7871 section 6).

Nothing that arrives makes `parse` raise: it returns a Query, or a Malformed that says which response is due. Only the
question and the OPT record are read; other records are stepped over. Header and question go through dnslib, on a buffer
whose names follow the standard where dnslib's do not (labels of any octets, RFC 2181 section 11).
"""

from __future__ import annotations

from dataclasses import replace
from struct import Struct
from typing import NamedTuple

from dnslib import DNSError, DNSHeader, DNSLabel, DNSQuestion
from dnslib.buffer import BufferError as BufferFault
from dnslib.label import DNSBuffer

from dnsvip.dns.protocol.message import (
    COOKIE,
    COOKIE_LENGTHS,
    ECS,
    HEADER_SIZE,
    IN,
    MAX_QUERY,
    MOST_OPTIONS,
    MOST_RECORDS,
    MOST_UPDATE_RECORDS,
    Edns,
    Flag,
    Flaw,
    Malformed,
    Opcode,
    Query,
    Subnet,
    Type,
    longest,
)
from dnsvip.dns.protocol.names import Labels, NameFault, lowered, read_name

_TYPE_CLASS = Struct("!HH")
_RECORD = Struct("!HHIH")
_HEADER = Struct("!6H")
_ONE_QUESTION = b"\0\1\0\0\0\0"
"""The counts of a query but for its additional records."""


def parse(wire: bytes) -> Query | Malformed:
    """The question in a message. A pointer in the question and records (but IXFR's SOA) before the additional
    section are malformed, as NSD has it; bytes after the last record are ignored, as BIND and NSD do. Of one that is
    too long only the header is read, so that the message is malformed at the cost of a short one."""
    if len(wire) < HEADER_SIZE:
        return Malformed(Flaw.SHORT)
    if len(wire) > MAX_QUERY and len(wire) > longest(wire[2]):
        wire = wire[:HEADER_SIZE]  # as a stream cuts it (`framing`)
    if wire[2] <= 1 and wire[4:10] == _ONE_QUESTION and (asked := _ordinary(wire)) is not None:
        return parse_additional(wire, asked)
    return _unusual(wire)


def _unusual(wire: bytes) -> Query | Malformed:
    """As `parse`, of a message with a whole header, whatever else."""
    buffer = _Buffer(wire)
    header = DNSHeader.parse(buffer)
    id_, flags = header.id, header.bitmap
    if flags & Flag.QR:
        return Malformed(Flaw.RESPONSE, id_, flags)
    opcode = (flags & Flag.OPCODE) >> 11
    if opcode not in _READABLE:
        return Malformed(Flaw.OPCODE, id_, flags)
    if header.q != 1:
        bare = opcode == Opcode.QUERY and not (header.q or header.a or header.auth)
        return _for_cookie(wire, id_, flags, header.ar) if bare else Malformed(Flaw.COUNTS, id_, flags)
    try:
        query = _question(buffer, wire, id_, flags)
    except (DNSError, _Flawed):
        return Malformed(Flaw.QUESTION, id_, flags)
    if opcode == Opcode.QUERY and (header.a or (header.auth and query.qtype != Type.IXFR)):
        return Malformed(Flaw.COUNTS, id_, flags, query.question)
    try:
        return _records(wire, buffer.offset, query, header.a + header.auth, header.ar)
    except _Flawed as flawed:
        return Malformed(flawed.flaw, id_, flags, query.question, flawed.edns)


def _ordinary(wire: bytes) -> Question | None:
    """The question behind a header, at a third of what dnslib takes; None where it cannot be read."""
    try:
        qname, at = read_name(wire, HEADER_SIZE)
    except NameFault:
        return None
    end = at + _TYPE_CLASS.size
    return Question(qname, lowered(qname), end) if end <= len(wire) else None


def _for_cookie(wire: bytes, id_: int, flags: int, additional: int) -> Query | Malformed:
    """A message without a question, which is a query only where it has a COOKIE option (RFC 7873 section 5.4)."""
    try:
        query = _records(wire, HEADER_SIZE, Query(id_, flags, b"", (), (), 0, IN), 0, additional)
    except _Flawed as flawed:
        return Malformed(flawed.flaw, id_, flags, b"", flawed.edns)
    return query if query.edns and query.edns.cookie else Malformed(Flaw.COUNTS, id_, flags, b"", query.edns)


class Question(NamedTuple):
    """A question whose name has been read: as written and in lower case, and the offset behind its class."""

    qname: Labels
    key: Labels
    end: int


def parse_additional(wire: bytes, question: Question) -> Query | Malformed:
    """As `parse`, for a message whose header and question have been read already: an ordinary query with no records
    before the additional section."""
    id_, flags, _, _, _, additional = _HEADER.unpack_from(wire)
    qtype, qclass = _TYPE_CLASS.unpack_from(wire, question.end - _TYPE_CLASS.size)
    section = wire[HEADER_SIZE : question.end]
    query = Query(id_, flags, section, question.qname, question.key, qtype, qclass)
    try:
        return _records(wire, question.end, query, 0, additional)
    except _Flawed as flawed:
        return Malformed(flawed.flaw, id_, flags, section, flawed.edns)


_READABLE = frozenset(Opcode)


class _Flawed(Exception):
    def __init__(self, flaw: Flaw, edns: Edns | None = None) -> None:
        self.flaw, self.edns = flaw, edns


def _question(buffer: _Buffer, wire: bytes, id_: int, flags: int) -> Query:
    """The question at the buffer's offset; raises DNSError, or _Flawed for an UPDATE's that names no zone
    (RFC 2136 section 3.1.1)."""
    question = DNSQuestion.parse(buffer)
    if (flags & Flag.OPCODE) >> 11 == Opcode.UPDATE and question.qtype != Type.SOA:
        raise _Flawed(Flaw.QUESTION)
    qname = question.qname.label
    section = wire[HEADER_SIZE : buffer.offset]
    return Query(id_, flags, section, qname, lowered(qname), question.qtype, question.qclass)


def _records(wire: bytes, at: int, query: Query, before: int, additional: int) -> Query:
    """The query with what its additional section adds. Other records are only stepped over.

    There are at most MOST_RECORDS of them, but for an UPDATE's, whose records come before the additional section.
    """
    if additional > MOST_RECORDS or before > (MOST_UPDATE_RECORDS if query.opcode == Opcode.UPDATE else MOST_RECORDS):
        raise _Flawed(Flaw.COUNTS)
    edns, tsig_at, serial = None, 0, None
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
        elif rtype == Type.SOA and query.qtype == Type.IXFR and before == 1 and not index:
            serial = _serial(wire, at + _RECORD.size, end)
        at = end
    read = edns or tsig_at or serial is not None
    return replace(query, edns=edns, tsig_at=tsig_at, serial=serial) if read else query


def _serial(wire: bytes, at: int, end: int) -> int | None:
    """The serial number in SOA data; None where it is malformed."""
    try:
        _, at = read_name(wire, at, compressed=True)
        _, at = read_name(wire, at, compressed=True)
    except NameFault:
        return None
    return int.from_bytes(wire[at : at + 4], "big") if at + 20 <= end else None


def _step(wire: bytes, start: int, edns: Edns | None) -> tuple[int, int, int, int]:
    """Of the record at `start`: start, where its type is, its type, its end."""
    try:
        _, at = read_name(wire, start, compressed=True)
    except NameFault:
        raise _Flawed(Flaw.RECORD, edns) from None
    if at + _RECORD.size > len(wire):
        raise _Flawed(Flaw.RECORD, edns)
    rtype, _, _, length = _RECORD.unpack_from(wire, at)
    end = at + _RECORD.size + length
    if end > len(wire):
        raise _Flawed(Flaw.RECORD, edns)
    return start, at, rtype, end


def _edns(wire: bytes, at: int, end: int) -> Edns:
    _, udp_size, ttl, _ = _RECORD.unpack_from(wire, at)
    edns = Edns(udp_size, ttl >> 16 & 0xFF, bool(ttl & 0x8000), compact_ok=bool(ttl & 0x4000))
    if edns.version:  # another version's options mean nothing to us; it gets BADVERS
        return edns
    at += _RECORD.size
    subnet, cookie = None, b""
    options: list[tuple[int, bytes]] = []
    while at < end:
        if at + 4 > end:
            raise _Flawed(Flaw.OPT, edns)
        code, length = _TYPE_CLASS.unpack_from(wire, at)
        data = wire[at + 4 : at + 4 + length]
        at += 4 + length
        if at > end:
            raise _Flawed(Flaw.OPT, edns)
        if code == COOKIE and not cookie:  # only the first one counts (RFC 7873 section 5.2)
            if length not in COOKIE_LENGTHS:
                raise _Flawed(Flaw.COOKIE, edns)
            cookie = data
        elif code != ECS:
            if len(options) == MOST_OPTIONS:
                raise _Flawed(Flaw.OPT, edns)
            options.append((code, data))
        elif subnet:
            raise _Flawed(Flaw.ECS, edns)
        else:
            subnet = _subnet(data, edns)
    fault = subnet or options or cookie
    return replace(edns, subnet=subnet, options=tuple(options), cookie=cookie) if fault else edns


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


class _Buffer(DNSBuffer):  # type: ignore[misc]  # dnslib has no annotations
    """dnslib's buffer, reading names with `read_name`."""

    def decode_name(self, last: int = -1) -> DNSLabel:
        """The uncompressed name at the offset; raises dnslib's BufferError."""
        try:
            labels, end = read_name(bytes(self.data), self.offset)  # type: ignore[has-type]  # as above
        except NameFault as fault:
            raise BufferFault(str(fault)) from None
        self.offset = end
        return DNSLabel(labels)

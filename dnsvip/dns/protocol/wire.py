"""DNS messages as bytes: questions in, answers out (RFC 1035 section 4, RFC 6891, RFC 7871 section 6).

Nothing that arrives can make `parse` raise: it gives a Query, or a Malformed that says which answer is
due. `build` compresses, truncates and adds what EDNS asks for. This is the only module that knows dnslib:
its header, question, records and options, on a buffer that holds to the standard where dnslib's own does
not (labels of any octets, RFC 2181 section 11; pointers within their reach). Of a query only the
question and the OPT record are looked at. Zones, clients and keys are unknown here.
"""

from __future__ import annotations

from dataclasses import replace
from struct import Struct

from dnslib import RD, RR, DNSError, DNSHeader, DNSLabel, DNSQuestion, EDNSOption
from dnslib.buffer import BufferError as BufferFault
from dnslib.label import DNSBuffer

from dnsvip.dns.protocol.message import (
    COOKIE,
    COOKIE_LENGTHS,
    IN,
    MAX_NAME,
    Edns,
    Flag,
    Flaw,
    Labels,
    Malformed,
    Opcode,
    Query,
    Rdata,
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
MAX_LABEL = 63
POINTER_REACH = 0x4000

HEADER_SIZE = 12

_TYPE_CLASS = Struct("!HH")
_RECORD = Struct("!HHIH")


class _Buffer(DNSBuffer):  # type: ignore[misc]  # dnslib has no annotations
    """dnslib's buffer, with names as the standard has them; compressed without regard to case (RFC 4343), so that
    the case of a question never changes the length of its answer."""

    def decode_name(self, last: int = -1) -> DNSLabel:
        """The name at the offset, which must stand there in full; raises dnslib's BufferError."""
        labels, start = [], self.offset
        while length := self.get(1)[0]:
            if length > MAX_LABEL:
                raise BufferFault("a pointer or an unknown label type")
            labels.append(self.get(length))
            if self.offset - start >= MAX_NAME:
                raise BufferFault("a name longer than 255 octets")
        return DNSLabel(labels)

    def encode_name(self, name: DNSLabel) -> None:
        """Append a name, its end by a pointer where that has been written before."""
        key = lowered(name.label)
        for index, label in enumerate(name.label):
            at = self.names.get(key[index:])
            if at is not None:
                self.append((0xC000 | at).to_bytes(2, "big"))
                return
            if self.offset < POINTER_REACH:
                self.names[key[index:]] = self.offset
            self.append(bytes([len(label)]) + label)
        self.append(b"\0")

    def learn(self, key: Labels, at: int) -> None:
        """Note a lower-case name, and its parents, that stand at offset `at` already."""
        for index, label in enumerate(key):
            self.names[key[index:]] = at
            at += 1 + len(label)


class _Data(RD):  # type: ignore[misc]  # as above
    """Record data in pieces, of which the names may be compressed."""

    def __init__(self, pieces: Rdata) -> None:
        self.pieces = pieces

    def pack(self, buffer: DNSBuffer) -> None:
        for piece in self.pieces:
            if isinstance(piece, bytes):
                buffer.append(piece)
            else:
                buffer.encode_name(DNSLabel(piece))


def parse(wire: bytes) -> Query | Malformed:
    """The question in a message. A pointer in the question and records (but IXFR's SOA) before the additional
    section are malformed, as NSD has it; bytes after the last record are ignored, as BIND and NSD do."""
    if len(wire) < HEADER_SIZE:
        return Malformed(Flaw.SHORT)
    buffer = _Buffer(wire)
    header = DNSHeader.parse(buffer)
    id_, flags = header.id, header.bitmap
    if flags & Flag.QR:
        return Malformed(Flaw.RESPONSE, id_, flags)
    opcode = (flags & Flag.OPCODE) >> 11
    if opcode not in _READABLE:
        return Malformed(Flaw.OPCODE, id_, flags)
    if header.q != 1:
        return Malformed(Flaw.COUNTS, id_, flags)
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
    subnet, options, cookie = None, [], b""
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
        elif code != _ECS:
            options.append((code, data))
        elif subnet:
            raise _Flawed(Flaw.ECS, edns)
        else:
            subnet = _subnet(data, edns)
    found = subnet or options or cookie
    return replace(edns, subnet=subnet, options=tuple(options), cookie=cookie) if found else edns


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
    opt = build_opt(asked.edns, response.rcode, scope, response.options) if asked.edns else b""
    room = limit - len(opt)
    writer = _Writer(asked, response)
    for section, rrsets in enumerate((response.answer, response.authority, response.glue)):
        for rrset in rrsets:
            writer.add(section, rrset)
            if len(writer) > room:
                return _Writer(asked, response, truncated=True).finish(opt)
    for rrset in response.additional:
        writer.add_if_fits(rrset, room)
    return writer.finish(opt)


def build_opt(edns: Edns, rcode: int, scope: int, more: tuple[tuple[int, bytes], ...] = ()) -> bytes:
    """Our OPT record: extended rcode, version 0, DO as asked, the ECS option where there was one, and `more`."""
    options = []
    if edns.subnet:
        family, source, address = edns.subnet
        data = family.to_bytes(2, "big") + bytes([source, scope]) + address[: (source + 7) // 8]
        options = [EDNSOption(_ECS, data)]
    options += [EDNSOption(code, data) for code, data in more]
    ttl = rcode >> 4 << 24 | (0x8000 if edns.do else 0)
    buffer = _Buffer()
    RR(_ROOT, Type.OPT, UDP_SIZE, ttl, options).pack(buffer)
    return bytes(buffer.data)


_ROOT = DNSLabel(())


class _Writer:
    """A message as it grows."""

    def __init__(self, asked: Query | Malformed, response: Response, *, truncated: bool = False) -> None:
        flags = Flag.QR | asked.flags & (Flag.OPCODE | Flag.RD) | response.rcode & 15
        flags |= (Flag.AA if response.aa else 0) | (Flag.TC if truncated else 0)
        self._header = DNSHeader(asked.id, flags, q=1 if asked.question else 0)
        self._class = asked.qclass if isinstance(asked, Query) else IN
        self._counts = [0, 0, 0]
        self._buffer = _Buffer()
        self._header.pack(self._buffer)
        self._buffer.append(asked.question)  # as it came, in the requester's case
        if isinstance(asked, Query):
            self._buffer.learn(asked.key, HEADER_SIZE)

    def __len__(self) -> int:
        return len(self._buffer)

    def add(self, section: int, rrset: RRset) -> None:
        """One record for each of the set's data; sections 0 answer, 1 authority, 2 additional."""
        owner = DNSLabel(rrset.owner)
        for rdata in rrset.rdatas:
            RR(owner, rrset.rtype, self._class, rrset.ttl, _Data(rdata)).pack(self._buffer)
        self._counts[section] += len(rrset.rdatas)

    def add_if_fits(self, rrset: RRset, room: int) -> None:
        """Add to the additional section, or change nothing."""
        buffer = self._buffer
        size, count, names = len(buffer), self._counts[2], dict(buffer.names)
        self.add(2, rrset)
        if len(buffer) > room:
            del buffer.data[size:]
            buffer.offset, buffer.names, self._counts[2] = size, names, count

    def finish(self, opt: bytes) -> bytes:
        """The whole message."""
        header, (header.a, header.auth, additional) = self._header, self._counts
        header.ar = additional + bool(opt)
        self._buffer.update(6, "!HHH", header.a, header.auth, header.ar)
        return bytes(self._buffer.data + opt)

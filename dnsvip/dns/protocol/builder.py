"""Responses as bytes: compressed, truncated, with the OPT record that EDNS asks for (RFC 1035 section 4, RFC 6891).

Records go through dnslib, on a buffer that compresses without regard to case and keeps pointers within their reach.
Zones, clients and keys are unknown here.
"""

from __future__ import annotations

from typing import NamedTuple

from dnslib import RD, RR, DNSHeader, DNSLabel, EDNSOption
from dnslib.label import DNSBuffer

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


def size_limit(asked: Query | Malformed, transport: str) -> int:
    """How long the answer may be by `transport` "udp" or "tcp"."""
    if transport != "udp":
        return MAX_SIZE
    return min(max(asked.edns.udp_size, MIN_UDP_SIZE), UDP_SIZE) if asked.edns else MIN_UDP_SIZE


class Built(NamedTuple):
    """A response as sent, whether TC is set in it, and its OPT record."""

    wire: bytes
    truncated: bool
    opt: bytes


def build(asked: Query | Malformed, response: Response, limit: int, scope: int = 0, *, exact: bool = False) -> bytes:
    """The bytes of `compose`."""
    return compose(asked, response, limit, scope, exact=exact).wire


def compose(asked: Query | Malformed, response: Response, limit: int, scope: int = 0, *, exact: bool = False) -> Built:
    """The response, at most `limit` bytes. `scope` is the ECS scope prefix length, sent only where ECS was.

    What does not fit is left out of `additional`; where more does not fit, no record is sent and TC is set. With
    `exact` names are compressed only where their case is the same too, so that every record keeps its own.
    """
    opt = build_opt(asked.edns, response.rcode, scope, response.options) if asked.edns else b""
    room = limit - len(opt)
    writer = _Writer(asked, response, exact=exact)
    for section, rrsets in enumerate((response.answer, response.authority, response.glue)):
        for rrset in rrsets:
            writer.add(section, rrset)
            if len(writer) > room:
                return Built(_Writer(asked, response, truncated=True).finish(opt), truncated=True, opt=opt)
    for rrset in response.additional:
        writer.add_if_fits(rrset, room)
    return Built(writer.finish(opt), truncated=False, opt=opt)


def build_opt(edns: Edns, rcode: int, scope: int, more: tuple[tuple[int, bytes], ...] = ()) -> bytes:
    """Our OPT record: extended rcode, version 0, DO as asked, the ECS option where there was one, and `more`."""
    options = []
    if edns.subnet:
        family, source, address = edns.subnet
        data = family.to_bytes(2, "big") + bytes([source, scope]) + address[: (source + 7) // 8]
        options = [EDNSOption(ECS, data)]
    options += [EDNSOption(code, data) for code, data in more]
    ttl = rcode >> 4 << 24 | (0x8000 if edns.do else 0)
    buffer = _Buffer()
    RR(_ROOT, Type.OPT, UDP_SIZE, ttl, options).pack(buffer)
    return bytes(buffer.data)


_ROOT = DNSLabel(())


class _Writer:
    """A message as it grows."""

    def __init__(
        self, asked: Query | Malformed, response: Response, *, truncated: bool = False, exact: bool = False
    ) -> None:
        flags = Flag.QR | asked.flags & (Flag.OPCODE | Flag.RD) | response.rcode & 15
        flags |= (Flag.AA if response.aa else 0) | (Flag.TC if truncated else 0)
        self._header = DNSHeader(asked.id, flags, q=1 if asked.question else 0)
        self._class = asked.qclass if isinstance(asked, Query) else IN
        self._counts = [0, 0, 0]
        self._buffer = _Buffer()
        self._buffer.exact = exact
        self._header.pack(self._buffer)
        self._buffer.append(asked.question)  # as it came, in the requester's case
        if isinstance(asked, Query):
            self._buffer.learn(asked.qname if exact else asked.key, HEADER_SIZE)

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


class _Buffer(DNSBuffer):  # type: ignore[misc]  # dnslib has no annotations
    """dnslib's buffer, compressing names without regard to case (RFC 4343): the case of a question never changes the
    length of its answer. With `exact`, only names of the same case."""

    exact = False

    def encode_name(self, name: DNSLabel) -> None:
        """Append a name, its end by a pointer where that has been written before."""
        key = name.label if self.exact else lowered(name.label)
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
        """Note a name as names are compared here, and its parents, that stand at offset `at` already."""
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

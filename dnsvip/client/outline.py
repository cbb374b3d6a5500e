"""The outline of a DNS message: what a forwarder needs to know of it, without judging the records.

A forwarder passes on options and record data that it does not know: it reads header and question, and where each record
ends. It decides from octets alone whether a message is one, and whether it answers a query.
"""

from __future__ import annotations

from dataclasses import dataclass

import dns.exception
import dns.name
import dns.opcode
import dns.rcode
import dns.rdatatype

from dnsvip.client.wire_names import BadName, WireNames

HEADER = 12  # octets, RFC 1035 section 4.1.1
QR, OPCODE, TC, RD, RA = 0x8000, 0x7800, 0x0200, 0x0100, 0x0080  # bits of the second 16 in the header
PLAIN_UDP_SIZE = 512  # octets, RFC 1035 section 4.2.1
EDNS_VERSION = 0
"""The version that we speak (RFC 6891 section 6.1.3)."""

OPT_LENGTH_AT = 9
"""Octets of an OPT record before the length of its data: the root's name, type, class and TTL."""

WITHOUT_QUESTION = frozenset({dns.rcode.FORMERR, dns.rcode.SERVFAIL, dns.rcode.NOTIMP, dns.rcode.REFUSED})
"""Rcodes of answers whose sender may not have read the question, and then leaves it out."""


class Malformed(Exception):
    """Octets that are no DNS message."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question; names are equal whatever their case (RFC 4343)."""

    name: dns.name.Name
    rdtype: int
    rdclass: int


@dataclass(frozen=True, slots=True)
class Outline:
    """A message's header and question. `udp_size` (octets) and `edns_version` are None without EDNS; `opt_at` is where
    the length of the OPT record's data is, None unless that is the last record."""

    id: int
    flags: int
    questions: tuple[Question, ...]
    edns_version: int | None
    udp_size: int | None
    is_signed: bool
    opt_at: int | None = None

    @property
    def is_response(self) -> bool:
        """Whether it is an answer (QR)."""
        return bool(self.flags & QR)

    @property
    def opcode(self) -> int:
        """The opcode, such as QUERY or UPDATE."""
        return (self.flags & OPCODE) >> 11

    @property
    def rcode(self) -> int:
        """The four bits of the rcode that are in the header."""
        return self.flags & 0xF

    @property
    def udp_limit(self) -> int:
        """Octets that an answer over UDP may have."""
        return max(self.udp_size or 0, PLAIN_UDP_SIZE)

    def is_answered_by(self, answer: Outline) -> bool:
        """Whether `answer` is one to this query: the same id, opcode and question (RFC 5452 section 9.1)."""
        if not answer.is_response or answer.id != self.id or answer.opcode != self.opcode:
            return False
        is_unread = not answer.questions and (answer.rcode in WITHOUT_QUESTION or self.opcode != dns.opcode.QUERY)
        return is_unread or answer.questions == self.questions


def outline(wire: bytes) -> Outline:
    """Read a whole message; raises Malformed where sections do not add up to it, or where OPT or TSIG are misplaced."""
    if len(wire) < HEADER:
        raise Malformed("shorter than a header")
    number, flags, *counts = (int.from_bytes(wire[at : at + 2], "big") for at in range(0, HEADER, 2))
    if (flags & OPCODE) >> 11 == dns.opcode.QUERY and counts[0] > 1:
        raise Malformed("several questions")  # RFC 9619
    questions, at = _questions(wire, counts[0])
    version: int | None = None
    size: int | None = None
    opt_at: int | None = None
    is_signed = False
    last, names = sum(counts[1:]) - 1, WireNames(wire)
    for index in range(last + 1):
        start = at
        octets, rdtype, rdclass, ttl, at = _record(wire, names, at)
        is_additional = index >= counts[1] + counts[2]
        if rdtype == dns.rdatatype.OPT and is_additional:
            if version is not None or octets > 1:
                raise Malformed("a second OPT, or one with an owner")  # RFC 6891 section 6.1.1
            version, size = ttl >> 16 & 0xFF, rdclass
            opt_at = start + OPT_LENGTH_AT if index == last else None
        elif rdtype == dns.rdatatype.TSIG:
            if index != last or not is_additional:
                raise Malformed("TSIG is not the last record")  # RFC 8945 section 5.1
            is_signed = True
    if at != len(wire):
        raise Malformed("octets after the last record")
    return Outline(number, flags, questions, version, size, is_signed, opt_at)


def failure(wire: bytes, rcode: int) -> bytes:
    """A bare answer to the message in `wire` (at least a header): its id, opcode, question if legible, and `rcode`.

    An rcode above 15 takes an OPT record, of version 0.
    """
    opt = b"\0\0\x29\x04\xd0" + bytes([rcode >> 4, EDNS_VERSION, 0, 0, 0, 0]) if rcode > 0xF else b""
    return _bare(wire, rcode & 0xF, 0, opt)


def truncated(wire: bytes, answer: bytes) -> bytes:
    """A bare answer to the query in `wire` that says to ask over TCP, with the rcode of `answer`."""
    return _bare(wire, answer[3] & 0xF, TC, b"")


def _bare(wire: bytes, rcode: int, more_flags: int, opt: bytes) -> bytes:
    flags = int.from_bytes(wire[2:4], "big") & (OPCODE | RD) | QR | RA | more_flags | rcode
    try:
        question = wire[HEADER : _questions(wire, 1)[1]] if wire[4:6] == b"\0\1" else b""
    except Malformed:
        question = b""
    counts = [bool(question), 0, 0, bool(opt)]
    header = wire[:2] + flags.to_bytes(2, "big") + b"".join(count.to_bytes(2, "big") for count in counts)
    return header + question + opt


def _questions(wire: bytes, count: int) -> tuple[tuple[Question, ...], int]:
    at, questions = HEADER, []
    for _ in range(count):
        start = at
        name, at = _name(wire, start)
        if at - start != sum(len(label) + 1 for label in name.labels):
            raise Malformed("a compressed name in a question")
        questions.append(Question(name, _number(wire, at, 2), _number(wire, at + 2, 2)))
        at += 4
    return tuple(questions), at


def _record(wire: bytes, names: WireNames, at: int) -> tuple[int, int, int, int, int]:
    """Octets of the owner, type, class and TTL of the record at an offset, and the offset after it."""
    try:
        owner = names.at(at)
    except BadName as error:
        raise Malformed(str(error)) from error
    at = owner.end
    end = at + 10 + _number(wire, at + 8, 2)
    if end > len(wire):
        raise Malformed("a record ends after the message")
    return owner.expanded, _number(wire, at, 2), _number(wire, at + 2, 2), _number(wire, at + 4, 4), end


def _name(wire: bytes, at: int) -> tuple[dns.name.Name, int]:
    try:
        name, octets = dns.name.from_wire(wire, at)
    except (dns.exception.DNSException, IndexError) as error:
        raise Malformed(f"a name at {at}: {error}") from error
    return name, at + octets


def _number(wire: bytes, at: int, octets: int) -> int:
    if at + octets > len(wire):
        raise Malformed("the message ends in a number")
    return int.from_bytes(wire[at : at + octets], "big")

"""Answers of other servers to what we ask them, off the wire.

An answer may have thousands of names of 127 labels by pointers, and dnspython takes 4 ms for each: so what is asked for
is read and everything else stepped over. Pure.
"""

from __future__ import annotations

from struct import Struct
from struct import error as struct_error
from typing import NamedTuple

import dns.rcode

from dnsvip.dns.protocol.message import HEADER_SIZE, Flag, Opcode, Rcode, Type
from dnsvip.dns.protocol.names import NameFault, read_name
from dnsvip.dns.protocol.tsig import expanded_name

MOST_RECORDS = 512
"""Records of an answer; no answer about one name and type needs more."""

_COUNTS, _RECORD = Struct("!HHHH"), Struct("!HHIH")
_NAMELESS = frozenset((Rcode.FORMERR, Rcode.SERVFAIL, Rcode.NOTIMP, Rcode.REFUSED))
"""Rcodes of answers whose sender may not have read the question, and then leaves it out."""


class AnswerFault(ValueError):
    """Bytes that are no answer."""


class Answer(NamedTuple):
    """What an answer says. `found` are offsets of the data, from and to, of the records of the name and type that were
    asked for. `tsig_at` is where its TSIG record begins, 0 where it has none."""

    rcode: int
    authoritative: bool
    truncated: bool
    found: tuple[tuple[int, int], ...]
    tsig_at: int


def question_of(message: bytes) -> bytes:
    """The one question of a message, its name in lower case; raises AnswerFault."""
    try:
        _, end = read_name(message, HEADER_SIZE)
    except NameFault as fault:
        raise AnswerFault(f"has no question: {fault}") from None
    return message[HEADER_SIZE:end].lower() + message[end : end + 4]


def is_answer(query: bytes, wire: bytes) -> bool:
    """Whether a message answers a question of ours: the same id, opcode and question (RFC 5452 section 9.1)."""
    if len(wire) < HEADER_SIZE or wire[:2] != query[:2] or (wire[2] ^ query[2]) & 0xF8 != Flag.QR >> 8:
        return False
    questions = int.from_bytes(wire[4:6], "big")
    if not questions:
        return wire[3] & 15 in _NAMELESS or query[2] >> 3 & 15 != Opcode.QUERY
    asked = question_of(query)
    there = wire[HEADER_SIZE : HEADER_SIZE + len(asked)]
    return questions == 1 and there[:-4].lower() + there[-4:] == asked


def read_answer(query: bytes, wire: bytes) -> Answer:
    """What a message that answers a question of ours says; raises AnswerFault."""
    asked = question_of(query)
    questions, answers, *more = _COUNTS.unpack_from(wire, 4)
    records = answers + sum(more)
    if records > MOST_RECORDS:
        raise AnswerFault(f"has {records} records")
    at, found, tsig_at = HEADER_SIZE + len(asked) * questions, [], 0
    try:
        for number in range(records):
            start, (_, at) = at, read_name(wire, at, compressed=True)
            rtype, _, _, length = _RECORD.unpack_from(wire, at)
            data = at + _RECORD.size
            at = data + length
            if at > len(wire):
                raise AnswerFault("ends in a record")
            if number < answers and wire[data - 10 : data - 6] == asked[-4:]:
                if expanded_name(wire, start)[0].lower() == asked[:-4]:
                    found.append((data, at))
            elif rtype == Type.TSIG and number == records - 1:
                tsig_at = start
    except (ValueError, struct_error) as error:
        raise AnswerFault(f"cannot be read: {error}") from None
    flags = int.from_bytes(wire[2:4], "big")
    return Answer(wire[3] & 15, bool(flags & Flag.AA), bool(flags & Flag.TC), tuple(found), tsig_at)


def rcode_text(rcode: int) -> str:
    """An rcode by its name, a number that is nobody's as such."""
    return dns.rcode.to_text(dns.rcode.Rcode.make(rcode))


def serial_in(wire: bytes, data: tuple[int, int]) -> int:
    """The serial in the data of a SOA record; raises AnswerFault."""
    at, end = data
    try:
        for _ in range(2):
            _, at = read_name(wire, at, compressed=True)
    except NameFault as fault:
        raise AnswerFault(f"has a SOA that is none: {fault}") from None
    if at + 20 != end:
        raise AnswerFault("has a SOA that is none")
    return int.from_bytes(wire[at : at + 4], "big")

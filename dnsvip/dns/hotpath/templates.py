"""Answers with holes: what the zones answer to a question, looked up once and filled in per requester.

A Template is learned from the general look-up, never worked out beside it: the look-up is made with marked
addresses, and the holes are where the marks appear. An answer that depends on anything else in the question (its
case, labels that the answer mentions or copies) has no template; `learn` then returns None.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b

from dnsvip.dns.control import EXTENDED_ERRORS
from dnsvip.dns.engine import OUTCOMES, Engine
from dnsvip.dns.protocol.builder import build
from dnsvip.dns.protocol.message import HEADER_SIZE, IN, MAX_SIZE, UDP_SIZE, Flag, Query, Response, Type
from dnsvip.dns.protocol.names import Labels, flat_name, lowered
from dnsvip.dns.reply import DnsOutcome
from dnsvip.dns.synthesis.synthesizer import LENGTH, RecordSynthesizer
from dnsvip.dns.synthesis.vip import Kind, Vip, VipMaker
from dnsvip.dns.zones.lookup import Owner, resolve
from dnsvip.site import Service

QTYPES = frozenset({*range(1, 65), Type.SVCB, Type.HTTPS, Type.ANY, 99, 256, 257}) - {Type.OPT}
"""Types that get templates: the assigned ones in use, which bounds how many a name can have."""


@dataclass(frozen=True, slots=True)
class Hole:
    """Where an address goes: of which service and type, and its TTL in the answer (seconds)."""

    service: Service
    rtype: int
    ttl: int


@dataclass(frozen=True, slots=True)
class Template:
    """An answer without id, question, addresses and OPT.

    `heads` are flags and counts by RD + 2 * EDNS; `pieces` is what follows the question, cut at the `holes`. `size` is
    the length of the whole without OPT, `question_size` that of the question; `owner` and `aa` as in `Reply`.

    It holds for the name it was learned with, in any case. Where that does not exist, it holds for all names of its
    length right below the same name (`lookup.authority_node`) but those whose label there is in `mentioned`. Where not
    `by_edns`, EDNS would add an extended error that the template does not have (RFC 8914).
    """

    heads: tuple[bytes, ...]
    pieces: tuple[bytes, ...]
    holes: tuple[Hole, ...]
    size: int
    question_size: int
    owner: Owner | None
    aa: bool
    outcome: DnsOutcome
    rcode: int
    mentioned: frozenset[bytes]
    by_edns: bool


def learn(engine: Engine, name: Labels, qtype: int, authority_node: Labels) -> Template | None:
    """The template for a question about `name` (lower case), which `authority_node` decides on; None where there is
    none."""
    first, second = (_Marks(engine.tables.vips, salt) for salt in b"\x00\x01")
    resolution = resolve(engine.zones, _query(name, qtype), RecordSynthesizer(engine.tables.services, first))
    mentioned = _mentioned(resolution.response, name, authority_node)
    if name != authority_node and name[-len(authority_node) - 1] in mentioned:
        return None
    wire = build(_query(name, qtype), resolution.response, MAX_SIZE)
    start = HEADER_SIZE + len(_question(name, qtype))
    pieces = list(_cut(wire[start:], first.marks))
    if len(wire) > UDP_SIZE or len(pieces) != len(first.marks) + 1:
        return None
    upper = tuple([label.upper() for label in name])
    shouted = resolve(engine.zones, _query(upper, qtype), RecordSynthesizer(engine.tables.services, second))
    again = build(_query(upper, qtype), shouted.response, MAX_SIZE)
    if list(_cut(again[start:], second.marks)) != pieces:
        return None
    outcome = DnsOutcome.SERVICE if first.marks else OUTCOMES[resolution.found]
    rcode = resolution.response.rcode
    by_edns = (outcome, rcode) not in EXTENDED_ERRORS
    heads = tuple(_heads(wire[2:HEADER_SIZE]))
    return Template(
        heads,
        tuple(pieces),
        tuple(first.holes),
        len(wire),
        start - HEADER_SIZE,
        resolution.owner,
        resolution.response.aa,
        outcome,
        rcode,
        mentioned,
        by_edns,
    )


class _Marks:
    """Marks instead of addresses, unmistakable by hashing; another `salt` gives other marks."""

    __slots__ = ("_salt", "_vips", "holes", "marks")

    def __init__(self, vips: VipMaker, salt: int) -> None:
        self._vips, self._salt = vips, salt
        self.holes: list[Hole] = []
        self.marks: list[bytes] = []

    def __call__(self, service: Service, rtype: int) -> Vip | None:
        """A mark, and the hole that it stands for."""
        ttl = self._vips.ttl(service, rtype)
        if ttl is None:
            return None
        mark = blake2b(bytes([self._salt, len(self.marks)]), digest_size=LENGTH[rtype]).digest()
        self.holes.append(Hole(service, rtype, ttl))
        self.marks.append(mark)
        return Vip(int.from_bytes(mark, "big"), ttl, Kind.PLAIN)


def _query(name: Labels, qtype: int) -> Query:
    return Query(0, 0, _question(name, qtype), name, lowered(name), qtype, IN)


def _question(name: Labels, qtype: int) -> bytes:
    return flat_name(name) + qtype.to_bytes(2, "big") + IN.to_bytes(2, "big")


def _heads(head: bytes) -> Iterator[bytes]:
    """Flags and counts for each kind of query, from those without RD (a flag) and EDNS (a record)."""
    additional = int.from_bytes(head[8:], "big")
    for edns in (0, 1):
        for flags in (0, Flag.RD >> 8):
            yield bytes((head[0] | flags,)) + head[1:8] + (additional + edns).to_bytes(2, "big")


def _cut(body: bytes, marks: Iterable[bytes]) -> Iterator[bytes]:
    """The parts between the marks, each of which must appear once and in this order; otherwise there are fewer or
    more parts."""
    at = 0
    for mark in marks:
        start = body.find(mark)
        if start < at or body.count(mark) != 1:
            return
        yield body[at:start]
        at = start + len(mark)
    yield body[at:]


def _mentioned(response: Response, name: Labels, authority_node: Labels) -> frozenset[bytes]:
    """The labels right below `authority_node` of all names in a response but the qname itself.

    A name with such a label may be compressed against the question, and one with another label cannot."""
    depth = len(authority_node)
    sections = (response.answer, response.authority, response.glue, response.additional)
    rrsets = [rrset for section in sections for rrset in section]
    owners = [lowered(rrset.owner) for rrset in rrsets]
    names = [
        lowered(piece) for rrset in rrsets for rdata in rrset.rdatas for piece in rdata if isinstance(piece, tuple)
    ]
    names += [owner for owner in owners if owner != name]
    return frozenset(
        other[-depth - 1] for other in names if len(other) > depth and other[len(other) - depth :] == authority_node
    )

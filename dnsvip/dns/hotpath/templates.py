"""Answers with holes: what the zones answer to a question, looked up once and filled in per requester.

A Template is learned from the general look-up, never worked out beside it: the look-up is made with marked
addresses, and the holes are where the marks appear. An answer that depends on anything else in the question (its
case, labels that the answer mentions or copies) has no template; `learn` then returns None.

What does not fit has templates too: one for the answer in all the room there may be over UDP, and where a requester
has less, others for less (TC, or fewer optional addresses). Each holds for a range of room.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import NamedTuple

from dnsvip.dns.control import EXTENDED_ERRORS
from dnsvip.dns.engine import OUTCOMES, Engine
from dnsvip.dns.protocol.builder import Built, compose
from dnsvip.dns.protocol.message import HEADER_SIZE, IN, UDP_SIZE, Edns, Flag, Query, Response, Type
from dnsvip.dns.protocol.names import Labels, flat_name, lowered
from dnsvip.dns.reply import DnsOutcome
from dnsvip.dns.synthesis.issuer import Kind, Vip
from dnsvip.dns.synthesis.synthesizer import LENGTH, RecordSynthesizer
from dnsvip.dns.synthesis.vip import VipMaker
from dnsvip.dns.zones.lookup import LookupResult, Owner, Resolution, resolve
from dnsvip.dns.zones.zone import CompiledZone
from dnsvip.site import Service

QTYPES = frozenset({*range(1, 65), Type.SVCB, Type.HTTPS, Type.ANY, 99, 256, 257}) - {Type.OPT}
"""Types that get templates: the assigned ones in use, which bounds how many a name can have."""


@dataclass(frozen=True, slots=True)
class Hole:
    """Where an address goes: of which service and type, and its TTL in the answer (seconds)."""

    service: Service
    rtype: int
    ttl: int


class Lack(NamedTuple):
    """Where a name does not exist: in which zone, and right below which name of it."""

    zone: CompiledZone
    encloser: Labels


@dataclass(frozen=True, slots=True)
class Template:
    """An answer without id, question, addresses and OPT.

    `heads` are flags and counts by RD + 2 * EDNS; `pieces` is what follows the question, cut at the `holes`. `size` is
    the length of the whole without OPT, `question_size` that of the question; `owner` and `aa` as in `Reply`. It is the
    answer in room of `size` bytes or more, and less than `beyond`. Where `truncated`, it has no records: one piece,
    and the holes are those of the answer that it stands for.

    It holds for the name it was learned with, in any case. Where that does not exist, it holds for all names of its
    length right below the same name (`lookup.authority_node`) but those whose label there is in `mentioned`. Where not
    `by_edns`, EDNS would add an extended error that the template does not have (RFC 8914). Where `signed`, DO would add
    signatures. `lack` is for proofs that the name does not exist (`compiled.Templates.proven`).
    """

    heads: tuple[bytes, ...]
    pieces: tuple[bytes, ...]
    holes: tuple[Hole, ...]
    size: int
    beyond: int
    question_size: int
    owner: Owner | None
    aa: bool
    truncated: bool
    outcome: DnsOutcome
    rcode: int
    mentioned: frozenset[bytes]
    by_edns: bool
    signed: bool
    lack: Lack | None


def learn(
    engine: Engine,
    name: Labels,
    qtype: int,
    authority_node: Labels,
    room: int = UDP_SIZE,
    signed_at: float | None = None,
) -> Template | None:
    """The template for a question about `name` (lower case), which `authority_node` decides on, in an answer of at most
    `room` bytes but for its OPT record, with the signatures of a moment (unix seconds) where that is given; None where
    there is none."""
    first, second = (_Marks(engine.tables.vips, salt) for salt in b"\x00\x01")
    resolution = _resolved(engine, name, qtype, first, signed_at)
    mentioned: frozenset[bytes] = frozenset()
    if name != authority_node:
        mentioned = _mentioned(resolution.response, name, authority_node)
        if name[-len(authority_node) - 1] in mentioned:
            return None
    if first.of_session:
        return None
    built = compose(_query(name, qtype), resolution.response, room)
    start = HEADER_SIZE + len(_question(name, qtype))
    pieces = _pieces(built, start, first)
    if pieces is None:
        return None
    upper = tuple([label.upper() for label in name])
    shouted = _resolved(engine, upper, qtype, second, signed_at)
    again = compose(_query(upper, qtype), shouted.response, room)
    if _pieces(again, start, second) != pieces or again.beyond != built.beyond:
        return None
    outcome = DnsOutcome.SERVICE if first.marks else OUTCOMES[resolution.found]
    rcode = resolution.response.rcode
    by_edns = (outcome, rcode) not in EXTENDED_ERRORS
    heads = tuple(_heads(built.wire[2:HEADER_SIZE]))
    return Template(
        heads,
        tuple(pieces),
        tuple(first.holes),
        len(built.wire),
        built.beyond,
        start - HEADER_SIZE,
        resolution.owner,
        resolution.response.aa,
        built.truncated,
        outcome,
        rcode,
        mentioned,
        by_edns,
        resolution.is_signed,
        _lack(resolution),
    )


def _resolved(engine: Engine, name: Labels, qtype: int, marks: _Marks, signed_at: float | None) -> Resolution:
    query = _query(name, qtype)
    resolution = resolve(engine.zones, query, RecordSynthesizer(engine.tables.services, marks))
    if signed_at is None:
        return resolution
    return engine.signer.signed(replace(query, edns=Edns(UDP_SIZE, do=True)), resolution, signed_at)


def _lack(resolution: Resolution) -> Lack | None:
    end = resolution.end
    if end is None or resolution.found is not LookupResult.NXDOMAIN or resolution.response.answer:
        return None
    return Lack(end.zone, end.place.key)


class _Marks:
    """Marks instead of addresses, unmistakable by hashing; another `salt` gives other marks."""

    __slots__ = ("_salt", "_vips", "holes", "marks", "of_session")

    def __init__(self, vips: VipMaker, salt: int) -> None:
        self._vips, self._salt = vips, salt
        self.holes: list[Hole] = []
        self.marks: list[bytes] = []
        self.of_session = False
        """Whether an address belongs to the session that a name names: a hole does not know it."""

    def __call__(self, service: Service, rtype: int, session: int | None) -> Vip | None:
        """A mark, and the hole that it stands for."""
        self.of_session |= session is not None
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


def _pieces(built: Built, start: int, marks: _Marks) -> list[bytes] | None:
    """What follows the question, which ends at `start`, cut at the marks; None where they are not all there, once and
    in order. A truncated answer has none of them."""
    pieces = list(_cut(built.wire[start:], () if built.truncated else marks.marks))
    return pieces if len(pieces) == (1 if built.truncated else len(marks.marks) + 1) else None


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

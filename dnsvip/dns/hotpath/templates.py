"""Answers with holes: what the zones answer to a question, looked up once and filled in per requester.

A Template is learned from the general look-up, never worked out beside it: the look-up is made with marked
addresses, and the holes are where the marks appear. An answer that depends on anything else in the question (its
case, labels that the answer mentions or copies) has no template; `learn` then returns None.

What does not fit has templates too: one for the answer in all the room there may be over UDP, and where a requester
has less, others for less (TC, or fewer optional addresses). Each holds for a range of room.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from dnsvip.dns.control import EXTENDED_ERRORS
from dnsvip.dns.counters import ZoneCell
from dnsvip.dns.engine import OUTCOMES, Engine
from dnsvip.dns.hotpath.marks import ALWAYS, Hole, MarkedSignatures, Marks, SignedSet
from dnsvip.dns.protocol.builder import Built, compose
from dnsvip.dns.protocol.message import HEADER_SIZE, IN, UDP_SIZE, Edns, Flag, Query, Response, Type
from dnsvip.dns.protocol.names import Labels, flat_name, lowered
from dnsvip.dns.reply import DnsOutcome
from dnsvip.dns.synthesis.synthesizer import RecordSynthesizer
from dnsvip.dns.zones.lookup import Owner, Resolution, resolve
from dnsvip.dns.zones.places import LookupResult
from dnsvip.dns.zones.zone import CompiledZone

QTYPES = frozenset({*range(1, 65), Type.SVCB, Type.HTTPS, Type.ANY, 99, 256, 257}) - {Type.OPT}
"""Types that get templates: the assigned ones in use, which bounds how many a name can have."""


class Lack(NamedTuple):
    """Where a name does not exist: in which zone, and right below which name of it."""

    zone: CompiledZone
    encloser: Labels


@dataclass(frozen=True, slots=True)
class Template:
    """An answer without id, question, addresses and OPT.

    `heads` are flags and counts by RD + 2 * EDNS; `pieces` is what follows the question, cut at the `holes`. One with
    signatures is cut at those of `sets` too, which depend on the addresses, and where `of_name` at the name that was
    asked for. What goes between the pieces is the name, addresses and signatures, or these in an `order` by number.
    `size` is the length of the whole without OPT, `question_size` that of the question; `owner` and `aa` as in `Reply`.
    It is the answer in room of `size` bytes or more, and less than `beyond`. Where `truncated`, it has no records: one
    piece, and the holes are those of the answer that it stands for.

    It holds for the name it was learned with, in any case. Where that does not exist, it holds for all names of its
    length right below the same name (`lookup.authority_node`) but those whose label there is in `mentioned`. Where not
    `by_edns`, EDNS would add an extended error that the template does not have (RFC 8914). Where `signed`, DO would add
    signatures; those that it has are used in its `period` (unix seconds, from and to before). `lack` is for proofs that
    the name does not exist (`compiled.Templates.proven`). `zone` counts it.
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
    zone: ZoneCell = field(compare=False, repr=False)
    sets: tuple[SignedSet, ...] = ()
    order: tuple[int, ...] = ()
    of_name: bool = False
    period: tuple[int, int] = ALWAYS


def learn(
    engine: Engine,
    name: Labels,
    qtype: int,
    authority_node: Labels,
    room: int = UDP_SIZE,
    signed_at: float | None = None,
    *,
    of_name: bool = False,
) -> Template | None:
    """The template for a question about `name` (lower case), which `authority_node` decides on, in an answer of at most
    `room` bytes but for its OPT record, with the signatures of a moment (unix seconds) where that is given; None where
    there is none. With `of_name` the answer may have the name itself in its data."""
    first, second = (_Asked(engine, qtype, salt, signed_at, name if of_name else None) for salt in b"\x00\x01")
    resolution = first.resolved(name)
    mentioned: frozenset[bytes] = frozenset()
    if name != authority_node:
        mentioned = _mentioned(resolution.response, name, authority_node)
        if name[-len(authority_node) - 1] in mentioned:
            return None
    if first.addresses.of_session:
        return None
    built = compose(_query(name, qtype), resolution.response, room)
    start = HEADER_SIZE + len(_question(name, qtype))
    cut = _cut(built, start, first.marks)
    if cut is None:
        return None
    upper = tuple([label.upper() for label in name])
    again = compose(_query(upper, qtype), second.resolved(upper).response, room)
    if _cut(again, start, second.marks) != cut or again.beyond != built.beyond:
        return None
    pieces, order = cut
    outcome = DnsOutcome.SERVICE if first.addresses.holes else OUTCOMES[resolution.found]
    rcode = resolution.response.rcode
    by_edns = (outcome, rcode) not in EXTENDED_ERRORS
    heads = tuple(_heads(built.wire[2:HEADER_SIZE]))
    return Template(
        heads,
        pieces,
        tuple(first.addresses.holes),
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
        engine.zone_cell(resolution.owner),
        tuple(first.sets),
        order,
        of_name,
        first.period,
    )


class _Asked:
    """A question asked with marks of a `salt`."""

    def __init__(self, engine: Engine, qtype: int, salt: int, signed_at: float | None, name: Labels | None) -> None:
        self._engine, self._qtype, self._signed_at = engine, qtype, signed_at
        self.addresses = Marks(engine.tables.vips, salt, name)
        self._signatures = MarkedSignatures(engine.signer.signatures, self.addresses)

    @property
    def marks(self) -> list[bytes]:
        """Those of addresses, followed by those of signatures."""
        return [*self.addresses.marks, *self._signatures.marks]

    @property
    def period(self) -> tuple[int, int]:
        """When all other signatures are used."""
        return self._signatures.period

    @property
    def sets(self) -> list[SignedSet]:
        """The sets whose signatures have marks."""
        return self._signatures.sets

    def resolved(self, name: Labels) -> Resolution:
        """The answer for a name, with signatures where these are asked for."""
        engine, query = self._engine, _query(name, self._qtype)
        resolution = resolve(engine.zones, query, RecordSynthesizer(engine.tables.services, self.addresses))
        if self._signed_at is None:
            return resolution
        query = replace(query, edns=Edns(UDP_SIZE, do=True))
        return engine.signer.by(self._signatures).signed(query, resolution, self._signed_at)


def _lack(resolution: Resolution) -> Lack | None:
    end = resolution.end
    if end is None or resolution.found is not LookupResult.NXDOMAIN or resolution.response.answer:
        return None
    return Lack(end.zone, end.place.key)


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


def _cut(built: Built, start: int, marks: Sequence[bytes]) -> tuple[tuple[bytes, ...], tuple[int, ...]] | None:
    """What follows the question, which ends at `start`, cut at the marks, and their numbers in order where that is
    another one; None where they are not all there, once. A truncated answer has none of them."""
    body = built.wire[start:]
    if built.truncated:
        return ((body,), ()) if not any(mark in body for mark in marks) else None
    if any(body.count(mark) != 1 for mark in marks):
        return None
    pieces, at = [], 0
    order = sorted(range(len(marks)), key=lambda number: body.find(marks[number]))
    for number in order:
        found = body.find(marks[number])
        pieces.append(body[at:found])
        at = found + len(marks[number])
    return (*pieces, body[at:]), tuple(order) if order != sorted(order) else ()


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

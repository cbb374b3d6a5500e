"""Marks in place of what a template leaves open: addresses, and the signatures of the sets that have them.

A look-up is made with marks, which are unmistakable by hashing; where they appear in the answer, a template has holes.
Another `salt` gives other marks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b, shake_128
from itertools import pairwise

from dnsvip.dns.dnssec.keys import ZoneKeys
from dnsvip.dns.dnssec.rrsig import rrsig
from dnsvip.dns.dnssec.signatures import Part, Signatures, period
from dnsvip.dns.protocol.message import RRset, Type
from dnsvip.dns.protocol.names import Labels, flat_name, lowered
from dnsvip.dns.synthesis.issuer import Kind, Vip
from dnsvip.dns.synthesis.synthesizer import LENGTH
from dnsvip.dns.synthesis.vip import VipMaker
from dnsvip.site import Service

ALWAYS = 0, 0xFFFF_FFFF
"""The period of an answer without signatures."""


@dataclass(frozen=True, slots=True)
class Hole:
    """Where an address goes: of which service and type, and its TTL in the answer (seconds)."""

    service: Service
    rtype: int
    ttl: int


@dataclass(frozen=True, slots=True)
class SignedSet:
    """A set with holes whose signatures are made with it. Each of `datas` has a piece more than holes: between them go
    the values of these numbers. Where `of_name`, its owner is the name that was asked for. The data of its signatures
    have these `lengths`."""

    rrset: RRset
    of_name: bool
    datas: tuple[tuple[Sequence[bytes], Sequence[int]], ...]
    keys: ZoneKeys
    part: Part
    signatures: Signatures
    lengths: tuple[int, ...]

    def signed(self, values: Sequence[bytes], name: Labels, now: float) -> list[bytes]:
        """The data of the signatures of the set with these values in its holes, where `name` (lower case) was asked
        for, at `now` (unix seconds)."""
        rdatas = []
        for pieces, numbers in self.datas:
            parts = [pieces[0]]
            for number, piece in zip(numbers, pieces[1:], strict=True):
                parts += values[number], piece
            rdatas.append((b"".join(parts),))
        rrset = RRset(name if self.of_name else self.rrset.owner, self.rrset.rtype, self.rrset.ttl, tuple(rdatas))
        made = self.signatures.of(rrset, self.keys, self.part, now)
        return [data for (data,) in made.rdatas]  # type: ignore[misc]  # that of an RRSIG is bytes


class Marks:
    """Marks instead of addresses, and the holes that they stand for. With a `name` (lower case), that is a mark too,
    the first one."""

    __slots__ = ("_vips", "holes", "marks", "name", "of_session", "salt")

    def __init__(self, vips: VipMaker, salt: int, name: Labels | None = None) -> None:
        self._vips, self.salt, self.name = vips, salt, name
        self.holes: list[Hole] = []
        self.marks: list[bytes] = [] if name is None else [flat_name(name)]
        self.of_session = False
        """Whether an address belongs to the session that a name names: a hole does not know it."""

    def __call__(self, service: Service, rtype: int, session: int | None) -> Vip | None:
        """A mark instead of an address."""
        self.of_session |= session is not None
        ttl = self._vips.ttl(service, rtype)
        if ttl is None:
            return None
        mark = blake2b(bytes([self.salt, len(self.marks)]), digest_size=LENGTH[rtype]).digest()
        self.holes.append(Hole(service, rtype, ttl))
        self.marks.append(mark)
        return Vip(int.from_bytes(mark, "big"), ttl, Kind.PLAIN)

    def holes_in(self, data: bytes) -> tuple[list[bytes], list[int]]:
        """The pieces of data between marks of addresses, and the numbers of these in their order."""
        found = sorted((at, number) for number, mark in enumerate(self.marks) if (at := data.find(mark)) >= 0)
        edges = [(0, 0), *((at, at + len(self.marks[number])) for at, number in found), (len(data), len(data))]
        pieces = [data[end:start] for (_, end), (start, _) in pairwise(edges)]
        return pieces, [number for _, number in found]


class MarkedSignatures(Signatures):
    """Those of `signatures`, but marks instead of the ones over `marks` or of their name; the `sets` that have such
    ones, and the `period` in which all others are used (unix seconds)."""

    def __init__(self, signatures: Signatures, marks: Marks) -> None:
        self._signatures, self._addresses = signatures, marks
        self.sets: list[SignedSet] = []
        self.marks: list[bytes] = []
        self.period: tuple[int, int] = ALWAYS

    def of(self, rrset: RRset, keys: ZoneKeys, part: Part, now: float) -> RRset:
        """As `Signatures.of`."""
        datas = tuple([self._addresses.holes_in(data) for (data, *_) in rrset.rdatas if isinstance(data, bytes)])
        of_name = lowered(rrset.owner) == self._addresses.name
        if not of_name and not any(numbers for _, numbers in datas):
            return self._used(self._signatures.of(rrset, keys, part, now))
        marks: list[bytes] = []
        for (data,) in rrsig(rrset, keys, 0, 0).rdatas:
            marks.append(shake_128(bytes([self._addresses.salt, len(self.marks)])).digest(len(data)))
            self.marks.append(marks[-1])
        lengths = tuple(map(len, marks))
        self.sets.append(SignedSet(rrset, of_name, datas, keys, part, self._signatures, lengths))
        return RRset(rrset.owner, Type.RRSIG, rrset.ttl, tuple((mark,) for mark in marks))

    def _used(self, made: RRset) -> RRset:
        """Signatures that are in the answer as they are."""
        for data, *_ in made.rdatas:
            if isinstance(data, bytes):
                since, until = period(data)
                self.period = max(self.period[0], since), min(self.period[1], until)
        return made

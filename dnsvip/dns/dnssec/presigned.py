"""A zone that was signed elsewhere: its signatures, and its own proofs of what it lacks (RFC 4035, RFC 5155).

It knows names and record sets, not how an answer was found.
"""

from __future__ import annotations

from base64 import b32hexdecode
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha1
from typing import NamedTuple, TypeAlias

from dnsvip.dns.dnssec.chain import place_of
from dnsvip.dns.protocol.message import Rdata, RRset, Type
from dnsvip.dns.protocol.names import Labels, flat_name, lowered

MOST_ITERATIONS = 100
"""Further iterations of an NSEC3 hash: each proof costs three of them (RFC 9276 section 3.2)."""

Nodes: TypeAlias = Mapping[Labels, Mapping[int, RRset]]


class Hashing(NamedTuple):
    """How the names of a zone are hashed (RFC 5155 section 5): SHA-1 with further iterations and a salt."""

    iterations: int
    salt: bytes

    @classmethod
    def of(cls, data: bytes) -> Hashing:
        """That of an NSEC3 or NSEC3PARAM record, by its data."""
        return cls(int.from_bytes(data[2:4], "big"), data[5 : 5 + data[4]])

    def hash(self, name: Labels) -> bytes:
        """The hash of a name (lower case)."""
        digest = sha1(flat_name(name) + self.salt, usedforsecurity=False).digest()
        for _ in range(self.iterations):
            digest = sha1(digest + self.salt, usedforsecurity=False).digest()
        return digest


@dataclass(frozen=True, slots=True)
class Presigned:
    """What a signed zone has for its answers. `signatures` are by owner and the type that they cover; `hidden` are the
    names that only its proofs have, which no question finds (RFC 5155 section 7.2.8)."""

    signatures: Mapping[tuple[Labels, int], RRset] = field(repr=False)
    hidden: Nodes = field(repr=False)
    proofs: Chain | Hashes | None = field(repr=False)

    @classmethod
    def of(cls, apex: Labels, nodes: Nodes) -> Presigned | None:
        """That of the zone with these names; None where it has no signatures."""
        signatures = {
            (owner, covered): rrset
            for owner, node in nodes.items()
            if Type.RRSIG in node
            for covered, rrset in by_covered(node[Type.RRSIG])
        }
        if not signatures:
            return None
        hidden = {name: node for name, node in nodes.items() if Type.NSEC3 in node and not node.keys() - _OF_HASHES}
        proofs = Chain.of(nodes) if Type.NSEC in nodes.get(apex, ()) else Hashes.of(apex, nodes)
        return cls(signatures, hidden, proofs)

    def signed(self, rrsets: Iterable[RRset]) -> Iterator[RRset]:
        """Sets of the zone with their signatures, each once."""
        for rrset in dict.fromkeys(rrsets):
            yield rrset
            signature = self.signatures.get((lowered(rrset.owner), rrset.rtype))
            if signature is not None:
                yield signature


class Chain:
    """The NSEC records of a zone (RFC 4035 section 3.1.3)."""

    __slots__ = ("_places", "_sets")

    def __init__(self, sets: Mapping[bytes, RRset]) -> None:
        self._places, self._sets = sorted(sets), sets

    @classmethod
    def of(cls, nodes: Nodes) -> Chain:
        """That of the zone with these names."""
        return cls({place_of(name): node[Type.NSEC] for name, node in nodes.items() if Type.NSEC in node})

    def missing(self, name: Labels, encloser: Labels) -> Iterator[RRset]:
        """That a name does not exist, nor a wildcard right below its closest encloser; all names in lower case."""
        yield self._covering(name)
        yield self._covering((b"*", *encloser))

    def lacking(self, name: Labels, found: Labels) -> Iterator[RRset]:
        """That a name lacks a type, which was `found` at a wildcard where that is another name. An empty
        non-terminal has no record of its own."""
        yield self._sets.get(place_of(found)) or self._covering(found)
        if found != name:
            yield self._covering(name)

    def expanded(self, name: Labels, _encloser: Labels) -> Iterator[RRset]:
        """That a name which a wildcard answers for does not exist itself."""
        yield self._covering(name)

    def _covering(self, name: Labels) -> RRset:
        return self._sets[self._places[bisect_right(self._places, place_of(name)) - 1]]


class Hashes:
    """The NSEC3 records of a zone (RFC 5155 section 7.2). Where they opt out, insecure delegations have none."""

    __slots__ = ("_hashes", "_hashing", "_sets")

    def __init__(self, hashing: Hashing, sets: Mapping[bytes, RRset]) -> None:
        self._hashing, self._hashes, self._sets = hashing, sorted(sets), sets

    @classmethod
    def of(cls, apex: Labels, nodes: Nodes) -> Hashes | None:
        """That of the zone at `apex`; None where it has no chain that NSEC3PARAM names (RFC 5155 section 4)."""
        parameters = nodes.get(apex, {}).get(Type.NSEC3PARAM)
        if parameters is None:
            return None
        hashing = Hashing.of(_data(parameters.rdatas[0]))
        sets = {
            _hash_of(name[0]): node[Type.NSEC3]
            for name, node in nodes.items()
            if Type.NSEC3 in node and Hashing.of(_data(node[Type.NSEC3].rdatas[0])) == hashing
        }
        return cls(hashing, sets) if sets else None

    def missing(self, name: Labels, encloser: Labels) -> Iterator[RRset]:
        """See Chain.missing. The closest encloser that can be proven is further up where that one exists for insecure
        delegations alone. What is below it is not hashed: requesters choose how many labels that has."""
        proven = self._provable(encloser)
        yield from self._enclosed(name, proven)
        yield self._covering((b"*", *proven))

    def lacking(self, name: Labels, found: Labels) -> Iterator[RRset]:
        """See Chain.lacking."""
        matching = self._sets.get(self._hashing.hash(found))
        if found != name or matching is None:
            yield from self._enclosed(name, self._provable(name if found == name else found[1:]))
        if matching is not None:
            yield matching

    def expanded(self, name: Labels, encloser: Labels) -> Iterator[RRset]:
        """See Chain.expanded."""
        yield self._covering(name[len(name) - len(encloser) - 1 :])

    def _provable(self, name: Labels) -> Labels:
        """The longest name above or at a name that has a record; the apex has one."""
        return next((name[up:] for up in range(len(name)) if self._hashing.hash(name[up:]) in self._sets), ())

    def _enclosed(self, name: Labels, encloser: Labels) -> Iterator[RRset]:
        """That a name above exists, and that the one below it on the way to the name does not."""
        matching = self._sets.get(self._hashing.hash(encloser))
        if matching is not None:
            yield matching
        if encloser != name:
            yield self._covering(name[len(name) - len(encloser) - 1 :])

    def _covering(self, name: Labels) -> RRset:
        return self._sets[self._hashes[bisect_right(self._hashes, self._hashing.hash(name)) - 1]]


_OF_HASHES = frozenset({Type.NSEC3, Type.RRSIG})


def covered_type(data: bytes) -> int:
    """The type that an RRSIG covers, by its data (RFC 4034 section 3.1)."""
    return int.from_bytes(data[:2], "big")


def by_covered(rrset: RRset) -> Iterator[tuple[int, RRset]]:
    """The signatures at a name by the type that they cover, each set with the TTL of what it covers."""
    found: dict[int, list[Rdata]] = {}
    for rdata in rrset.rdatas:
        found.setdefault(covered_type(_data(rdata)), []).append(rdata)
    for covered, rdatas in found.items():
        yield covered, rrset._replace(ttl=_original_ttl(rdatas), rdatas=tuple(rdatas))


def _original_ttl(rdatas: Sequence[Rdata]) -> int:
    return int.from_bytes(_data(rdatas[0])[4:8], "big")


def _data(rdata: Rdata) -> bytes:
    (data,) = rdata
    return data if isinstance(data, bytes) else b""


def _hash_of(label: bytes) -> bytes:
    """The hash in the first label of the owner of an NSEC3 record."""
    text = label.upper()
    return b32hexdecode(text + b"=" * (-len(text) % 8))

"""What a signed zone proves of names and types that it lacks: by compact denial, its chain of NSEC, or NSEC3.

It knows what a name has: the records of the zone, the addresses that are made there, and the zones below. A proof is
record sets, which the signer signs. Where the chain cannot prove something, as below services whose names name
sessions, compact denial does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeAlias

from dnsvip.dns.dnssec import nsec3
from dnsvip.dns.dnssec.chain import Chain, name_at, own_names, place_of, under, without_below
from dnsvip.dns.dnssec.denial import ALWAYS, compact, nsec
from dnsvip.dns.protocol.message import RRset, Type
from dnsvip.dns.protocol.names import Labels, lowered
from dnsvip.dns.zones.lookup import End
from dnsvip.dns.zones.places import EndKind, Place, Zones, is_authoritative
from dnsvip.dns.zones.record import WILD
from dnsvip.dns.zones.zone import CompiledZone
from dnsvip.site import DnssecDenial

MadeTypes: TypeAlias = Callable[[Labels], frozenset[int] | None]
"""Name of a service -> the types of address that are made there; None for a name that is no service."""


class Proof(NamedTuple):
    """Record sets that prove a lack. With `compact` ones a name that does not exist has NOERROR (RFC 9824)."""

    sets: tuple[RRset, ...]
    compact: bool = False


class _Surroundings(NamedTuple):
    """What a chain depends on: its zone, and the places of services, sessions and zones at and below its apex."""

    zone: CompiledZone
    services: list[bytes]
    sessions: list[bytes]
    apexes: list[bytes]


class Denials:
    """The proofs of `zones`. Chains are made when they are first needed, and kept from `before` where nothing in them
    has changed."""

    def __init__(self, zones: Zones, made: MadeTypes, before: Denials | None = None) -> None:
        self._zones, self._made = zones, made
        known = before._known.items() if before else ()
        self._known: dict[Labels, tuple[_Surroundings, Chain]] = {
            apex: made_before for apex, made_before in known if zones.by_apex.get(apex) is made_before[0].zone
        }
        self._chains: dict[Labels, Chain] = {}
        self._ordered: list[list[bytes]] | None = None

    def proof(self, end: End, qtype: int) -> Proof:
        """That the name has no such type, or does not exist."""
        if end.zone.denial is DnssecDenial.NSEC3:
            return Proof(tuple(self._white_lies(end, qtype)))
        by_chain = self._by_chain(end, qtype) if end.zone.denial is DnssecDenial.NSEC else None
        return Proof(by_chain) if by_chain else Proof((self._compact(end, qtype),), compact=True)

    def at(self, end: End) -> RRset | None:
        """The NSEC that a name has; None where it has none."""
        zone, place, name = end
        if zone.denial is DnssecDenial.NSEC3 or (zone.denial is DnssecDenial.NSEC and place.kind is EndKind.MISSING):
            return None
        gap = self.chain(zone).at(lowered(name)) if zone.denial is DnssecDenial.NSEC else None
        return self._compact(end, 0) if gap is None else self._nsec(zone, name, gap, self._types(zone, place))

    def delegation(self, zone: CompiledZone, place: Place) -> RRset:
        """That a delegation has no DS, so that what is below is not signed (RFC 4035 section 3.1.4)."""
        types = self._types(zone, place)
        if zone.denial is DnssecDenial.NSEC3:
            return nsec3.matching(place.key, zone.apex, types, zone.negative.ttl)
        gap = self.chain(zone).at(place.key) if zone.denial is DnssecDenial.NSEC else None
        if gap is None:
            return compact(place.key, zone.apex, types, zone.negative.ttl)
        return self._nsec(zone, place.key, gap, types)

    def gaps(self, zone: CompiledZone, encloser: Labels, name: Labels) -> tuple[int, int] | None:
        """Where in the chain a name is that does not exist, and the wildcard below its closest encloser: all names with
        the same ones have the same proof. None where there is no such proof."""
        if zone.denial is not DnssecDenial.NSEC:
            return None
        chain = self.chain(zone)
        gap, wild = chain.gap(name), chain.wild(encloser)
        return None if gap is None or wild is None else (gap, wild)

    def chain(self, zone: CompiledZone) -> Chain:
        """The names that the zone has."""
        chain = self._chains.get(zone.apex)
        if chain is None:
            around, known = self._surroundings(zone), self._known.get(zone.apex)
            chain = known[1] if known is not None and _same(known[0], around) else self._chain(around)
            self._known[zone.apex] = around, chain
            self._chains[zone.apex] = chain
        return chain

    def _compact(self, end: End, qtype: int) -> RRset:
        types = self._types(end.zone, end.place) - {qtype}
        return compact(end.name, end.zone.apex, types, end.zone.negative.ttl)

    def _by_chain(self, end: End, qtype: int) -> tuple[RRset, ...] | None:
        """Of a name that does not exist: it is in a gap, and so is the wildcard that would cover it. Of one that does:
        its types, or for a wildcard's those of the wildcard, and that the name itself is in a gap."""
        zone, place, name = end
        key = lowered(name)
        if place.kind is EndKind.MISSING:
            gaps = self.gaps(zone, place.key, key)
            return None if gaps is None else tuple([self._between(zone, gap) for gap in dict.fromkeys(gaps)])
        own = self.chain(zone).at(place.key)
        if own is None:
            return None
        types = self._types(zone, place) - {qtype}
        if place.key == key:
            return (self._nsec(zone, name, own, types),)
        gap = self.chain(zone).gap(key)
        if gap is None:
            return None
        wild = self._nsec(zone, place.key, own, types)
        return (wild,) if gap == own else (wild, self._between(zone, gap))

    def _between(self, zone: CompiledZone, gap: int) -> RRset:
        """The NSEC of a gap, by its number."""
        name = self.chain(zone).ends(gap)[0]
        node = zone.nodes.get(name, {})
        cut = name != zone.apex and (Type.NS in node or name in self._zones.by_apex)
        return self._nsec(zone, name, gap, self._types(zone, Place(EndKind.CUT if cut else EndKind.NODE, name, node)))

    def _nsec(self, zone: CompiledZone, name: Labels, gap: int, types: Iterable[int]) -> RRset:
        return nsec(name, self.chain(zone).ends(gap)[1], types, zone.negative.ttl)

    def _white_lies(self, end: End, qtype: int) -> Iterator[RRset]:
        """RFC 5155 sections 7.2.2 and 7.2.3. A name that a wildcard covers has a record as if it existed, as its
        positive answers have signatures."""
        zone, place, name = end
        ttl = zone.negative.ttl
        if place.kind is not EndKind.MISSING:
            yield nsec3.matching(name, zone.apex, self._types(zone, place) - {qtype}, ttl)
            return
        encloser = place.key
        node = Place(EndKind.NODE, encloser, zone.nodes.get(encloser, {}))
        yield nsec3.matching(encloser, zone.apex, self._types(zone, node), ttl)
        yield nsec3.covering(name[len(name) - len(encloser) - 1 :], zone.apex, ttl)
        yield nsec3.covering((WILD, *encloser), zone.apex, ttl)

    def _types(self, zone: CompiledZone, place: Place) -> frozenset[int]:
        """The types that a name has, for the bitmap of its NSEC or NSEC3."""
        if place.kind is EndKind.MISSING:
            return ALWAYS | {Type.NXNAME}
        types = frozenset(place.node)
        hashed = zone.denial is DnssecDenial.NSEC3
        if place.key != zone.apex and (Type.NS in types or place.key in self._zones.by_apex):
            types = types & {Type.NS, Type.DS} | {Type.NS}  # the parent's side of a delegation (RFC 4035 section 2.3)
            return types | (({Type.RRSIG} if Type.DS in types else set()) if hashed else ALWAYS)
        made = self._made(place.key)
        if made is not None:
            types = types - {Type.CNAME} | made
        if place.key == zone.apex and zone.keys is not None:
            types |= zone.keys.sets.keys()
        return types | (({Type.RRSIG} if types else set()) if hashed else ALWAYS)

    def _surroundings(self, zone: CompiledZone) -> _Surroundings:
        if self._ordered is None:
            zones = self._zones
            some = (zones.services, zones.sessions, zones.by_apex)
            self._ordered = [sorted(map(place_of, names)) for names in some]
        return _Surroundings(zone, *(places[under(places, zone.apex)] for places in self._ordered))

    def _chain(self, around: _Surroundings) -> Chain:
        """The names of the zone's own records, its services, and the zones below it."""
        zone, services, sessions, apexes = around
        own = own_names(zone.apex, zone.nodes) if zone.own_names is None else zone.own_names
        below = [place for place in apexes if name_at(place) != zone.apex]
        served = [place for place in services if is_authoritative(self._zones, zone, name_at(place))]
        hosted = without_below(below, below)
        own = without_below(own, hosted)
        return Chain(zone.apex, (*own, *served, *hosted), [name_at(place)[1:] for place in sessions])


def _same(one: _Surroundings, other: _Surroundings) -> bool:
    return one.zone is other.zone and one[1:] == other[1:]

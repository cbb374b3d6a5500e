"""What a signed zone adds to an answer for a requester that wants it (the DO bit, RFC 4035 section 3.1).

It takes what the look-up found and knows of zones only that: each set of the answer is signed as it is, also one made
for this requester alone or by a wildcard. What is denied is proven by `denials`. Delegations are unsigned but for
their DS, or the proof that they have none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from dnsvip.dns.dnssec.denial import ALWAYS
from dnsvip.dns.dnssec.keys import ZoneKeys
from dnsvip.dns.dnssec.presigned import Presigned
from dnsvip.dns.dnssec.signatures import Part, Signatures
from dnsvip.dns.protocol.message import Query, Rcode, Response, RRset, Type
from dnsvip.dns.protocol.names import Labels, lowered
from dnsvip.dns.zones.denials import Denials
from dnsvip.dns.zones.lookup import SYNTHESIZED, End, Resolution
from dnsvip.dns.zones.places import EndKind, LookupResult, Zones, is_authoritative
from dnsvip.dns.zones.record import WILD
from dnsvip.dns.zones.zone import CompiledZone
from dnsvip.site import DnssecDenial

_DENIED = frozenset({LookupResult.NODATA, LookupResult.NXDOMAIN})


class Signer:
    """Signs what `zones` answer, with the signatures that have been made before."""

    __slots__ = ("_zones", "denials", "signatures")

    def __init__(self, zones: Zones, denials: Denials, signatures: Signatures) -> None:
        self._zones, self.denials, self.signatures = zones, denials, signatures

    def by(self, signatures: Signatures) -> Signer:
        """As this one, with other signatures."""
        return Signer(self._zones, self.denials, signatures)

    def signed(self, query: Query, found: Resolution, now: float) -> Resolution:
        """What was found for a query with DO, with signatures and proofs of the zones that are signed."""
        if not found.is_signed:
            return found
        compact_ok = query.edns is not None and query.edns.compact_ok
        response = replace(found.response, answer=tuple(self._answer(found, now)), compact_ok=compact_ok)
        if expanded := tuple(_expansions(found)):
            response = replace(response, authority=(*response.authority, *expanded))
        end = found.end
        if end is not None and end.zone.presigned is not None:
            return replace(found, response=_as_it_is(response, found.found, end, end.zone.presigned))
        if end is None or end.zone.keys is None:
            return replace(found, response=response)
        keys = end.zone.keys
        if found.found in _DENIED:
            own = tuple(self._own(query.qtype, end, keys, now)) if query.qtype in ALWAYS else ()
            if own:
                answer = (*response.answer, *own)
                return replace(found, response=replace(response, rcode=Rcode.NOERROR, answer=answer, authority=()))
            return replace(found, response=self._denied(response, end, query.qtype, keys, now))
        if found.found is LookupResult.REFERRAL:
            response = replace(response, authority=(*response.authority, *self._delegation(end, keys, now)))
        additional = _Additional(response.additional, end.zone, keys, self, now) if response.additional else ()
        return replace(found, response=replace(response, additional=additional))

    def with_signature(self, rrset: RRset, zone: CompiledZone, keys: ZoneKeys, now: float) -> tuple[RRset, RRset]:
        """A set of a zone, and its signatures."""
        return rrset, self.signatures.of(rrset, keys, self._part(zone, rrset), now)

    def is_authoritative(self, zone: CompiledZone, owner: Labels) -> bool:
        """Whether what a zone has at a name is for it to sign."""
        return is_authoritative(self._zones, zone, lowered(owner))

    def _answer(self, found: Resolution, now: float) -> Iterator[RRset]:
        for rrset, zone in zip(found.response.answer, found.zones, strict=True):
            if zone is not None and zone.presigned is not None:
                yield from _signed_elsewhere(rrset, zone, zone.presigned)
            elif zone is None or zone.keys is None:
                yield rrset
            else:
                yield from self.with_signature(rrset, zone, zone.keys, now)

    def _part(self, zone: CompiledZone, rrset: RRset) -> Part:
        if rrset.rtype == Type.NSEC and zone.denial is DnssecDenial.NSEC:
            return Part.CHAIN
        owner = lowered(rrset.owner)
        node = zone.nodes.get(owner)
        if node is None:
            return Part.MADE if owner in self._zones.services else Part.OTHER
        static = node.get(rrset.rtype)
        made = rrset.rtype in SYNTHESIZED and (static is None or static.rdatas is not rrset.rdatas)
        return Part.MADE if made else Part.STATIC

    def _denied(self, response: Response, end: End, qtype: int, keys: ZoneKeys, now: float) -> Response:
        """The response with the SOA and the proof that the name has no such type, or does not exist. The SOA is signed
        with its own TTL, which its signature tells, and both have the lesser one of negative answers."""
        zone, proof = end.zone, self.denials.proof(end, qtype)
        soa, signature = self.with_signature(zone.nodes[zone.apex][Type.SOA], zone, keys, now)
        authority = [rrset._replace(ttl=zone.negative.ttl) for rrset in (soa, signature)]
        for rrset in proof.sets:
            authority += self.with_signature(rrset, zone, keys, now)
        rcode = Rcode.NOERROR if proof.compact and not response.compact_ok else response.rcode
        return replace(response, rcode=rcode, authority=tuple(authority))

    def _own(self, qtype: int, end: End, keys: ZoneKeys, now: float) -> Iterator[RRset]:
        """The answer to a query for NSEC, or for RRSIG, of which RFC 8482 section 4.1 lets us show one: that of the
        NSEC, with NSEC3 that of the first set. None where the name has no such record."""
        rrset = self.denials.at(end)
        if rrset is None and qtype == Type.RRSIG and end.zone.denial is DnssecDenial.NSEC3:
            rrset = next(iter(end.place.node.values()), None)
            rrset = rrset and rrset._replace(owner=end.name)
        if rrset is not None:
            yield from self.with_signature(rrset, end.zone, keys, now)[qtype == Type.RRSIG :]

    def _delegation(self, end: End, keys: ZoneKeys, now: float) -> Iterator[RRset]:
        """The DS of a secure delegation, or the proof that an insecure one has none."""
        rrset = end.place.node.get(Type.DS) or self.denials.delegation(end.zone, end.place)
        yield from self.with_signature(rrset, end.zone, keys, now)


def _signed_elsewhere(rrset: RRset, zone: CompiledZone, presigned: Presigned) -> Iterator[RRset]:
    """A set of an answer from a zone that is served as it was signed, and its signatures: those of the wildcard that
    gave it, which say so by their number of labels (RFC 4035 section 5.3.4)."""
    yield rrset
    signature = presigned.signatures.get((_source(zone, lowered(rrset.owner)), rrset.rtype))
    if signature is not None:
        yield signature._replace(owner=rrset.owner)


def _source(zone: CompiledZone, name: Labels) -> Labels:
    """The name of a zone that answers for a name: itself, or a wildcard."""
    if name in zone.nodes:
        return name
    above = ((WILD, *name[up:]) for up in range(1, len(name) - len(zone.apex) + 1))
    return next((wild for wild in above if wild in zone.nodes), name)


def _expansions(found: Resolution) -> Iterator[RRset]:
    """That the names which wildcards gave the sets of do not exist themselves (RFC 4035 section 3.1.3.3)."""
    for rrset, zone in zip(found.response.answer, found.zones, strict=True):
        if zone is not None and zone.presigned is not None and zone.presigned.proofs is not None:
            name = lowered(rrset.owner)
            source = _source(zone, name)
            if source != name:
                yield from zone.presigned.signed(zone.presigned.proofs.expanded(name, source[1:]))


def _as_it_is(response: Response, found: LookupResult, end: End, presigned: Presigned) -> Response:
    """The end of an answer from a zone that is served as it was signed: its proofs, and signatures of the rest."""
    zone, place, name = end
    key, proofs = lowered(name), presigned.proofs
    sets: list[RRset] = []
    if found is LookupResult.REFERRAL:
        secure = place.node.get(Type.DS)
        sets += (secure,) if secure else proofs.lacking(place.key, place.key) if proofs else ()
        authority = (*response.authority, *presigned.signed(sets))
    elif found in _DENIED:
        soa = zone.nodes[zone.apex][Type.SOA]
        sets.append(soa)
        if proofs is not None:
            missing = place.kind is EndKind.MISSING
            sets += proofs.missing(key, place.key) if missing else proofs.lacking(key, place.key)
        ttl = zone.negative.ttl
        signed = [rrset._replace(ttl=min(rrset.ttl, ttl)) for rrset in presigned.signed(sets)]
        kept = [rrset for rrset in response.authority if rrset != zone.negative]
        authority = (*dict.fromkeys((*signed, *kept)),)
    else:
        authority = response.authority
    additional = _Signed(response.additional, presigned) if response.additional else ()
    return replace(response, authority=authority, additional=additional)


@dataclass(frozen=True, slots=True)
class _Signed:
    """Additional sets with the signatures that their zone has."""

    rrsets: Iterable[RRset]
    presigned: Presigned

    def __iter__(self) -> Iterator[RRset]:
        for rrset in self.rrsets:
            yield from self.presigned.signed((rrset,)) if rrset.rdatas else (rrset,)


@dataclass(frozen=True, slots=True)
class _Additional:
    """Additional sets with their signatures (RFC 4035 section 3.1.1), made as they are read: most answers with many do
    not get that far."""

    rrsets: Iterable[RRset]
    zone: CompiledZone
    keys: ZoneKeys
    signer: Signer
    now: float

    def __iter__(self) -> Iterator[RRset]:
        for rrset in self.rrsets:
            if rrset.rdatas and self.signer.is_authoritative(self.zone, rrset.owner):
                yield from self.signer.with_signature(rrset, self.zone, self.keys, self.now)
            else:
                yield rrset

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
from dnsvip.dns.dnssec.signatures import Part, Signatures
from dnsvip.dns.protocol.message import Query, Rcode, Response, RRset, Type
from dnsvip.dns.protocol.names import Labels, lowered
from dnsvip.dns.zones.denials import Denials
from dnsvip.dns.zones.lookup import SYNTHESIZED, End, LookupResult, Resolution, Zones, is_authoritative
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
        end = found.end
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
            if zone is None or zone.keys is None:
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

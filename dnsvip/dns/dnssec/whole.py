"""A zone signed as a whole, for secondaries that cannot sign as they answer: each set that is the zone's own with its
signatures, and the chain of NSEC over its names (RFC 4035 section 2).

Signatures are made as the records are taken, none is kept: a transfer costs as many as the zone has sets and names.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from dnsvip.dns.dnssec.chain import name_at, place_of
from dnsvip.dns.dnssec.denial import ALWAYS, nsec
from dnsvip.dns.dnssec.keys import ZoneKeys
from dnsvip.dns.dnssec.rrsig import rrsig
from dnsvip.dns.dnssec.signatures import BACKDATED
from dnsvip.dns.protocol.message import RRset, Type
from dnsvip.dns.protocol.names import Labels

VALID_SECONDS = 14 * 86400
"""That signatures in a transfer are valid for."""

_NOT_HERE = frozenset({Type.NSEC3PARAM})
"""What an apex has for proofs that the whole zone does not have."""


class WholeSigner(NamedTuple):
    """Signs what a zone has at each name, at `now` (unix seconds). `owners` are the places of the names with records
    that no delegation or DNAME hides, in order, the apex first; `ttl` is that of denials."""

    apex: Labels
    keys: ZoneKeys
    owners: Sequence[bytes]
    ttl: int
    now: float

    def signed(self, name: Labels, node: Mapping[int, RRset]) -> Iterator[RRset]:
        """The sets at a name (lower case) with signatures and NSEC; but the SOA itself, which frames a transfer."""
        place = place_of(name)
        at = bisect_left(self.owners, place)
        if at == len(self.owners) or self.owners[at] != place:
            yield from node.values()  # hidden: glue, for one
            return
        sets = dict(node)
        if name == self.apex:
            sets |= {rtype: rrset for rtype, rrset in self.keys.sets.items() if rtype not in _NOT_HERE}
        cut = name != self.apex and Type.NS in sets
        own = sets.keys() & {Type.DS} if cut else sets.keys()
        for rtype, rrset in sets.items():
            if rtype != Type.SOA:
                yield rrset
            if rtype in own:
                yield self._signature(rrset)
        types = ALWAYS | own | ({Type.NS} if cut else set())
        following = self.owners[at + 1] if at + 1 < len(self.owners) else self.owners[0]
        denial = nsec(name, name_at(following), types, self.ttl)
        yield denial
        yield self._signature(denial)

    def _signature(self, rrset: RRset) -> RRset:
        return rrsig(rrset, self.keys, int(self.now) - BACKDATED, int(self.now) + VALID_SECONDS)

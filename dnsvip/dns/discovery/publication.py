"""Which record sets of the site's zones say how its nodes are reached encrypted, and what of them is to be changed.

The sets at `_dns.NAME` (SVCB) and `_PORT._tcp.NAME`, `_PORT._udp.NAME` (TLSA) of a name that some node publishes are
all nodes' together, and nobody else's: a record that no node offers goes. A name that no node publishes any more keeps
what it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import dns.rdata
import dns.rdatatype

from dnsvip.dns.discovery.offers import Offer, merged
from dnsvip.dns.discovery.records import TTL, records_of
from dnsvip.dns.zones.content import content_of
from dnsvip.dns.zones.edit import Replacement
from dnsvip.dns.zones.record import labels_of
from dnsvip.dns.zones.zone import CompiledZone
from dnsvip.site import Zone
from dnsvip.site.references import closest


@dataclass(frozen=True, slots=True)
class Publication:
    """The sets that a zone shall have, by absolute owner and type, and why they cannot be put there, "" where they
    can."""

    zone: str
    sets: Mapping[tuple[str, str], tuple[str, ...]]
    fault: str = ""

    def differs(self, zone: CompiledZone) -> bool:
        """Whether a zone as it is served lacks them."""
        return any(_wires(key[1], contents) != _served(zone, *key) for key, contents in self.sets.items())

    @property
    def replacements(self) -> list[Replacement]:
        """What makes the zone have them."""
        return [
            Replacement(owner, rtype, TTL, tuple((content_of(_rdata(rtype, content)), False) for content in contents))
            for (owner, rtype), contents in self.sets.items()
        ]


def publications(offers: Iterable[Offer], zones: Mapping[str, Zone]) -> Iterator[Publication]:
    """By zone what the offers of all nodes ask for; names outside of the site's zones are others' to publish."""
    by_zone: dict[str, dict[tuple[str, str], list[str]]] = {}
    together = merged(offers)
    inside = {offer.name: closest(offer.name, zones) for offer in together}
    for record in records_of(offer for offer in together if inside[offer.name] is not None):
        name = closest(record.owner.rstrip("."), zones)
        if name is not None:
            by_zone.setdefault(name, {}).setdefault((record.owner, record.rtype), []).append(record.content)
    for name, sets in by_zone.items():
        yield Publication(name, {key: tuple(contents) for key, contents in sets.items()}, _fault(zones[name]))


def _fault(zone: Zone) -> str:
    if zone.is_derived:
        return "SVCB and TLSA records of encrypted DNS cannot be published in it: its records come from elsewhere"
    return ""


def _wires(rtype: str, contents: Iterable[str]) -> set[bytes]:
    return {bytes(_rdata(rtype, content).to_wire() or b"") for content in contents}


def _rdata(rtype: str, content: str) -> dns.rdata.Rdata:
    return dns.rdata.from_text("IN", rtype, content)


def _served(zone: CompiledZone, owner: str, rtype: str) -> set[bytes]:
    rrset = zone.nodes.get(labels_of(owner), {}).get(int(dns.rdatatype.from_text(rtype)))
    return {piece for rdata in rrset.rdatas for piece in rdata if isinstance(piece, bytes)} if rrset else set()

"""`_dns.resolver.arpa` (RFC 9462): where a client that has only a server's address finds its encrypted listeners.

The name is everybody's own: each server answers it for itself, from its own listeners, as a zone that no site has. It
is unsigned, never transferred, and a zone `resolver.arpa` of the site goes before it. A client believes the answer
where the certificate is for the address that it asked, too (section 4.2).
"""

from __future__ import annotations

from collections.abc import Iterable

from dnsvip.dns.discovery.offers import Offer, offers_of
from dnsvip.dns.discovery.records import TTL, svcb
from dnsvip.dns.zones.zone import CompiledZone, compile_zone
from dnsvip.site import Zone
from dnsvip.site.node_listen import Listener

NAME = "resolver.arpa"


def local_zone(listeners: Iterable[Listener]) -> CompiledZone | None:
    """The zone of a server's own listeners; None where it has no encrypted one with a name."""
    offers = offers_of(listeners, None)
    first = next((offer.name for offer in offers), None)
    if first is None:
        return None
    return compile_zone(Zone(NAME, zone_text([offer for offer in offers if offer.name == first])))


def zone_text(offers: Iterable[Offer]) -> str:
    """The zone's text, with the SOA and NS of one that is served locally (RFC 6303 section 3)."""
    head = f"$ORIGIN {NAME}.\n$TTL {TTL}\n@ SOA @ nobody.invalid. 1 3600 1200 604800 {TTL}\n@ NS @\n"
    return head + "".join(f"_dns SVCB {content}\n" for content in svcb(offers))

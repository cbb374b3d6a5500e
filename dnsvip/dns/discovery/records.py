"""The records that say how a server is reached encrypted: SVCB at `_dns.NAME` (RFC 9461), and TLSA (RFC 6698, RFC 7671)
of its certificates' keys, DANE-EE by SHA-256 of the key, so that a certificate renewed for the same key changes none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from dnsvip.dns.discovery.offers import UDP, Offer

TTL = 300
"""Seconds; a new key is believed everywhere that long after it was published."""

TLSA_FORM = "3 1 1"
"""Usage DANE-EE, selector SPKI, matching type SHA-256."""


class Published(NamedTuple):
    """One record: its absolute owner, its type and its content."""

    owner: str
    rtype: str
    content: str


def records_of(offers: Iterable[Offer]) -> list[Published]:
    """The records of offers, each once."""
    return list(dict.fromkeys(record for offer in by_priority(offers) for record in _of(*offer)))


def svcb(offers: Iterable[Offer]) -> list[str]:
    """The contents of SVCB records of offers, the first the best."""
    return [_svcb(priority, offer) for priority, offer in by_priority(offers)]


def parameters(offer: Offer) -> str:
    """The parameters of an offer without addresses, as zone files have them."""
    path = f' dohpath="{offer.path}"' if offer.path else ""
    return f'alpn="{",".join(offer.protocols)}" port={offer.port}{path}'


def by_priority(offers: Iterable[Offer]) -> Iterator[tuple[int, Offer]]:
    """Offers with their priority for each name: DNS over TLS and QUIC, which carry nothing but DNS, before HTTPS."""
    counts: dict[str, int] = {}
    for offer in sorted(offers, key=lambda offer: (offer.name, bool(offer.path), offer.port)):
        counts[offer.name] = counts.get(offer.name, 0) + 1
        yield counts[offer.name], offer


def _svcb(priority: int, offer: Offer) -> str:
    words = [f"{priority} {offer.name}. {parameters(offer)}"]
    for key, version in (("ipv4hint", 4), ("ipv6hint", 6)):
        if hints := [str(address) for address in offer.addresses if address.version == version]:
            words.append(f'{key}="{",".join(hints)}"')
    return " ".join(words)


def _of(priority: int, offer: Offer) -> Iterator[Published]:
    yield Published(f"_dns.{offer.name}.", "SVCB", _svcb(priority, offer))
    for protocol in sorted({"udp" if protocol in UDP else "tcp" for protocol in offer.protocols}):
        for key in offer.keys:
            yield Published(f"_{offer.port}._{protocol}.{offer.name}.", "TLSA", f"{TLSA_FORM} {key}")

"""Replies that need no look-up: NOTIFY, UPDATE, the server's identity, and extended errors.

Pure: of zones only their names are used. Transfers are in `transfer`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from dnsvip.dns.identity.arrival import Transport
from dnsvip.dns.protocol.message import Edns, Opcode, Query, Rcode, Response, RRset, Type
from dnsvip.dns.protocol.names import Labels
from dnsvip.dns.protocol.padding import KEEPALIVE, keepalive, wants
from dnsvip.dns.reply import DnsOutcome
from dnsvip.dns.zones.catalog import labels_or_split
from dnsvip.dns.zones.places import Zones
from dnsvip.site import Zone, parse_endpoint
from dnsvip.site.values import TLS

CHAOS = 3
"""The class of queries about the server itself (RFC 4892)."""

NSID, EDE = 3, 15
"""EDNS options of RFC 5001 and RFC 8914."""

OTHER_ERROR, LONGEST_WHY = 0, 200
"""The extended error that is only a text, and the bytes of one."""


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """What this server discloses about itself; None: nothing, and the query is refused or the option ignored."""

    identity: str | None = None
    version: str | None = None
    nsid: str | None = None
    idle: float | None = None
    """Seconds that a connection may be idle, as `[dns.tcp]` has them."""


def notice(zones: Zones, query: Query) -> tuple[DnsOutcome, Response]:
    """The answer to NOTIFY (RFC 1996), and to UPDATE (RFC 2136 section 3.1) where none is made: REFUSED for our zones;
    NOTAUTH for others; FORMERR where no zone is named."""
    outcome = _NOTICES[query.opcode]
    if query.qtype != Type.SOA:
        return outcome, Response(Rcode.FORMERR)
    return outcome, Response(Rcode.REFUSED if query.key in zones.by_apex else Rcode.NOTAUTH)


def primaries_of(zones: Iterable[Zone]) -> dict[Labels, Primaries]:
    """The secondary zones by apex."""
    return {
        labels_or_split(zone.name): Primaries(
            frozenset(
                ip_address(parse_endpoint(text.removeprefix(TLS).partition("#")[0])[0]) for text in zone.primaries
            ),
            zone.primaries_tsig,
        )
        for zone in zones
        if zone.is_secondary
    }


@dataclass(frozen=True, slots=True)
class Primaries:
    """From where NOTIFY for a secondary zone is taken, and the key that it must be signed with."""

    addresses: frozenset[IPv4Address | IPv6Address]
    tsig: str | None

    def may_notify(self, source: IPv4Address | IPv6Address, key_name: str | None) -> bool:
        """Whether NOTIFY from there, signed with that key, counts (RFC 1996 section 3.10)."""
        return source in self.addresses and self.tsig in (None, key_name)


_NOTICES: Mapping[int, DnsOutcome] = {Opcode.NOTIFY: DnsOutcome.NOTIFY, Opcode.UPDATE: DnsOutcome.UPDATE}


def introduction(identity: ServerIdentity, query: Query) -> tuple[DnsOutcome, Response]:
    """The answer to class CHAOS: the configured text for a name of RFC 4892 or BIND, else REFUSED."""
    name = _NAMES.get(query.key)
    text = getattr(identity, name) if name and query.qtype in (Type.TXT, Type.ANY) else None
    if text is None:
        return DnsOutcome.CLASS, Response(Rcode.REFUSED)
    data = text.encode()
    record = RRset(query.qname, Type.TXT, 0, ((bytes([len(data)]) + data,),))
    return DnsOutcome.IDENTITY, Response(aa=True, answer=(record,))


_NAMES: Mapping[Labels, str] = {
    (b"version", b"bind"): "version",
    (b"version", b"server"): "version",
    (b"hostname", b"bind"): "identity",
    (b"id", b"server"): "identity",
}


def options(
    identity: ServerIdentity,
    edns: Edns,
    outcome: DnsOutcome,
    rcode: int,
    why: str = "",
    transport: Transport = Transport.UDP,
) -> tuple[tuple[int, bytes], ...]:
    """The EDNS options of an answer: NSID where requested and configured, the extended error, `why` its text, and how
    long the connection may be idle, where it is one of DNS alone (RFC 7828 section 3.2)."""
    asked = identity.nsid is not None and any(code == NSID for code, _ in edns.options)
    own = [(NSID, (identity.nsid or "").encode())] if asked else []
    if edns.options and transport in _KEPT and identity.idle is not None and wants(edns, KEEPALIVE):
        own.append(keepalive(identity.idle))
    info = EXTENDED_ERRORS.get((outcome, rcode), OTHER_ERROR if why else None)
    text = why.encode()[:LONGEST_WHY]
    return (*own, *([(EDE, info.to_bytes(2, "big") + text)] if info is not None else []))


_KEPT = frozenset((Transport.TCP, Transport.TLS))

EXTENDED_ERRORS: Mapping[tuple[DnsOutcome, int], int] = {
    (DnsOutcome.NO_ZONE, Rcode.REFUSED): 20,
    (DnsOutcome.CLASS, Rcode.REFUSED): 20,
    (DnsOutcome.NOTIFY, Rcode.NOTAUTH): 20,
    (DnsOutcome.UPDATE, Rcode.NOTAUTH): 20,
    (DnsOutcome.TRANSFER, Rcode.NOTAUTH): 20,
    (DnsOutcome.NOTIFY, Rcode.REFUSED): 18,
    (DnsOutcome.UPDATE, Rcode.REFUSED): 18,
    (DnsOutcome.TRANSFER, Rcode.REFUSED): 18,
    (DnsOutcome.STRANGER, Rcode.REFUSED): 18,
    (DnsOutcome.BROKEN_ZONE, Rcode.SERVFAIL): 24,
    (DnsOutcome.META_TYPE, Rcode.NOTIMP): 21,
    (DnsOutcome.META_TYPE, Rcode.FORMERR): 30,
}
"""RFC 8914 section 4: 18 Prohibited, 20 Not Authoritative, 21 Not Supported, 24 Invalid Data; RFC 9824: 30 Invalid
Query Type."""

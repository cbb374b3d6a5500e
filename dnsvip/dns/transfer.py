"""Zone transfers: AXFR (RFC 5936), and IXFR (RFC 1995) from the journal, by AXFR where that does not reach back.

A service appears with the plain VIP and the plain IPv4 address. A zone that is signed here is transferred unsigned, or
with `transfer.signed` whole and signed, as the journal has no signatures. Messages are built while the peer takes them,
and in steps, so a large zone costs no more memory and no longer turns than a small one. Every name keeps its case (RFC
5936 section 3.4).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from types import MappingProxyType

from dnsvip.dns.dnssec.chain import own_names, place_of
from dnsvip.dns.dnssec.whole import WholeSigner
from dnsvip.dns.identity.arrival import Transport
from dnsvip.dns.identity.identify import Requester
from dnsvip.dns.protocol.builder import STEP, steps
from dnsvip.dns.protocol.message import IN, MAX_SIZE, Opcode, Query, Rcode, Response, RRset, Type
from dnsvip.dns.protocol.names import Labels, lowered, name_length
from dnsvip.dns.reply import DnsOutcome
from dnsvip.dns.zones.catalog import labels_or_split
from dnsvip.dns.zones.delta import records_of
from dnsvip.dns.zones.places import Zones, is_authoritative
from dnsvip.dns.zones.zone import CompiledZone, serial_of
from dnsvip.site import ClassCluster, Service, Site, Transfer, Zone
from dnsvip.site.client_certificates import bound_in
from dnsvip.site.values import FINGERPRINT
from dnsvip.site.zone_changes import HALF, MODULUS, ZoneChange, chained, digest_of, since

MESSAGE_SIZE = 16_000
"""Bytes of the records of one message before compression: all within reach of a compression pointer."""

_RECORD_HEAD = 10


@dataclass(frozen=True, slots=True)
class TransferResponse:
    """The reply to a transfer query: `response`, and for a whole zone the records that `messages` packs."""

    outcome: DnsOutcome
    response: Response
    records: Iterator[RRset] | None = None


class Transfers:
    """Who may transfer which zone of a site, and what is in it. `apexes` has the zones that have a place in it, and
    `journals` how zones changed, by name; `digests` those of texts that are known, as a large one takes long."""

    def __init__(
        self,
        site: Site,
        zones: Zones,
        apexes: Mapping[str, Labels],
        journals: Mapping[str, tuple[ZoneChange, ...]] = MappingProxyType({}),
        digests: Mapping[Labels, str] = MappingProxyType({}),
    ) -> None:
        self._digests = digests
        self._zones = zones
        self._journals: Mapping[Labels, tuple[Zone, tuple[ZoneChange, ...]]] = {
            apex: (site.zones[name], journals[name]) for name, apex in apexes.items() if name in journals
        }
        self._digested = frozenset(apex for name, apex in apexes.items() if site.zones[name].zonemd)
        self._signed = frozenset(apex for name, apex in apexes.items() if site.zones[name].sends_signed)
        self._chains: dict[Labels, tuple[ZoneChange, ...]] = {}
        self._allowed: Mapping[Labels, Transfer] = {
            apex: transfer for name, apex in apexes.items() if (transfer := site.zones[name].transfer)
        }
        self._plain: Mapping[Labels, Mapping[int, RRset]] = {
            labels_or_split(name): _plain(service, site) for name, service in site.services.items()
        }
        self._beside: dict[Labels, list[RRset]] = {}
        """By apex the records of services whose names are not in their zones."""
        for name, plain in self._plain.items():
            apex = zones.apex_of(name)
            zone = None if apex is None else zones.by_apex[apex]
            if zone is not None and name not in zone.nodes:
                self._beside.setdefault(zone.apex, []).extend(plain.values())

    def decide(self, query: Query, requester: Requester, now: float) -> TransferResponse:
        """The answer to a question for AXFR or IXFR at `now` (unix seconds).

        NOTAUTH for a name that is not our zone, REFUSED for requesters without permission and for AXFR where an answer
        is one message, over UDP and HTTPS. IXFR is answered with what has changed since, or with the whole zone where
        the journal does not reach back; with the SOA alone where the requester is up to date, and where an answer is
        one message, so that it retries over TCP (RFC 1995, 2).
        """
        single = requester.transport.single
        zone = self._zones.by_apex.get(query.key)
        if query.key not in self._zones.by_apex:
            return TransferResponse(DnsOutcome.TRANSFER, Response(Rcode.NOTAUTH))
        if not self._may(query.key, requester) or (query.qtype == Type.AXFR and single):
            return TransferResponse(DnsOutcome.TRANSFER, Response(Rcode.REFUSED))
        if zone is None:
            return TransferResponse(DnsOutcome.BROKEN_ZONE, Response(Rcode.SERVFAIL))
        if query.qtype == Type.IXFR:
            if query.serial is None:
                return TransferResponse(DnsOutcome.TRANSFER, Response(Rcode.FORMERR))
            if single or (query.serial - serial_of(zone)) % MODULUS < HALF:
                soa = zone.nodes[zone.apex][Type.SOA]
                return TransferResponse(DnsOutcome.TRANSFERRED, Response(aa=True, answer=(soa,)))
            if changes := self._since(zone.apex, query.serial):
                return TransferResponse(DnsOutcome.TRANSFERRED, Response(aa=True), self._differences(zone, changes))
        return TransferResponse(DnsOutcome.TRANSFERRED, Response(aa=True), self._whole(zone, now))

    def _may(self, apex: Labels, requester: Requester) -> bool:
        allowed, source = self._allowed.get(apex), requester.source
        if allowed is None or (allowed.tls and requester.transport not in _PRIVATE):
            return False
        known = allowed.tsig is None or allowed.tsig == requester.tsig
        if allowed.certificates and not frozenset(allowed.certificates) & frozenset(_named(requester.tls)):
            return False
        near = not allowed.to or any(source.version == net.version and source in net for net in allowed.to)
        return known and near

    def made(self, apex: Labels) -> tuple[RRset, ...]:
        """The records of services that a transfer of the zone has."""
        inside = (plain for name, plain in self._plain.items() if self._zones.apex_of(name) == apex)
        return tuple(rrset for plain in inside for rrset in plain.values())

    def _since(self, apex: Labels, serial: int) -> Sequence[ZoneChange] | None:
        """The changes that a secondary with this serial lacks; None where the journal cannot tell."""
        zone, journal = self._journals.get(apex, (None, ()))
        if zone is None or apex in self._digested | self._signed:  # the journal has only what the zone's text has
            return None
        known = self._chains.get(apex)
        if known is None:
            known = self._chains[apex] = chained(journal, self._digests.get(apex) or digest_of(zone.text))
        return since(known, serial, len(zone.text))

    def _differences(self, zone: CompiledZone, changes: Iterable[ZoneChange]) -> Iterator[RRset]:
        """The difference sequences between the newest SOA (RFC 1995 section 4), without what services hide."""
        soa = zone.nodes[zone.apex][Type.SOA]
        yield soa
        for change in changes:
            for record in chain(records_of(change.removed), records_of(change.added)):
                if record.rtype not in self._plain.get(lowered(record.owner), _NONE):
                    yield record
        yield soa

    def _whole(self, zone: CompiledZone, now: float) -> Iterator[RRset]:
        """All record sets as the zone is transferred, the SOA first and last (RFC 5936 section 2.2)."""
        if zone.keys is None or zone.apex not in self._signed:
            yield from self.records(zone)
            return
        soa = zone.nodes[zone.apex][Type.SOA]
        signer = WholeSigner(zone.apex, zone.keys, self._owners(zone), zone.negative.ttl, now)
        yield soa
        for name, node in zone.nodes.items():
            yield from signer.signed(name, _with(node, self._plain.get(name, _NONE)))
        for name in {rrset.owner: None for rrset in self._beside.get(zone.apex, ())}:
            yield from signer.signed(lowered(name), self._plain[lowered(name)])
        yield soa

    def _owners(self, zone: CompiledZone) -> Sequence[bytes]:
        """The places of the names that are the zone's own, with those of services, in order."""
        own = own_names(zone.apex, zone.nodes) if zone.own_names is None else zone.own_names
        beside = {lowered(rrset.owner) for rrset in self._beside.get(zone.apex, ())}
        more = [place_of(name) for name in beside if is_authoritative(self._zones, zone, name)]
        return sorted([*own, *more]) if more else own

    def records(self, zone: CompiledZone) -> Iterator[RRset]:
        """All record sets, unsigned where they are signed here, the SOA first and last."""
        soa = zone.nodes[zone.apex][Type.SOA]
        yield soa
        presigned, left_out = zone.presigned, {Type.SOA}
        if presigned is not None:
            left_out.add(Type.RRSIG)
        for name, node in chain(zone.nodes.items(), presigned.hidden.items() if presigned else ()):
            plain = self._plain.get(name, _NONE)
            yield from (rrset for rtype, rrset in node.items() if rtype not in plain and rtype not in left_out)
            yield from plain.values()
        if presigned is not None:
            yield from presigned.signatures.values()
        yield from self._beside.get(zone.apex, ())
        yield soa


_NONE: Mapping[int, RRset] = {}

_PRIVATE = frozenset((Transport.TLS, Transport.QUIC))
"""Transports of transfers that nobody on the path can read (RFC 9103, RFC 9250)."""


def _with(node: Mapping[int, RRset], plain: Mapping[int, RRset]) -> Mapping[int, RRset]:
    """What a name has with the addresses of its service, which hide an alias."""
    return {**{rtype: rrset for rtype, rrset in node.items() if rtype != Type.CNAME}, **plain} if plain else node


def _plain(service: Service, site: Site) -> Mapping[int, RRset]:
    """The addresses of a service as an anonymous client gets them from a cluster with `anonymous = "plain"`."""
    owner = labels_or_split(service.name)
    addresses = {}
    for rtype, name in ((Type.AAAA, service.cluster), (Type.A, service.cluster4)):
        cluster = site.clusters.get(name) if name else None
        if cluster is not None and isinstance(cluster, ClassCluster) is (rtype == Type.A):
            addresses[int(rtype)] = RRset(owner, rtype, cluster.ttl, ((cluster.plain.packed,),))
    return addresses


def messages(query: Query, records: Iterable[RRset]) -> Iterator[bytes]:
    """A transfer's messages, unsigned; only the first has an OPT record (RFC 5936 section 2.2.5). Pauses, after STEP
    records each, are empty messages."""
    answer: list[RRset] = []
    size = 0
    for number, record in enumerate(_single(records), 1):
        more = name_length(record.owner) + _RECORD_HEAD + _length(record)
        if answer and size + more > MESSAGE_SIZE:
            yield from _built(query, answer)
            query, answer, size = replace(query, edns=None), [], 0
        answer.append(record)
        size += more
        if number % STEP == 0:
            yield b""
    yield from _built(query, answer)


def _built(query: Query, answer: Sequence[RRset]) -> Iterator[bytes]:
    """One message, after its pauses."""
    building = steps(query, Response(aa=True, answer=tuple(answer)), MAX_SIZE, exact=True)
    while True:
        try:
            next(building)
        except StopIteration as end:
            yield end.value.wire
            return
        yield b""


def _single(records: Iterable[RRset]) -> Iterator[RRset]:
    for rrset in records:
        for rdata in rrset.rdatas:
            yield rrset._replace(rdatas=(rdata,))


def _length(record: RRset) -> int:
    return sum(len(piece) if isinstance(piece, bytes) else name_length(piece) for piece in record.rdatas[0])


def asks_for_all(query: Query) -> bool:
    """Whether a query is for a whole zone."""
    return query.qtype in (Type.AXFR, Type.IXFR) and query.qclass == IN and query.opcode == Opcode.QUERY


def _named(names: Sequence[str]) -> Sequence[str]:
    """By what a certificate may be a secondary's. One of the site's own authority is a client's, and anybody who may
    write a client could call it as the secondary: it is one by its fingerprint alone."""
    return names if bound_in(names) is None else [name for name in names if name.startswith(FINGERPRINT)]

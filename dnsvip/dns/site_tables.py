"""What the engine reads of one snapshot, compiled; and what stands in for an object that makes that raise.

A client is then treated as disabled: as far as its matches can be read they identify nobody else either. A service gets
SERVFAIL, as do all services of a cluster; the clients of a tier get the plain VIP; a key is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from dnsvip.dns.dnssec.keys import ZoneKeys
from dnsvip.dns.identity.identify import Classifier, Geo
from dnsvip.dns.identity.tokens import TokenTable
from dnsvip.dns.protocol.message import RRset
from dnsvip.dns.protocol.names import Labels
from dnsvip.dns.protocol.tsig import TsigKeys
from dnsvip.dns.synthesis.own import own_names
from dnsvip.dns.synthesis.synthesizer import SynthesisTables
from dnsvip.dns.synthesis.vip import VipMaker
from dnsvip.dns.transfer import Transfers
from dnsvip.dns.zones.catalog import ZoneEntry, labels_or_split, zones_of
from dnsvip.dns.zones.digest import with_digest
from dnsvip.dns.zones.places import Zones
from dnsvip.dns.zones.zone import CompiledZone
from dnsvip.errors import ObjectError, SecretError
from dnsvip.site import Client, ClientState, Dnssec, Service, SessionFrom, Site, Snapshot, Zone, ZoneKey
from dnsvip.site.identity.claims import is_readable
from dnsvip.site.isolation import StandIns
from dnsvip.site.session_rules import session_labels, session_services
from dnsvip.site.zone_keys import signs_keys


def session_bases(site: Site) -> frozenset[Labels]:
    """The names whose labels below name sessions, also of services that cannot be served."""
    labelled = (service for service in site.services.values() if service.session is SessionFrom.LABEL)
    return frozenset(labels_or_split(service.name)[1:] for service in labelled)


class CompiledSite(NamedTuple):
    """The parts of a snapshot that answer."""

    zones: Zones
    tables: SynthesisTables
    tsig: TsigKeys
    tokens: TokenTable
    transfers: Transfers
    update_keys: Mapping[Labels, UpdateKeys]
    signed: Mapping[Labels, SignedZone]
    digested: Mapping[Labels, DigestedZone]


class UpdateKeys(NamedTuple):
    """A zone's name, and the TSIG keys that may update it."""

    zone: str
    keys: frozenset[str]


class DigestedZone(NamedTuple):
    """A zone with its ZONEMD, and what it was made from: the zone, and the records of services in it."""

    zone: CompiledZone
    bare: CompiledZone
    made: tuple[RRset, ...]


class SignedZone(NamedTuple):
    """A zone with the keys that sign it, and what it was made from."""

    zone: CompiledZone
    unsigned: CompiledZone
    held: tuple[ZoneKey, ...]
    dnssec: Dnssec


def compile_site(
    snapshot: Snapshot,
    entries: Mapping[str, ZoneEntry],
    before: CompiledSite | None,
    geo: Geo | None,
    listener_tiers: Mapping[str, str],
    local: CompiledZone | None = None,
) -> CompiledSite:
    """The parts; what has not changed is taken from `before`. A zone whose text is not that of its entry is broken. The
    zone `local` is the node's own, and gives way to one of the site."""
    site = snapshot.site
    services = {labels_or_split(name): service for name, service in site.services.items()}
    apexes = {name: apex for name in site.zones if (apex := entries[name].apex) is not None}
    readable = {apex for name, apex in apexes.items() if site.zones[name].text == entries[name].text}
    served = {apex: entries[name].zone if apex in readable else None for name, apex in apexes.items()}
    names = services | dict(own_names(services, site.clusters))
    digested = _digested(site, apexes, served, names, before.digested if before else {})
    served |= {apex: digested_zone.zone for apex, digested_zone in digested.items()}
    signed = _signed(snapshot, apexes, served, before.signed if before else {})
    served |= {apex: signed_zone.zone for apex, signed_zone in signed.items()}
    if local is not None:
        served.setdefault(local.apex, local)
    sessions = {labels_or_split(s.name): session_labels(snapshot, s, cluster) for s, cluster in session_services(site)}
    zones = zones_of(served, names, before.zones if before else None, sessions)
    classifier = Classifier(snapshot, before.tables.classifier if before else None, geo, listener_tiers)
    tables = SynthesisTables(services, classifier, VipMaker(snapshot))
    tokens = TokenTable(site.dns_tokens, before.tokens if before else None)
    digests = {apex: digest for name, apex in apexes.items() if (digest := entries[name].digest) is not None}
    tsig, transfers = TsigKeys(site.tsig_keys.values()), Transfers(site, zones, apexes, snapshot.journals, digests)
    update_keys = {
        apex: UpdateKeys(name, frozenset(rule.tsig for rule in rules))
        for name, apex in apexes.items()
        if (rules := site.zones[name].update)
    }
    return CompiledSite(zones, tables, tsig, tokens, transfers, update_keys, signed, digested)


def _digested(
    site: Site,
    apexes: Mapping[str, Labels],
    served: Mapping[Labels, CompiledZone | None],
    names: Mapping[Labels, Service],
    before: Mapping[Labels, DigestedZone],
) -> dict[Labels, DigestedZone]:
    """The zones with `zonemd`; those of `before` stay the same objects. One that was signed elsewhere stays as it is:
    its signatures would not fit."""
    wanted = [apex for name, apex in apexes.items() if site.zones[name].zonemd]
    if not wanted:
        return {}
    transfers = Transfers(site, zones_of(served, names), apexes)
    digested: dict[Labels, DigestedZone] = {}
    for apex in wanted:
        zone, made, known = served[apex], transfers.made(apex), before.get(apex)
        if zone is None or zone.presigned is not None:
            continue
        if known is not None and known.bare is zone and known.made == made:
            digested[apex] = known
        else:
            digested[apex] = DigestedZone(with_digest(zone, transfers.records(zone)), zone, made)
    return digested


def _signed(
    snapshot: Snapshot,
    apexes: Mapping[str, Labels],
    served: Mapping[Labels, CompiledZone | None],
    before: Mapping[Labels, SignedZone],
) -> dict[Labels, SignedZone]:
    """The zones that are signed; those of `before` stay the same objects. One without a key that can be used raises
    ObjectError, and is then not served: unsigned it would be bogus under the DS at its parent."""
    signed: dict[Labels, SignedZone] = {}
    for name, apex in apexes.items():
        zone, dnssec = served[apex], snapshot.site.zones[name].dnssec
        if zone is None or dnssec is None or not dnssec.enabled:
            continue
        held = snapshot.zone_keys.get(name, ())
        known = before.get(apex)
        if known is not None and known.unsigned is zone and (known.held, known.dnssec) == (held, dnssec):
            signed[apex] = known
            continue
        if not signs_keys(held):
            raise ObjectError(f"zone.{name}", SecretError("is signed, and none of its keys can be used"))
        try:
            keys = ZoneKeys.of(apex, held, dnssec)
        except Exception as error:
            raise ObjectError(f"zone.{name}", error) from error
        signed[apex] = SignedZone(replace(zone, keys=keys, denial=dnssec.denial), zone, held, dnssec)
    return signed


def _idle(client: Client) -> Iterator[Client]:
    yield replace(client, state=ClientState.DISABLED)
    yield replace(client, state=ClientState.DISABLED, match=tuple(filter(is_readable, client.match)))


STAND_INS: StandIns = {
    "cluster": lambda _: (),
    "tier": lambda _: (),
    "tsig": lambda _: (),
    "dns_token": lambda _: (),
    "zone": lambda zone: (Zone(zone.name, ""),),
    "service": lambda service: (Service(service.name, ""),),
    "client": _idle,
}

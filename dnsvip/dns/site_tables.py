"""What the engine reads of one snapshot, compiled; and what stands in for an object that makes that raise.

A client is then treated as disabled: as far as its matches can be read they identify nobody else either. A service gets
SERVFAIL, as do all services of a cluster; the clients of a tier get the plain VIP; a key is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from dnsvip.dns.identity.claims import parse_network
from dnsvip.dns.identity.identify import Classifier, Geo
from dnsvip.dns.protocol.tsig import TsigKeys
from dnsvip.dns.synthesis.synthesizer import SynthesisTables
from dnsvip.dns.synthesis.vip import VipMaker
from dnsvip.dns.transfer import Transfers
from dnsvip.dns.zones.catalog import ZoneEntry, labels_or_split, zones_of
from dnsvip.dns.zones.lookup import Zones
from dnsvip.site import Client, ClientState, Match, Service, Snapshot, Step, Zone
from dnsvip.site.isolation import StandIns


class CompiledSite(NamedTuple):
    """The parts of a snapshot that answer."""

    zones: Zones
    tables: SynthesisTables
    tsig: TsigKeys
    transfers: Transfers


def compile_site(
    snapshot: Snapshot, entries: Mapping[str, ZoneEntry], before: CompiledSite | None, geo: Geo | None
) -> CompiledSite:
    """The parts; what has not changed is taken from `before`. A zone whose text is not that of its entry is broken."""
    site = snapshot.site
    services = {labels_or_split(name): service for name, service in site.services.items()}
    apexes = {name: apex for name in site.zones if (apex := entries[name].apex) is not None}
    readable = {apex for name, apex in apexes.items() if site.zones[name].text == entries[name].text}
    served = {apex: entries[name].zone if apex in readable else None for name, apex in apexes.items()}
    zones = zones_of(served, services, before.zones if before else None)
    classifier = Classifier(snapshot, before.tables.classifier if before else None, geo)
    tables = SynthesisTables(services, classifier, VipMaker(snapshot))
    return CompiledSite(zones, tables, TsigKeys(site.tsig_keys.values()), Transfers(site, zones, apexes))


def _idle(client: Client) -> Iterator[Client]:
    yield replace(client, state=ClientState.DISABLED)
    yield replace(client, state=ClientState.DISABLED, match=tuple(filter(_is_readable, client.match)))


def _is_readable(match: Match) -> bool:
    try:
        return match.step not in (Step.SOURCE, Step.ECS) or bool(parse_network(match.value))
    except Exception:  # noqa: BLE001 - what it raises is reported with its client
        return False


STAND_INS: StandIns = {
    "cluster": lambda _: (),
    "tier": lambda _: (),
    "tsig": lambda _: (),
    "zone": lambda zone: (Zone(zone.name, ""),),
    "service": lambda service: (Service(service.name, ""),),
    "client": _idle,
}

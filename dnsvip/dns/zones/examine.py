"""What there is to say of a zone before it is stored: why it cannot be served, and what of it never would be."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import dns.name

from dnsvip.dns.protocol.message import Type
from dnsvip.dns.protocol.names import Labels, lowered
from dnsvip.dns.zones.catalog import check_services
from dnsvip.dns.zones.include import Places
from dnsvip.dns.zones.record import WILD, Record, labels_of
from dnsvip.dns.zones.zonefile import read_zone
from dnsvip.errors import Problem
from dnsvip.site import Service, Site, Zone

ADDRESS_TYPES = {"A": 1, "AAAA": 28}


@dataclass(frozen=True, slots=True)
class Examined:
    """Problems that forbid the zone; where there are none, what is worth a warning."""

    problems: list[Problem]
    warnings: list[Problem]


def examined(zone: Zone, services: Mapping[str, Service]) -> Examined:
    """A zone and the services whose names are in it."""
    report = examined_alone(zone, services)
    problems = report.problems or check_services(Site(zones={zone.name: zone}, services=services))
    return Examined(problems, []) if problems else report


def examined_alone(zone: Zone, services: Mapping[str, Service], places: Places | None = None) -> Examined:
    """As `examined`, without a look whether queries reach the services; `places` as `read_zone`."""
    if zone.is_derived and not zone.text:
        return Examined([], [])
    apex, records, problems = read_zone(zone, places)
    if problems:
        return Examined(problems, [])
    return Examined([], [*_unserved(zone, records, services), *_lame(zone, apex, records, services)])


def service_problems(zone: Zone, service: str) -> list[Problem]:
    """Why no query could reach a service of that name, where its zone is this one."""
    return check_services(Site(zones={zone.name: zone}, services={service: Service(service, "")}))


def _unserved(zone: Zone, records: Sequence[Record], services: Mapping[str, Service]) -> list[Problem]:
    """What is said of address records at the names of services, which are never served."""
    there = {(record.key, record.rtype) for record in records} if services else set()
    synthesized = [(name, "AAAA") for name, service in services.items() if service.cluster is not None]
    synthesized += [(name, "A") for name, service in services.items() if service.cluster4]
    text = "its {} records in zone {} are not served: the service's addresses are made per client"
    return [
        Problem(f"service.{name}", text.format(rtype, zone.name), about=("service", name))
        for name, rtype in synthesized
        if (labels_of(name), ADDRESS_TYPES[rtype]) in there
    ]


def _lame(zone: Zone, apex: Labels, records: Sequence[Record], services: Iterable[str]) -> list[Problem]:
    """What is said of name servers of the zone that lie in it and have no address, so that none of them is asked."""
    addressed = {record.key for record in records if record.rtype in ADDRESS_TYPES.values()}
    addressed.update(map(labels_of, services))
    servers = [record for record in records if record.rtype == Type.NS and record.key == apex]
    targets = {lowered(cast("Any", record.rdata).target.labels[:-1]): record.line for record in servers}
    lacking = [name for name in targets if name not in addressed and name[len(name) - len(apex) :] == apex]
    if not lacking:
        return []
    names = {record.key[up:] for record in records for up in range(len(record.key) - len(apex) + 1)}
    return [
        Problem(
            f"zone.{zone.name}",
            f"line {targets[name]}: {dns.name.Name((*name, b'')).to_text()} is a name server of the zone and lies in it"
            " but has no A or AAAA record, so that nobody can ask it; add its addresses",
        )
        for name in lacking
        if _wildcard(name, names) not in addressed
    ]


def _wildcard(name: Labels, names: Container[Labels]) -> Labels:
    """The name whose records a name has: its own, or the wildcard's below its closest encloser (RFC 4592)."""
    if name in names:
        return name
    above = next((name[up:] for up in range(1, len(name)) if name[up:] in names), ())
    return (WILD, *above)

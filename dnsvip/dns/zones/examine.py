"""What there is to say of a zone before it is stored: why it cannot be served, and what of it never would be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dnsvip.dns.zones.catalog import check_services
from dnsvip.dns.zones.record import labels_of
from dnsvip.dns.zones.sets import read_sets
from dnsvip.dns.zones.zone import check_zone
from dnsvip.errors import InvalidSite, Problem
from dnsvip.site import Service, Site, Zone

ADDRESS_TYPES = {"A": 1, "AAAA": 28}


@dataclass(frozen=True, slots=True)
class Examined:
    """Problems that forbid the zone; where there are none, what is worth a warning."""

    problems: list[Problem]
    unserved: list[Problem]


def examined(zone: Zone, services: Mapping[str, Service]) -> Examined:
    """A zone and the services whose names are in it."""
    problems = check_zone(zone) or check_services(Site(zones={zone.name: zone}, services=services))
    return Examined(problems, [] if problems or not services else _unserved(zone, services))


def service_problems(zone: Zone, service: str) -> list[Problem]:
    """Why no query could reach a service of that name, where its zone is this one."""
    return check_services(Site(zones={zone.name: zone}, services={service: Service(service, "")}))


def _unserved(zone: Zone, services: Mapping[str, Service]) -> list[Problem]:
    """What is said of address records at the names of services, which are never served."""
    try:
        sets = read_sets(zone).sets
    except InvalidSite:  # only remarks, which the records of a checked zone do not need
        return []
    synthesized = [(name, "AAAA") for name, service in services.items() if service.cluster is not None]
    synthesized += [(name, "A") for name, service in services.items() if service.cluster4]
    text = "its {} records in zone {} are not served: the service's addresses are made per client"
    return [
        Problem(f"service.{name}", text.format(rtype, zone.name), about=("service", name))
        for name, rtype in synthesized
        if (labels_of(name), ADDRESS_TYPES[rtype]) in sets
    ]

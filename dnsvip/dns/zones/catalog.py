"""The zones of a whole site, compiled: unchanged ones are kept from one snapshot to the next.

A zone that does not compile, whatever it makes the compiler raise, keeps its place: queries for it get SERVFAIL, and
its problems are listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from dnsvip.address.session import SessionLabels
from dnsvip.dns.protocol.names import Labels
from dnsvip.dns.zones.places import Zones, obstacle
from dnsvip.dns.zones.record import labels_of
from dnsvip.dns.zones.zone import CompiledZone, compile_zone
from dnsvip.errors import Problem, ZoneError
from dnsvip.site import Service, Site, Zone
from dnsvip.site.isolation import fault_of
from dnsvip.site.zone_changes import digest_of


class ZoneEntry:
    """A zone's text and what it compiles to: the zone, or None and the problems. One whose `apex` cannot be told (None)
    has no place among the zones, so that queries for it are refused. `digest` is what the journal of a zone that is
    transferred knows its text by."""

    __slots__ = ("apex", "digest", "problems", "text", "zone")

    def __init__(self, zone: Zone) -> None:
        self.text = zone.text
        self.digest = digest_of(zone.text) if zone.transfer is not None else None
        self.apex: Labels | None = None
        self.zone: CompiledZone | None = None
        self.problems: list[Problem] = []
        try:
            self.apex = labels_or_split(zone.name)
            self.zone = compile_zone(zone)
        except ZoneError as error:
            self.problems = error.problems
        except Exception as error:  # noqa: BLE001 - a fault of ours costs this zone, not the others
            self.problems = [fault_of(f"zone.{zone.name}", error)]

    @classmethod
    def failed(cls, zone: Zone, why: str) -> ZoneEntry:
        """A zone that could not be compiled for a reason outside of it."""
        entry = cls.__new__(cls)
        entry.text, entry.apex, entry.zone = zone.text, labels_or_split(zone.name), None
        entry.problems, entry.digest = [Problem(f"zone.{zone.name}", why)], None
        return entry


def labels_or_split(name: str) -> Labels:
    """The labels of a name of the site; those between its dots where it cannot be read, so that it keeps its place."""
    try:
        return labels_of(name)
    except Exception:  # noqa: BLE001 - compiling the zone reports it; other objects go on
        return tuple(label for label in name.lower().encode().split(b".") if label)


def check_services(site: Site) -> list[Problem]:
    """Services that no query ever reaches, because their zone delegates, redirects or aliases their name."""
    zones = zones_of(by_apex(compile_zones(site, {})), {})
    obstacles = ((name, obstacle(zones, labels_of(name))) for name in site.services)
    return [
        Problem(f"service.{name}", f"no query can reach it: its zone {what}", about=("service", name))
        for name, what in obstacles
        if what
    ]


def compile_zones(site: Site, known: Mapping[str, ZoneEntry]) -> dict[str, ZoneEntry]:
    """Every zone of the site; those of `known` with the same text are kept."""
    kept = {name: known[name] for name, zone in site.zones.items() if name in known and known[name].text == zone.text}
    return {name: kept.get(name) or ZoneEntry(zone) for name, zone in site.zones.items()}


def by_apex(compiled: Mapping[str, ZoneEntry]) -> dict[Labels, CompiledZone | None]:
    """The zones that have a place, None for those that cannot be served."""
    return {entry.apex: entry.zone for entry in compiled.values() if entry.apex is not None}


def zones_of(
    zones: Mapping[Labels, CompiledZone | None],
    services: Mapping[Labels, Service],
    before: Zones | None = None,
    sessions: Mapping[Labels, SessionLabels] = MappingProxyType({}),
) -> Zones:
    """All zones and service names; `before` itself where nothing changed, so whatever derives from it stays valid."""
    bare = Zones(zones)
    if before and (before.services, before.sessions) == (services.keys(), sessions) and _same(before.by_apex, zones):
        return before
    above = frozenset(up for name in services for up in _between(name, bare.apex_of(name)))
    return Zones(zones, services.keys(), above, sessions)


def _same(one: Mapping[Labels, CompiledZone | None], other: Mapping[Labels, CompiledZone | None]) -> bool:
    return one.keys() == other.keys() and all(one[apex] is zone for apex, zone in other.items())


def _between(name: Labels, apex: Labels | None) -> Iterator[Labels]:
    """The names above `name` and below its zone's apex; they exist, if only as empty non-terminals."""
    for up in range(1, len(name) - len(apex or ())):
        yield name[up:]

"""The zones of a whole site, compiled: unchanged ones are kept from one snapshot to the next.

A zone that does not compile, whatever it makes the compiler raise, keeps its place: queries for it get SERVFAIL, and
its problems are listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dnsvip.dns.protocol.names import Labels
from dnsvip.dns.zones.lookup import Zones, obstacle
from dnsvip.dns.zones.record import labels_of
from dnsvip.dns.zones.zone import CompiledZone, compile_zone
from dnsvip.errors import Problem, ZoneError
from dnsvip.site import Service, Site, Zone


class ZoneEntry:
    """A zone's text and what it compiles to: the zone, or None and the problems."""

    __slots__ = ("apex", "problems", "text", "zone")

    def __init__(self, zone: Zone) -> None:
        self.text, self.apex = zone.text, labels_or_split(zone.name)
        self.zone: CompiledZone | None = None
        self.problems: list[Problem] = []
        try:
            self.zone = compile_zone(zone)
        except ZoneError as error:
            self.problems = error.problems
        except Exception as error:  # noqa: BLE001 - a fault of ours costs this zone, not the others
            self.problems = [fault(zone.name, error)]


def labels_or_split(name: str) -> Labels:
    """The labels of a name of the site; those between its dots where it cannot be read, so that it keeps its place."""
    try:
        return labels_of(name)
    except Exception:  # noqa: BLE001 - compiling the zone reports it; other objects go on
        return tuple(label for label in name.lower().encode().split(b".") if label)


def fault(zone: str, error: Exception) -> Problem:
    """A problem for an error that no zone should be able to raise."""
    return Problem(f"zone.{zone}", f"cannot be served for a fault of this program: {type(error).__name__}: {error}")


def check_services(site: Site) -> list[Problem]:
    """Services that no query ever reaches, because their zone delegates, redirects or aliases their name."""
    zones = zones_of(compile_zones(site, {}), {})
    obstacles = ((name, obstacle(zones, labels_of(name))) for name in site.services)
    return [Problem(f"service.{name}", f"no query can reach it: its zone {what}") for name, what in obstacles if what]


def compile_zones(site: Site, known: Mapping[str, ZoneEntry]) -> dict[str, ZoneEntry]:
    """Every zone of the site; those of `known` with the same text are kept."""
    kept = {name: known[name] for name, zone in site.zones.items() if name in known and known[name].text == zone.text}
    return {name: kept.get(name) or ZoneEntry(zone) for name, zone in site.zones.items()}


def zones_of(
    compiled: Mapping[str, ZoneEntry], services: Mapping[Labels, Service], before: Zones | None = None
) -> Zones:
    """All zones and service names; `before` itself where nothing changed, so whatever derives from it stays valid."""
    by_apex = {entry.apex: entry.zone for entry in compiled.values()}
    bare = Zones(by_apex)
    if before and before.services == services.keys() and _same(before.by_apex, by_apex):
        return before
    above = frozenset(up for name in services for up in _between(name, bare.apex_of(name)))
    return Zones(by_apex, services.keys(), above)


def _same(one: Mapping[Labels, CompiledZone | None], other: Mapping[Labels, CompiledZone | None]) -> bool:
    return one.keys() == other.keys() and all(one[apex] is zone for apex, zone in other.items())


def _between(name: Labels, apex: Labels | None) -> Iterator[Labels]:
    """The names above `name` and below its zone's apex; they exist, if only as empty non-terminals."""
    for up in range(1, len(name) - len(apex or ())):
        yield name[up:]

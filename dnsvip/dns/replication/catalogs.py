"""Catalog zones (RFC 9432): a zone whose records name other zones, for secondaries that shall have all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256

from dnsvip.dns.protocol.names import Labels, site_name
from dnsvip.dns.zones.zone import CompiledZone, serial_of
from dnsvip.errors import DnsvipError
from dnsvip.site import CatalogRole, Zone
from dnsvip.site.plan import Change
from dnsvip.site.references import closest
from dnsvip.site.values import DNS_LABEL
from dnsvip.site.zone_changes import MODULUS

VERSION = (b"\x012",)
"""The only version of the schema, as data of a TXT record (section 4.2.1)."""

MOST_MEMBERS = 10_000
"""Zones of one catalog."""

MOST_CHANGES, CHANGES_PER_SECOND, LEAST_CHANGES = 2 * MOST_MEMBERS, 1.0, 500
"""Zones that one catalog may make and remove at once, and how many more each second; where it wants more than are left
it waits until there are so many: each time all nodes take what has changed."""

_TXT, _PTR = 16, 12
_UNIQUE = 32


class CatalogError(DnsvipError):
    """A catalog zone that does not say what its members are: they stay as they are (section 5.1)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes that a catalog asks for, and what it asks for in vain."""

    changes: tuple[Change, ...]
    faults: tuple[str, ...] = ()


class Allowances:
    """How many zones each catalog may make and remove. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._levels: dict[str, tuple[float, float]] = {}

    def take(self, catalog: str, wanted: int, now: float) -> int:
        """Take what a catalog may change now of so many zones: 0 where it has to wait."""
        level, since = self._levels.get(catalog, (float(MOST_CHANGES), now))
        level = min(float(MOST_CHANGES), level + (now - since) * CHANGES_PER_SECOND)
        taken = min(wanted, int(level)) if level >= min(wanted, LEAST_CHANGES) else 0
        self._levels[catalog] = level - taken, now
        return taken


def members_of(zone: CompiledZone) -> list[str]:
    """The zones that a catalog names (section 4.1), by name. Raises CatalogError."""
    version = zone.nodes.get((b"version", *zone.apex), {}).get(_TXT)
    if version is None or version.rdatas != (VERSION,):
        raise CatalogError('has no version that is known here, which is TXT "2"')
    above = (b"zones", *zone.apex)
    members: dict[str, Labels] = {}
    for name, node in zone.nodes.items():
        if len(name) != len(above) + 1 or name[1:] != above or (rrset := node.get(_PTR)) is None:
            continue
        if len(rrset.rdatas) != 1:
            raise CatalogError(f"names several zones at {site_name(name)}")
        (target,) = rrset.rdatas[0]
        member = site_name(tuple(label.lower() for label in target if isinstance(label, bytes)))
        if member in members:
            raise CatalogError(f"names {member} twice")
        if len(members) == MOST_MEMBERS:  # at once: a primary may name a million
            raise CatalogError(f"names more than {MOST_MEMBERS} zones")
        members[member] = name
    return sorted(members)


def listed(zones: Iterable[Zone]) -> list[str]:
    """The zones that a catalog made here names: those that may be transferred, but for catalogs."""
    return sorted(
        zone.name for zone in zones if zone.transfer is not None and zone.catalog is None and zone.name != "."
    )


def catalog_text(name: str, members: Iterable[str], before: CompiledZone | None, now: float) -> str:
    """The text of a catalog with these members; its serial follows that of `before`. `now` is in unix seconds."""
    serial = int(now) % MODULUS if before is None else (serial_of(before) + 1) % MODULUS
    lines = [
        f"$ORIGIN {name.rstrip('.')}.",
        f"@\t0\tIN\tSOA\tinvalid. invalid. {serial} 3600 600 2147483646 0",
        "@\t0\tIN\tNS\tinvalid.",
        'version\t0\tIN\tTXT\t"2"',
        *(f"{sha256(member.encode()).hexdigest()[:_UNIQUE]}.zones\t0\tIN\tPTR\t{member}." for member in members),
    ]
    return "\n".join([*lines, ""])


def planned(zones: Mapping[str, Zone], catalog: Zone, members: Iterable[str]) -> Plan:
    """What makes the zones of a site those that a catalog names: secondary zones with the catalog's own primaries and
    transfer settings. Zones that others made stay whole, and so do those that another catalog names."""
    wanted = {name: _member(name, catalog) for name in members}
    changes, faults = [], []
    for name, member in wanted.items():
        before = zones.get(name)
        if not _is_name(name):
            faults.append(f"{name} is no name for a zone here")
        elif before is None and (around := _foreign(name, zones, catalog)):
            faults.append(f"{name} is inside {around}, a zone here that it did not name")
        elif before is None:
            changes.append(Change("zone", name, "+", None, member))
        elif before.member_of != catalog.name:
            faults.append(f"{name} is a zone here already")
        elif (after := replace(member, text=before.text)) != before:
            changes.append(Change("zone", name, "~", before, after))
    return Plan((*changes, *_removed(zones, catalog.name, wanted)), tuple(faults))


def _foreign(name: str, zones: Mapping[str, Zone], catalog: Zone) -> str | None:
    """The zone around a name that others made: a primary must not take names from it. The root has all names."""
    around = closest(name, zones)
    return None if around in (None, ".") or zones[around].member_of == catalog.name else around


def orphans(zones: Mapping[str, Zone]) -> tuple[Change, ...]:
    """What removes the zones whose catalog is no catalog any more (section 5.3)."""
    consumed = {name for name, zone in zones.items() if zone.catalog is CatalogRole.CONSUME}
    gone = {zone.member_of for zone in zones.values() if zone.member_of is not None} - consumed
    return tuple(change for catalog in sorted(gone) for change in _removed(zones, catalog, {}))


def _removed(zones: Mapping[str, Zone], catalog: str, wanted: Mapping[str, Zone]) -> Iterator[Change]:
    for name, zone in zones.items():
        if zone.member_of == catalog and name not in wanted:
            yield Change("zone", name, "-", zone, None)


def _member(name: str, catalog: Zone) -> Zone:
    return Zone(
        name,
        "",
        catalog.transfer,
        primaries=catalog.primaries,
        primaries_tsig=catalog.primaries_tsig,
        primaries_ca=catalog.primaries_ca,
        notify=catalog.notify,
        notify_ns=catalog.notify_ns,
        member_of=catalog.name,
    )


def _is_name(name: str) -> bool:
    return all(map(DNS_LABEL.fullmatch, name.split(".")))

"""Where a name is in the zones: the walk from a zone's apex towards it (RFC 1034 section 4.3.2, RFC 4592, RFC 6672).

What is answered there is for `lookup`. Pure: it walks compiled zones.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from dnsvip.address.session import SessionLabels
from dnsvip.dns.protocol.message import Type
from dnsvip.dns.protocol.names import Labels
from dnsvip.dns.zones.record import WILD
from dnsvip.dns.zones.zone import CompiledZone, Node


class LookupResult(StrEnum):
    """The result of a look-up."""

    ANSWER = "answer"
    NODATA = "nodata"
    NXDOMAIN = "nxdomain"
    REFERRAL = "referral"
    TOO_LONG = "yxdomain"
    NO_ZONE = "no-zone"
    BROKEN_ZONE = "broken-zone"


@dataclass(frozen=True, slots=True)
class Zones:
    """All zones of a site by apex (None: its text is broken), and the service names among their names.

    `services` need not exist in their zone; `above` are the names between such a name and its apex. Right below those
    of `sessions`, wildcards, only the names exist whose first label they know.
    """

    by_apex: Mapping[Labels, CompiledZone | None] = field(default_factory=dict)
    services: Collection[Labels] = frozenset()
    above: Collection[Labels] = frozenset()
    sessions: Mapping[Labels, SessionLabels] = field(default_factory=dict)

    def apex_of(self, key: Labels) -> Labels | None:
        """The apex of the longest zone around a name, None where there is none."""
        for up in range(len(key) + 1):
            if key[up:] in self.by_apex:
                return key[up:]
        return None


@dataclass(frozen=True, slots=True)
class Place:
    """Where the walk down a zone ended: at `key`, with its record sets; `kind` says why it ended. `session` is the one
    that the name names."""

    kind: EndKind
    key: Labels
    node: Node
    session: int | None = None


class EndKind(StrEnum):
    """Why a walk ended: at a name that exists, a delegation, a DNAME, or where nothing is."""

    NODE = "node"
    CUT = "cut"
    DNAME = "dname"
    MISSING = "missing"


Spot: TypeAlias = tuple[CompiledZone, Place]
"""A zone and the place in it."""


def walk(zones: Zones, key: Labels, qtype: int) -> Spot | LookupResult:
    """The zone that answers for a name and how far it goes towards it; NO_ZONE or BROKEN_ZONE."""
    apex = _apex(zones, key, qtype)
    if apex is None:
        return LookupResult.NO_ZONE
    zone = zones.by_apex[apex]
    return LookupResult.BROKEN_ZONE if zone is None else (zone, _locate(zones, zone, key, qtype))


def _apex(zones: Zones, key: Labels, qtype: int) -> Labels | None:
    """The zone to ask: the longest, but for DS the one above it, where we have that (RFC 4035 section 3.1.4.1)."""
    apex = zones.apex_of(key)
    if qtype == Type.DS and apex == key and key:
        parent = zones.apex_of(key[1:])
        return apex if parent is None else parent
    return apex


def _locate(zones: Zones, zone: CompiledZone, key: Labels, qtype: int) -> Place:
    """Walk from the apex down to `key`, as far as the zone goes."""
    nodes, depth = zone.nodes, len(zone.apex)
    for size in range(depth, len(key) + 1):
        name = key[len(key) - size :]
        node = nodes.get(name, NOTHING)
        if node is NOTHING and name not in zones.above and (name not in zones.services or name in zones.sessions):
            if qtype == Type.DS and key in zones.by_apex:  # a zone of ours that the one above it does not delegate
                return Place(EndKind.NODE, key, node)
            return _wildcard(zones, zone, name[1:], key)
        if size > depth and Type.NS in node and not (qtype == Type.DS and size == len(key)):
            return Place(EndKind.CUT, name, node)
        if Type.DNAME in node and size < len(key):
            return Place(EndKind.DNAME, name, node)
    return Place(EndKind.NODE, key, node)


NOTHING: Node = {}
"""The record sets of a name that the zone itself does not have; compared by identity."""


def _wildcard(zones: Zones, zone: CompiledZone, encloser: Labels, name: Labels) -> Place:
    """The wildcard below the closest encloser of a name (RFC 4592 section 3.3.1), or nothing."""
    key = (WILD, *encloser)
    if key in zones.sessions:
        session = zones.sessions[key].number(name[0]) if len(name) == len(key) else None
        if session is None:
            return Place(EndKind.MISSING, encloser, NOTHING)
        return Place(EndKind.NODE, key, zone.nodes.get(key, NOTHING), session)
    if key in zone.nodes or key in zones.services:
        return Place(EndKind.NODE, key, zone.nodes.get(key, NOTHING))
    return Place(EndKind.MISSING, encloser, NOTHING)


def authority_node(zones: Zones, key: Labels, qtype: int) -> Labels | None:
    """The name that decides on the answer for `key`: itself where it exists, else the name under which it is missing
    or delegated, () where we have no zone. All names right below it that no record of the answer mentions are
    answered alike. None where the answer is derived from the qname (DNAME, sessions)."""
    here = walk(zones, key, qtype)
    if isinstance(here, LookupResult):
        return _apex(zones, key, qtype) or ()
    _, place = here
    if place.kind is EndKind.DNAME or place.session is not None or (WILD, *place.key) in zones.sessions:
        return None
    wild = place.kind is EndKind.NODE and place.key != key
    return place.key[1:] if wild else place.key


def is_authoritative(zones: Zones, zone: CompiledZone, key: Labels) -> bool:
    """Whether what a zone has at a name is its own: neither glue nor hidden by a delegation, DNAME or zone below."""
    return zones.apex_of(key) == zone.apex and _locate(zones, zone, key, Type.A).kind is EndKind.NODE


def obstacle(zones: Zones, name: Labels) -> str | None:
    """What hides a service at `name` from every query; `zones` without services. None where nothing does."""
    apex = zones.apex_of(name)
    zone = zones.by_apex[apex] if apex is not None else None
    if zone is None:
        return None
    place = _locate(zones, zone, name, Type.AAAA)
    if zone.presigned is not None:
        return "is signed elsewhere, and validators refuse addresses that are made here; delegate a zone for it"
    if place.kind is EndKind.NODE and place.key == name and Type.CNAME in place.node:
        return "has a CNAME there"
    return _OBSTACLES.get(place.kind)


_OBSTACLES: Mapping[EndKind, str] = {
    EndKind.CUT: "delegates that name",
    EndKind.DNAME: "redirects that name by a DNAME",
}

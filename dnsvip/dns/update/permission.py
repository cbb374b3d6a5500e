"""What a key may change of a zone, and what nobody may: records that this server makes itself.

Pure; compiled from the site.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import dns.rdatatype

from dnsvip.dns.protocol.message import Type
from dnsvip.dns.protocol.names import Labels
from dnsvip.dns.zones.catalog import labels_or_split
from dnsvip.dns.zones.rdata import SIGNING
from dnsvip.dns.zones.record import WILD
from dnsvip.site import Service, UpdateRule, Zone

FOR_PARENT = frozenset({dns.rdatatype.CDS, dns.rdatatype.CDNSKEY})
"""Types that a signed zone has for its parent, made too."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Records of `types` (None: all) at names that fit one of `patterns` (None: all)."""

    patterns: tuple[Labels, ...] | None
    types: frozenset[int] | None

    def allows(self, name: Labels, rtype: int | None) -> bool:
        """Whether it reaches a type at a name in lower case; None asks for the name alone."""
        typed = rtype is None or self.types is None or rtype in self.types
        return typed and (self.patterns is None or any(_fits(name, pattern) for pattern in self.patterns))


@dataclass(frozen=True, slots=True)
class Permission:
    """What an update may touch: of all, what `grants` allow. `made` are the types of addresses that are made at names
    of services, `ours` those that the server makes of the zone itself."""

    grants: tuple[Grant, ...]
    made: Mapping[Labels, frozenset[int]]
    ours: frozenset[int] = SIGNING

    def allows(self, name: Labels, rtype: int | None) -> bool:
        """Whether a key may change a type at a name."""
        return any(grant.allows(name, rtype) for grant in self.grants)

    def made_here(self, name: Labels, rtype: int) -> str:
        """Why a type at a name cannot be changed by anybody; empty where it can. Type 255 stands for all."""
        made = self.made.get(name, frozenset())
        if rtype in made or (made and rtype == Type.ANY):
            return "is an address of a service, which is made for each requester"
        if rtype in self.ours:
            return "is a record about the zone itself, which its server makes"
        return ""


def permission_of(zone: Zone, key: str, services: Iterable[Service]) -> Permission | None:
    """What a TSIG key may change of a zone, beside the site's services; None for one that may not at all."""
    rules = [rule for rule in zone.update if rule.tsig == key]
    if not rules:
        return None
    made = {labels_or_split(service.name): made_types(service) for service in services}
    ours = SIGNING | (FOR_PARENT if zone.is_signed else frozenset())
    ours |= {dns.rdatatype.ZONEMD} if zone.zonemd else frozenset()
    return Permission(tuple(map(_grant, rules)), made, ours)


def made_types(service: Service) -> frozenset[int]:
    """The types of addresses that are made at the name of a service."""
    six = [int(Type.AAAA)] if service.cluster is not None else []
    return frozenset([*six, *([int(Type.A)] if service.cluster4 is not None else [])])


def _grant(rule: UpdateRule) -> Grant:
    types = frozenset(int(dns.rdatatype.from_text(text)) for text in rule.types)
    return Grant(tuple(map(labels_or_split, rule.names)) or None, types or None)


def _fits(name: Labels, pattern: Labels) -> bool:
    """Whether a name is one that a pattern stands for; `*` as its first or last label is one label or more."""
    if pattern == (WILD,):
        return True
    if pattern[:1] == (WILD,):
        return len(name) >= len(pattern) and name[1 - len(pattern) :] == pattern[1:]
    if pattern[-1:] == (WILD,):
        return len(name) >= len(pattern) and name[: len(pattern) - 1] == pattern[:-1]
    return name == pattern

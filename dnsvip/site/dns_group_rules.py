"""The rules of a group of DNS servers, and which group a client has."""

from __future__ import annotations

from collections.abc import Iterator

from dnsvip.errors import Problem
from dnsvip.site import DnsGroup, Site
from dnsvip.site.rule_parts import refers, repeated
from dnsvip.site.values import TLS


def group_of(site: Site, tier: str) -> DnsGroup | None:
    """The group whose servers the clients of a tier query; None where the tier is in none."""
    return next((group for group in site.dns_groups.values() if tier in group.tiers), None)


def check_dns_group(where: str, group: DnsGroup, site: Site) -> Iterator[Problem]:
    """The problems of a group among the others of `site`."""
    for server in repeated(group.servers):
        yield Problem(f"{where}.servers", f"{server!r} is listed twice")
    for tier in repeated(group.tiers):
        yield Problem(f"{where}.tiers", f"{tier!r} is listed twice")
    for tier in group.tiers:
        yield from refers(f"{where}.tiers", "tier", tier, site.tiers)
        for name, other in site.dns_groups.items():
            if name != group.name and tier in other.tiers:
                text = f"tier {tier!r} is in group {name!r} already; a tier is in one group at most"
                yield Problem(f"{where}.tiers", text, (("dns_group", name),), f"tier {tier!r} is in another group")


def remarks(group: DnsGroup) -> Iterator[Problem]:
    """What is allowed of a group but probably a mistake."""
    encrypted = [server for server in group.servers if server.startswith(TLS)]
    if encrypted:
        text = f"{encrypted[0]} is carried in enrolments, but the client application does not query DNS over TLS yet"
        if len(encrypted) == len(group.servers):
            text += ": it has no server to query; add one as ADDRESS:PORT"
        yield Problem(f"dns_group.{group.name}.servers", text)

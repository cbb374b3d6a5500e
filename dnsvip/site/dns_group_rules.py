"""The rules of a group of DNS servers, and which group a client has."""

from __future__ import annotations

from collections.abc import Iterator

from dnsvip.errors import Problem
from dnsvip.site import DnsGroup, Site
from dnsvip.site.rule_parts import refers, repeated
from dnsvip.site.server_forms import is_encrypted


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
    first = next((place for place, server in enumerate(group.servers) if is_encrypted(server)), len(group.servers))
    plain = [server for server in group.servers[first:] if not is_encrypted(server)]
    if plain:
        text = f"{plain[0]} is behind an encrypted server, so that clients ask it only with a plaintext fallback"
        yield Problem(f"dns_group.{group.name}.servers", text)

"""What no two objects of a site may both claim: codes, ids, matches, digests, addresses. The store asks it after a
collision."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

from dnsvip.errors import Problem
from dnsvip.site import Site


def check_unique(site: Site) -> Iterator[Problem]:
    """What two objects of a site claim both: codes, ids, matches, digests, addresses."""
    yield from _once("tier", "code", ((tier.code, tier.name) for tier in site.tiers.values()))
    yield from _once("client", "id", ((client.id, client.name) for client in site.clients.values()))
    claims = ((m, client.name) for client in site.clients.values() for m in client.match)
    seen: dict[Any, str] = {}
    for match, name in claims:
        if seen.setdefault(match, name) != name:
            text = f'{{ {match.step.value} = "{match.value}" }}'
            yield taken("client", name, "match", text, f"client {seen[match]!r}", seen[match])
    digests: dict[str, str] = {}
    for token in site.dns_tokens.values():
        for digest in filter(None, (token.digest, token.previous)):
            if digests.setdefault(digest, token.name) != token.name:
                owner = digests[digest]
                yield taken("dns_token", token.name, "digest", f"{digest}", f"dns_token.{owner}", owner)
    ordered = sorted(
        site.clusters.values(), key=lambda c: (c.prefix.version, c.prefix.network_address, c.prefix.prefixlen)
    )
    for one, other in pairwise(ordered):
        if one.prefix.version == other.prefix.version and one.prefix.overlaps(other.prefix):
            text = f"{other.prefix} overlaps cluster.{one.name} ({one.prefix})"
            names = (("cluster", one.name),)
            yield Problem(f"cluster.{other.name}.prefix", text, names, about=("cluster", other.name))


def taken(kind: str, name: str, key: str, claim: str, owner: str, owner_name: str) -> Problem:
    """What an object claims belongs to another of its kind."""
    text, hidden = f"{claim} belongs to {owner} already", f"{claim} belongs to another {kind} already"
    return Problem(f"{kind}.{name}.{key}", text, ((kind, owner_name),), hidden, (kind, name))


def _once(kind: str, key: str, claims: Iterable[tuple[int, str]]) -> Iterator[Problem]:
    owners: dict[int, str] = {}
    for number, name in claims:
        if owners.setdefault(number, name) != name:
            owner = owners[number]
            yield taken(kind, name, key, f"{number}", f"{kind}.{owner}", owner)

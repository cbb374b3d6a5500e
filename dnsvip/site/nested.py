"""Client subnets that resolvers do not tell apart, such as those inside another client's (RFC 7871 section 7.2.1).

The standard has the operator warned where the order of queries could decide what is cached. Here it does not, as the
DNS server answers a scope that is long enough; but a resolver that cuts every address short never queries for the
inner one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from dnsvip.errors import Problem
from dnsvip.site import Client, Networks, Site, Step

SENT: Mapping[int, int] = {4: 24, 6: 56}
"""Prefix lengths to which resolvers cut addresses, by IP version (RFC 7871 section 11.1)."""

NAMED = 10
"""Networks that are named; of more, the number is."""


class _Claim(NamedTuple):
    """A client's network: sorted, each stands behind those around it."""

    version: int
    first: int
    length: int
    client: str
    text: str

    @property
    def end(self) -> int:
        """The first address behind it."""
        return self.first + (1 << (32 if self.version == 4 else 128) - self.length)

    @property
    def cut(self) -> bool:
        """Whether resolvers send less of an address."""
        return self.length > SENT[self.version]


def hidden_networks(site: Site) -> Iterator[Problem]:
    """A warning for each `ecs` network that is longer than resolvers send and lies inside another client's, unless the
    dispatcher puts it right: every cluster identifies sources, and takes no address of the other client from there."""
    claims = [
        _claim(client.name, match.value)
        for client in site.clients.values()
        for match in client.match
        if match.step is Step.ECS
    ]
    if not any(claim.cut for claim in claims):
        return
    hidden = [found for found in _hidden(sorted(claims)) if not _is_put_right(site, *found)]
    for inner, outer in hidden[:NAMED]:
        yield Problem(
            f"client.{inner.client}.match",
            f"ecs {inner.text} is inside {outer.text} of {outer.client!r}: resolvers that send /{SENT[inner.version]} "
            f"get the answer of {outer.client!r} for it (RFC 7871 section 7.2.1)",
        )
    if len(hidden) > NAMED:
        yield Problem("client", f"{len(hidden) - NAMED} more ecs networks are inside another client's in this way")


def _hidden(claims: Iterable[_Claim]) -> Iterator[tuple[_Claim, _Claim]]:
    """Each network that is cut, with the other client's around it, of networks in order."""
    around: list[_Claim] = []
    for claim in claims:
        while around and (around[-1].version != claim.version or around[-1].end <= claim.first):
            around.pop()
        if around and claim.cut and around[-1].client != claim.client:
            yield claim, around[-1]
        around.append(claim)


def _is_put_right(site: Site, inner: _Claim, outer: _Claim) -> bool:
    """Whether a flow from a network to another client's address is its own client's (dispatcher/verify/networks.py):
    one that has to prove itself is not known by its network."""
    clients = site.clients[inner.client], site.clients[outer.client]
    return (
        all(cluster.identify_source for cluster in site.clusters.values())
        and not _has_to_prove(site, clients[0])
        and (_is_held_to_networks(site, clients[1]) or _has_to_prove(site, clients[1]))
    )


def _has_to_prove(site: Site, client: Client) -> bool:
    tier = site.tiers.get(client.tier)
    return client.proof.required or (tier is not None and tier.require_proof)


def _is_held_to_networks(site: Site, client: Client) -> bool:
    tier = site.tiers.get(client.tier)
    return client.networks is Networks.ONLY or (tier is not None and tier.networks is Networks.ONLY)


def cut_networks(site: Site) -> Iterator[Problem]:
    """A warning for networks longer than resolvers send, of clients that another's answer may reach: a cluster does not
    identify sources, and neither client nor tier is accepted from its own networks only."""
    without = sorted(name for name, cluster in site.clusters.items() if not cluster.identify_source)
    if not without:
        return
    long: dict[str, str] = {}
    for client in site.clients.values():
        if _is_held_to_networks(site, client):
            continue
        for match in client.match:
            if match.step in (Step.ECS, Step.SOURCE) and _is_cut(match.value):
                long.setdefault(client.name, f"{match.step.value} {match.value}")
                break
    for name, text in list(long.items())[:NAMED]:
        yield Problem(
            f"client.{name}.match",
            f"{text} is longer than the /24 or /56 to which resolvers cut addresses, so others get its answers and it "
            f'theirs; set identify_source in cluster {", ".join(without[:NAMED])}, or networks = "only" for the '
            "client or its tier",
        )
    if len(long) > NAMED:
        yield Problem("client", f"{len(long) - NAMED} more clients have networks longer than /24 or /56")


def _is_cut(text: str) -> bool:
    return int(text.rpartition("/")[2]) > SENT[6 if ":" in text else 4]


def _claim(client: str, text: str) -> _Claim:
    address, _, length = text.partition("/")
    if ":" in address:
        return _Claim(6, int(IPv6Address(address)), int(length), client, text)
    return _Claim(4, int(IPv4Address(address)), int(length), client, text)

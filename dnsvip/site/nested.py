"""Client subnets inside another client's that resolvers do not tell apart (RFC 7871 section 7.2.1).

The standard has the operator warned where the order of queries could decide what is cached. Here it does not, as the
DNS server answers a scope that is long enough; but a resolver that cuts every address short never queries for the
inner one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from dnsvip.errors import Problem
from dnsvip.site import Client, Step

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


def hidden_networks(clients: Iterable[Client]) -> Iterator[Problem]:
    """A warning for each `ecs` network that is longer than resolvers send and lies inside another client's."""
    claims = [
        _claim(client.name, match.value) for client in clients for match in client.match if match.step is Step.ECS
    ]
    if not any(claim.cut for claim in claims):
        return
    hidden = list(_hidden(sorted(claims)))
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


def _claim(client: str, text: str) -> _Claim:
    address, _, length = text.partition("/")
    if ":" in address:
        return _Claim(6, int(IPv6Address(address)), int(length), client, text)
    return _Claim(4, int(IPv4Address(address)), int(length), client, text)

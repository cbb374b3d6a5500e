"""The address that a request comes from: that of its peer, or what a trusted proxy in front of the API says.

A proxy appends the address of its own peer to a header. Only the header that the node file names counts, and only what
trusted proxies appended to it: read from the right, the first address that is none of theirs. All before that is the
requester's own word. Proxies that terminate TLS for many tell requesters apart by it for throttling, `networks`
of tokens, and log lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

from aiohttp import web

from dnsvip.admin.http.problems import Refusal
from dnsvip.dns.protection.proxy import unmapped
from dnsvip.site.node_admin import FORWARDED, X_FORWARDED_FOR

Address: TypeAlias = IPv4Address | IPv6Address

LOCAL = (ip_address("127.0.0.1"), ip_address("::1"))
"""The peer at a Unix socket is this machine."""

_NODE = re.compile(
    r"(?P<four>[0-9.]+)(:[0-9]{1,5})?|\[(?P<bracketed>[0-9a-fA-F:.]+)\](:[0-9]{1,5})?|(?P<plain>[0-9a-fA-F:.]+)"
)
"""An address, with or without a port (RFC 7239 section 6; X-Forwarded-For is written in all these ways)."""

MOST_BYTES = 2048
"""Characters of the header in all its lines: 20 proxies with all that RFC 7239 lets each of them say."""


@dataclass(frozen=True, slots=True)
class Proxies:
    """Trusted proxies by network, and the header in which they say for whom they ask; none by default."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    header: str = X_FORWARDED_FOR

    def __contains__(self, address: object) -> bool:
        return isinstance(address, IPv4Address | IPv6Address) and any(
            address.version == network.version and address in network for network in self.networks
        )

    def trust(self, peer: str) -> bool:
        """Whether the peer of a connection is one of them; "" is that of a Unix socket."""
        address = _of_peer(peer)
        return any(hop in self for hop in ((address,) if address else LOCAL if not peer else ()))

    def source(self, peer: str, lines: Sequence[str]) -> str:
        """Who asks by way of `peer`, whose request has these lines of the header; raises ValueError for a hop that is
        no address, and for more than MOST_BYTES."""
        if not self.trust(peer):
            return str(_of_peer(peer) or peer)
        if sum(map(len, lines)) > MOST_BYTES:
            raise ValueError(f"has more than {MOST_BYTES} characters")
        source: Address | None = None
        for hop in (hop for line in reversed(lines) for hop in _HOPS[self.header](line)):
            source = _address(hop)
            if source not in self:
                break
        return str(source) if source else str(_of_peer(peer) or peer)


PROXIES = web.AppKey("proxies", Proxies)


def source_of(request: web.Request) -> str:
    """The address that a request comes from, "" for this machine at a Unix socket; raises Refusal."""
    proxies = request.app[PROXIES]
    try:
        return proxies.source(request.remote or "", request.headers.getall(proxies.header, ()))
    except ValueError as error:
        raise Refusal("bad-request", f"{proxies.header}: {error}.") from None


def _of_peer(peer: str) -> Address | None:
    try:
        return unmapped(ip_address(peer.partition("%")[0]))
    except ValueError:
        return None


def _address(hop: str) -> Address:
    node = _NODE.fullmatch(hop)
    text = node and (node["four"] or node["bracketed"] or node["plain"])
    try:
        return unmapped(ip_address(text or ""))
    except ValueError:
        raise ValueError(f"{hop[:64]!r} is no address; a trusted proxy must append that of its peer") from None


def _of_list(line: str) -> Iterator[str]:
    return (hop for part in reversed(line.split(",")) if (hop := part.strip()))


def _of_forwarded(line: str) -> Iterator[str]:
    return (_for(element) for element in _from_the_right(line, ",") if element.strip())


def _for(element: str) -> str:
    """For whom an element of Forwarded says to ask (RFC 7239 section 4)."""
    for pair in _from_the_right(element, ";"):
        name, _, value = pair.strip().partition("=")
        if name.lower() == "for":
            quoted = len(value) > 1 and value[0] == value[-1] == '"'
            return re.sub(r"\\(.)", r"\1", value[1:-1]) if quoted else value
    return "unknown"


def _from_the_right(text: str, separator: str) -> Iterator[str]:
    """The parts of a text, the last one first, with separators in quotes kept. Each character is looked at once: what
    stands on the left is the requester's own word, and must cost nothing and change nothing."""
    end, inside = len(text), False
    for at in range(len(text) - 1, -1, -1):
        if text[at] == '"' and not (inside and _is_escaped(text, at)):
            inside = not inside
        elif text[at] == separator and not inside:
            yield text[at + 1 : end]
            end = at
    yield text[:end]


def _is_escaped(text: str, at: int) -> bool:
    """Whether an odd number of backslashes stands before a character."""
    first = at
    while first and text[first - 1] == "\\":
        first -= 1
    return bool((at - first) % 2)


_HOPS = {X_FORWARDED_FOR: _of_list, FORWARDED: _of_forwarded}

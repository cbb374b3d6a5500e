"""Which senders are front ends, and what their datagrams say (`proxy`)."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from dnsvip.dns.protection.proxy import BadHeader, read_whole
from dnsvip.dns.two_generation_cache import TwoGenerationCache

REMEMBERED = 1 << 12


class FrontEnds:
    """Those whose address is in one of `networks`."""

    def __init__(self, networks: Sequence[IPv4Network | IPv6Network]) -> None:
        self._networks = tuple(networks)
        self._known: TwoGenerationCache[bytes, bool] = TwoGenerationCache(REMEMBERED)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: object) -> bool:
        if not isinstance(address, IPv4Address | IPv6Address):
            return False
        return any(address.version == network.version and address in network for network in self._networks)

    def unwrap(self, wires: Sequence[bytes], peers: Sequence[bytes]) -> tuple[list[tuple[bytes, bytes] | None], int]:
        """What was asked and from where, having read the front ends' headers, None where one is wrong; and how many
        of these there are, whose messages get no answer."""
        asked = [self._asked(wire, peer) for wire, peer in zip(wires, peers, strict=True)]
        return asked, asked.count(None)

    def _asked(self, wire: bytes, peer: bytes) -> tuple[bytes, bytes] | None:
        known = self._known.get(peer)
        if known is None:
            known = self._known.put(peer, ip_address(peer) in self)
        if not known:
            return wire, peer
        try:
            header = read_whole(wire)
        except BadHeader:
            return None
        return wire[header.size :], header.source or peer

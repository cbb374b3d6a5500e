"""Which senders are front ends, and what their datagrams say (`proxy`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from dnsvip.dns.protection.proxy import BadHeader, read_whole
from dnsvip.dns.recent import Recent

REMEMBERED = 1 << 12


class FrontEnds:
    """Those whose address is in one of `networks`."""

    def __init__(self, networks: Sequence[IPv4Network | IPv6Network]) -> None:
        self._networks = tuple(networks)
        self._known: Recent[bytes, bool] = Recent(REMEMBERED)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, address: object) -> bool:
        if not isinstance(address, IPv4Address | IPv6Address):
            return False
        return any(address.version == network.version and address in network for network in self._networks)

    def unwrap(
        self, wires: Sequence[bytes], peers: Sequence[bytes], answer: Callable[..., Sequence[bytes | None]]
    ) -> tuple[list[bytes | None], int]:
        """The answers that `answer` has for (messages, askers' addresses), having read the front ends' headers; and how
        many of these were wrong, whose messages get no answer."""
        asked = [self._asked(wire, peer) for wire, peer in zip(wires, peers, strict=True)]
        good = [pair for pair in asked if pair is not None]
        answers = iter(answer([wire for wire, _ in good], [peer for _, peer in good]))
        return [None if pair is None else next(answers) for pair in asked], len(asked) - len(good)

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

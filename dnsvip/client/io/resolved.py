"""Where to connect for a name: what the agent has found out."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from dnsvip.client.proof import Why


@dataclass(frozen=True, slots=True)
class Resolved:
    """Where to connect for a name. `issued` is DNS's answer or the ticket in its place, `ttl` (seconds) what is left
    of its TTL.

    New connections need a fresh answer after `valid_until` (unix seconds). `why` says that the address was proven, or
    why it was not. `label` is the flow label to send with it, 0 where nothing is said in it, and `source` the address
    to connect from, None for any.
    """

    name: str
    address: IPv4Address | IPv6Address
    issued: IPv4Address | IPv6Address
    ttl: int
    valid_until: float
    why: Why
    label: int = 0
    source: IPv6Address | None = None

    @property
    def way(self) -> tuple[IPv6Address, IPv6Address]:
        """Source and destination of a connection from this client's own address; raises ValueError for others."""
        if self.source is None or not isinstance(self.address, IPv6Address):
            raise ValueError(f"{self.name}: is reached from any address")
        return self.source, self.address

    @property
    def proven(self) -> bool:
        """Whether `address` carries this client's proof."""
        return self.why is Why.PROVEN

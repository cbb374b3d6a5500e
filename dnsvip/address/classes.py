"""IPv4 classes of service: a subnet and a table tier -> host numbers (address/README.md, "IPv4").

No cryptography: eight bits cannot carry it. Anyone who knows the table can pick any class, so a class
is a preference and never an authorisation.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network

from dnsvip.errors import CodecError

MIN_PREFIX_BITS, MAX_PREFIX_BITS = 16, 30


class ClassTable:
    """Addresses of one IPv4 subnet by tier name.

    Raises CodecError for a subnet outside /16 to /30, and for a host number that is outside it, is the network,
    broadcast or plain address, or belongs to two tiers.
    """

    __slots__ = ("_by_address", "_by_tier", "plain", "prefix")

    def __init__(self, prefix: IPv4Network, plain: IPv4Address, classes: Mapping[str, tuple[int, ...]]) -> None:
        if not MIN_PREFIX_BITS <= prefix.prefixlen <= MAX_PREFIX_BITS:
            raise CodecError(f"prefix length {prefix.prefixlen}: must be 16 to 30")
        self.prefix = prefix
        self.plain = int(plain)
        self._by_address: dict[int, str] = {}
        self._by_tier: dict[str, tuple[int, ...]] = {}
        for tier, hosts in classes.items():
            if not hosts:
                raise CodecError(f"tier {tier!r} has no host number")
            self._by_tier[tier] = tuple(self._claim(tier, host) for host in hosts)

    def _claim(self, tier: str, host: int) -> int:
        if not 0 < host < self.prefix.num_addresses - 1:
            raise CodecError(f"host number {host}: must be 1 to {self.prefix.num_addresses - 2} in {self.prefix}")
        address = int(self.prefix.network_address) + host
        if address == self.plain or address in self._by_address:
            raise CodecError(f"host number {host} of tier {tier!r} is the plain address or used twice")
        self._by_address[address] = tier
        return address

    def encode(self, tier: str, spread: int) -> int:
        """The address for a tier, `spread` (any integer, say the client id) picking among its numbers.

        A tier without numbers gets the plain address.
        """
        addresses = self._by_tier.get(tier)
        return addresses[spread % len(addresses)] if addresses else self.plain

    def decode(self, address: int) -> str | None:
        """The tier that an address encodes; None for the plain and for unused addresses."""
        return self._by_address.get(address)

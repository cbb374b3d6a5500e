"""Who makes room where places are taken: of the network with most of them, the one that was used longest ago.

So who fills all places from some networks crowds out himself, and never a newcomer from another. A step takes constant
time, whatever there is. Pure.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv4Address, IPv6Address
from typing import Generic, TypeAlias, TypeVar

NETWORKS = {4: 24, 6: 48}
"""IP version -> bits of what one owner has all the addresses of, as far as anybody knows."""

Network: TypeAlias = tuple[int, int]
"""Two numbers that tell a network from all others of its kind: IP version or prefix length, and its bits."""

M = TypeVar("M")


def network_of(address: IPv4Address | IPv6Address) -> Network:
    """The network that an address is counted with."""
    return address.version, int(address) >> address.max_prefixlen - NETWORKS[address.version]


class Crowds(Generic[M]):
    """Members by network; None is a network too."""

    def __init__(self) -> None:
        self._members: dict[Network | None, OrderedDict[M, None]] = {}
        self._sizes: dict[int, OrderedDict[Network | None, None]] = {}
        """Number of members -> the networks with so many; the one that was used longest ago comes first."""
        self._most = 0

    def size(self, network: Network | None) -> int:
        """How many a network has."""
        return len(self._members.get(network, ()))

    def add(self, network: Network | None, member: M) -> None:
        """Add a member that is not in it."""
        members = self._members.get(network)
        if members is None:
            members = self._members[network] = OrderedDict()
        members[member] = None
        self._resized(network, len(members) - 1, len(members))

    def remove(self, network: Network | None, member: M) -> None:
        """Remove a member, if it is in it."""
        members = self._members.get(network)
        if members is None or member not in members:
            return
        del members[member]
        if not members:
            del self._members[network]
        self._resized(network, len(members) + 1, len(members))

    def use(self, network: Network | None, member: M) -> None:
        """Note that a member is in use."""
        members = self._members[network]
        members.move_to_end(member)
        self._sizes[len(members)].move_to_end(network)

    def in_the_way(self, network: Network | None) -> M | None:
        """Who makes room for a newcomer of a network, one of its own where none has more; None where nobody is."""
        if not self._members:
            return None
        crowd = network if self.size(network) == self._most else next(iter(self._sizes[self._most]))
        return next(iter(self._members[crowd]))

    def _resized(self, network: Network | None, before: int, after: int) -> None:
        sizes = self._sizes
        if before:
            del sizes[before][network]
            if not sizes[before]:
                del sizes[before]
        if after:
            if after not in sizes:
                sizes[after] = OrderedDict()
            sizes[after][network] = None
        if after > self._most or self._most not in sizes:
            self._most = after

"""Keeps the link addresses of servers known: the kernel asks for them again by itself, also while no process runs.

The XDP program looks the next hop up (bpf_fib_lookup), but cannot ask who has it. So each next hop gets a neighbour
entry that the kernel manages (NTF_EXT_MANAGED, Linux 5.16). They carry our routing protocol number.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from dnsvip.dispatcher.io.user.netlink import FAMILIES, PROTOCOL

NTF_USE, NTF_MANAGED = 1, 1
_PERMANENT = 0x80


@dataclass(frozen=True, slots=True)
class Hop:
    """A neighbour on a link (interface by index)."""

    address: str
    interface: int


class Neighbours:
    """A netlink connection for next hops; a blocking shell, one thread at a time."""

    def __init__(self) -> None:
        self._ip = IPRoute()

    def close(self) -> None:
        """Close the connection; the entries stay."""
        self._ip.close()

    def keep(self, servers: Iterable[IPv4Address | IPv6Address]) -> frozenset[bytes]:
        """Keep the next hops of these servers known, and no others of ours; answers the servers (packed) without a
        way to them."""
        ways = {server: self._hop(server) for server in servers}
        wanted = {hop for hop in ways.values() if hop}
        have = self.ours()
        for hop in wanted - have:
            self._change("replace", hop)
        for hop in have - wanted:
            self._change("del", hop)
        return frozenset(server.packed for server, hop in ways.items() if hop is None)

    def ours(self) -> set[Hop]:
        """The entries that carry our protocol number."""
        return {
            Hop(entry.get_attr("NDA_DST"), entry["ifindex"])
            for family in FAMILIES.values()
            for entry in self._ip.get_neighbours(family=family)
            if entry.get_attr("NDA_PROTOCOL") == PROTOCOL
        }

    def _hop(self, server: IPv4Address | IPv6Address) -> Hop | None:
        """The next hop to a server; None where there is no route, or it is this host."""
        try:
            (route, *_) = self._ip.route("get", dst=str(server))
        except NetlinkError:
            return None
        if route["type"] != 1:  # RTN_UNICAST
            return None
        via = route.get_attr("RTA_GATEWAY") or (route.get_attr("RTA_VIA") or {}).get("addr") or str(server)
        return Hop(str(ip_address(via)), route.get_attr("RTA_OIF"))

    def _change(self, command: str, hop: Hop) -> None:
        words = {"dst": hop.address, "ifindex": hop.interface, "family": FAMILIES[ip_address(hop.address).version]}
        if command != "del":
            words |= {"flags": NTF_USE, "state": 0, "NDA_FLAGS_EXT": NTF_MANAGED, "NDA_PROTOCOL": PROTOCOL}
        with suppress(NetlinkError):  # gone with its interface, or tried again at the next turn
            self._ip.neigh(command, **words)

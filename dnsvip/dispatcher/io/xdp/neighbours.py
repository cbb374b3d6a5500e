"""Keeps the link addresses of servers resolved: the kernel refreshes them by itself, even while no process runs.

The XDP program looks up next hops (bpf_fib_lookup) but cannot resolve their link addresses. So each next hop gets a
neighbour entry that the kernel manages (NTF_EXT_MANAGED, Linux 5.16), marked with our routing protocol number.
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


@dataclass(frozen=True, slots=True)
class Hop:
    """A neighbour on a link (interface by index)."""

    address: str
    interface: int


class Neighbours:
    """A netlink connection that manages the next hops; blocking, one thread at a time."""

    def __init__(self) -> None:
        self._ip = IPRoute()

    def close(self) -> None:
        """Close the connection; the entries stay."""
        self._ip.close()

    def keep(self, servers: Iterable[IPv4Address | IPv6Address]) -> frozenset[bytes]:
        """Keep the next hops of these servers resolved, and remove our other entries; returns the servers (packed)
        without a route."""
        hops = {server: self._hop(server) for server in servers}
        wanted = {hop for hop in hops.values() if hop}
        present = self.ours()
        for hop in wanted - present:
            self._change("replace", hop)
        for hop in present - wanted:
            self._change("del", hop)
        return frozenset(server.packed for server, hop in hops.items() if hop is None)

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
        attributes = {"dst": hop.address, "ifindex": hop.interface, "family": FAMILIES[ip_address(hop.address).version]}
        if command != "del":
            attributes |= {"flags": NTF_USE, "state": 0, "NDA_FLAGS_EXT": NTF_MANAGED, "NDA_PROTOCOL": PROTOCOL}
        with suppress(NetlinkError):  # gone with its interface, or retried at the next call
            self._ip.neigh(command, **attributes)

"""The dispatcher's routes and policy rules in the kernel, reconciled with a set of wanted ones.

All of them carry our routing protocol number, so leftovers of a killed process can be identified and removed.
Calls block: use it from one thread at a time, never from the event loop's.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from dnsvip.errors import PlatformError
from dnsvip.site.announcement import Standing

PROTOCOL = 86
"""Routing protocol number of all our routes and rules (`ip route show table all proto 86`)."""
PRIORITY = 8600
"""Policy rules use this priority and the next three."""
MARK_BASE, MARK_MASK = 0x444E_0000, 0xFFFF_0000
"""Firewall marks of packets we send: the base is routed by the main table, base + n goes to server n.

A server's routing table has the number of its mark; the table numbered as the base leads into the TUN device.
"""
MAIN_TABLE = 254
METRIC, DISCARD_METRIC = 86, 8600
ANNOUNCED = frozenset(Standing) - {Standing.WITHDRAWN}
"""Metrics of the routes that announce a prefix (dnsvip.node.announcing); they lead where that of METRIC does."""
ROOT = 0xFFFF_FFFF  # TC_H_ROOT
FAMILIES = {4: AF_INET, 6: AF_INET6}
EVERYWHERE: Mapping[int, IPv4Network | IPv6Network] = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}
_UNREACHABLE = 7  # FR_ACT_UNREACHABLE
_BLACKHOLE = 6  # RTN_BLACKHOLE


@dataclass(frozen=True, slots=True)
class Route:
    """A route in `table` to a network (or /0), by a next hop or into a device (interface index); or one that discards
    what no other route of ours takes."""

    to: IPv4Network | IPv6Network
    table: int
    via: str = ""
    device: int = 0
    discard: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """A policy rule: packets of an IP version with a mark, or from a host, use `table` (0: unreachable)."""

    version: int
    priority: int
    table: int
    mark: int = 0
    source: str = ""


class Kernel:
    """A netlink connection. Raises PlatformError without the privilege to change routes."""

    def __init__(self) -> None:
        self._ip = IPRoute()

    def close(self) -> None:
        """Close the connection; routes and rules stay."""
        self._ip.close()

    def start_device(self, name: str, mtu: int, queue: int) -> int:
        """Bring a device up without link-local addresses; returns its index. `queue` is in packets, and has
        no discipline before it, of which the kernel would keep one for each of 256."""
        index: int = self._ip.link_lookup(ifname=name)[0]
        with suppress(OSError):  # absent in a kernel without IPv6
            Path(f"/proc/sys/net/ipv6/conf/{name}/addr_gen_mode").write_text("1")
        with suppress(NetlinkError):  # a kernel without traffic control
            self._ip.tc("replace", "noqueue", index, parent=ROOT)
        self._ip.link("set", index=index, mtu=mtu, txqlen=queue, state="up")
        return index

    def smallest_mtu(self, interface: str | None, but: str) -> int:
        """MTU in bytes of an interface, or with None the smallest of all that are up, `but` excepted; raises
        PlatformError if it does not exist."""
        mtus = {
            link.get_attr("IFLA_IFNAME"): link.get_attr("IFLA_MTU")
            for link in self._ip.get_links()
            if interface or (link["flags"] & 1 and not link["flags"] & 8)  # IFF_UP, IFF_LOOPBACK
        }
        mtus.pop(but, None)
        if interface and interface not in mtus:
            raise PlatformError(f"dispatch.interface: {interface!r} does not exist; there is: {', '.join(mtus)}")
        return int(mtus[interface] if interface else min(mtus.values(), default=1500))

    def align(self, wanted: Iterable[Route | Rule]) -> list[tuple[Route | Rule, str]]:
        """Add what is wanted and missing; returns what the kernel refused, each with its error."""
        wanted = list(wanted)
        have = self.ours()
        failed = []
        for missing in sorted(set(wanted) - have, key=wanted.index):
            try:
                self._change("add", missing)
            except NetlinkError as error:
                if error.code in (errno.EPERM, errno.EACCES):
                    raise PlatformError("routes and rules need CAP_NET_ADMIN: run as root") from error
                if error.code != errno.EEXIST:
                    failed.append((missing, error.args[1] if len(error.args) > 1 else str(error)))
        return failed

    def remove_others(self, wanted: Iterable[Route | Rule] = ()) -> None:
        """Remove our routes and rules that are not wanted."""
        for unwanted in self.ours() - set(wanted):
            with suppress(NetlinkError):  # gone with its device
                self._change("del", unwanted)

    def ours(self) -> set[Route | Rule]:
        """All routes and rules in the kernel that carry our protocol number, but those that announce a prefix."""
        ours: set[Route | Rule] = set()
        for version, family in FAMILIES.items():
            routes = [r for r in self._ip.get_routes(family=family) if r["proto"] == PROTOCOL]
            routes = [r for r in routes if r.get_attr("RTA_PRIORITY") not in ANNOUNCED]
            rules = [r for r in self._ip.get_rules(family=family) if r.get_attr("FRA_PROTOCOL") == PROTOCOL]
            ours.update(_read_route(route, version) for route in routes)
            ours.update(_read_rule(rule, version) for rule in rules)
        return ours

    def _change(self, command: str, item: Route | Rule) -> None:
        if isinstance(item, Route):
            self._ip.route(command, **_route_words(item))
        else:
            self._ip.rule(command, **_rule_words(item))


def _route_words(route: Route) -> dict[str, Any]:
    words: dict[str, Any] = {
        "family": FAMILIES[route.to.version],
        "dst": str(route.to),
        "table": route.table,
        "proto": PROTOCOL,
        "priority": DISCARD_METRIC if route.discard else METRIC,
    }
    if route.discard:
        words["type"] = "blackhole"
    if route.device:
        words["oif"] = route.device
    if route.via and ip_address(route.via).version != route.to.version:
        words["via"] = {"family": AF_INET6, "addr": route.via}
    elif route.via:
        words["gateway"] = route.via
    return words


def _rule_words(rule: Rule) -> dict[str, Any]:
    words: dict[str, Any] = {
        "family": FAMILIES[rule.version],
        "priority": rule.priority,
        "protocol": PROTOCOL,
    }
    if rule.table:
        words["table"] = rule.table
    else:
        words["action"] = _UNREACHABLE
    if rule.mark:
        words["fwmark"], words["fwmask"] = rule.mark, 0xFFFF_FFFF if rule.table else MARK_MASK
    if rule.source:
        words["src"], words["src_len"] = rule.source, ip_address(rule.source).max_prefixlen
    return words


def _read_route(message: Any, version: int) -> Route:
    destination = message.get_attr("RTA_DST")
    to = ip_network(f"{destination}/{message['dst_len']}") if destination else EVERYWHERE[version]
    if message["type"] == _BLACKHOLE:
        return Route(to, message.get_attr("RTA_TABLE"), discard=True)
    gateway, via = message.get_attr("RTA_GATEWAY"), message.get_attr("RTA_VIA")
    hop = gateway or (via["addr"] if via else "")
    return Route(to, message.get_attr("RTA_TABLE"), hop, 0 if hop else message.get_attr("RTA_OIF"))


def _read_rule(message: Any, version: int) -> Rule:
    table = message.get_attr("FRA_TABLE") if message["action"] != _UNREACHABLE else 0
    source = message.get_attr("FRA_SRC") or ""
    return Rule(version, message.get_attr("FRA_PRIORITY"), table or 0, message.get_attr("FRA_FWMARK") or 0, source)

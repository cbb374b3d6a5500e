"""The topology of the demo: nine hosts and a router between them, documentation addresses only.

The hosts reach each other; what runs on them is in `programs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from dnsvip.demo.netns import Host, World

PICTURE = """\
client-gold   2001:db8:77::10 --+
client-plain  2001:db8:99::10 --+                             2001:db8:d::2
resolver      2001:db8:53::53 --+-- router ------------------- dispatcher (DNS, API, dispatcher)
                                      |                            |
                                      |      2001:db8:e::2         |
                                      +------ dispatcher-2 --------+
                                      |                            |
                                      +------ server segment ------+
                                      fast-1 fd00:10::11, slow-1 fd00:10::21, slow-2 fd00:10::22

The router sends the cluster's prefix 2001:db8:a:1::/64 to the dispatcher, during the last act to dispatcher-2 first;
servers answer through the router."""

PREFIX = IPv6Network("2001:db8:a:1::/64")
PLAIN = IPv6Address("2001:db8:a:1::1")
NAME_SERVER = "2001:db8:d::2"
SECOND = "2001:db8:e::2"
"""Of dispatcher-2."""
DELAY_MS = 10
"""Milliseconds that a packet takes on client-gold's link, each way, in a demo with measurements."""
WIRE_ENDS = ("client", "router")
RESOLVER = "2001:db8:53::53"
FAST = {"fast-1": "fd00:10::11"}
SLOW = {"slow-1": "fd00:10::21", "slow-2": "fd00:10::22"}
SERVERS = FAST | SLOW
DISPATCHERS = {"dispatcher": "fd00:10::2", "dispatcher-2": "fd00:10::3"}
"""On the server segment."""

EDGE = {  # host: (its address, the router's on the same link)
    "client-gold": ("2001:db8:77::10", "2001:db8:77::1"),
    "client-plain": ("2001:db8:99::10", "2001:db8:99::1"),
    "resolver": (RESOLVER, "2001:db8:53::1"),
    "dispatcher": (NAME_SERVER, "2001:db8:d::1"),
    "dispatcher-2": (SECOND, "2001:db8:e::1"),
}
ETC = {"resolv.conf": f"nameserver {RESOLVER}\n", "nsswitch.conf": "hosts: files dns\n", "hosts": "::1 localhost\n"}
"""Name resolution of the clients: only the demo's resolver, whatever this machine uses."""


@dataclass(frozen=True, slots=True)
class Hosts:
    """The hosts of the demo, each a network namespace."""

    gold: Host
    plain: Host
    resolver: Host
    router: Host
    dispatcher: Host
    second: Host
    servers: dict[str, Host]
    segment: Host
    wire: Host | None = None
    """In the middle of client-gold's link, where that takes time."""


def build(world: World, *, slow: bool = False) -> Hosts:
    """Make hosts, links and routes; with `slow`, client-gold is DELAY_MS away from the router."""
    router, segment, wire = world.host("router"), world.switch("segment"), None
    edge = {name: world.host(name, etc=ETC if name.startswith("client") else None) for name in EDGE}
    servers = {name: world.host(name) for name in SERVERS}
    for name, (address, gateway) in EDGE.items():
        ends = [f"{address}/64"], [f"{gateway}/64"]
        if slow and name == "client-gold":
            wire = _link_slowly(world, edge[name], router, *ends)
        else:
            world.link(edge[name], router, a_addrs=ends[0], b_addrs=ends[1], a_name="eth0")
        edge[name].route("default", "via", gateway)
    world.link(router, segment, a_addrs=["fd00:10::1/64"])
    for name, address in DISPATCHERS.items():
        world.link(edge[name], segment, a_addrs=[f"{address}/64"], a_name="eth1")
        edge[name].forwarding()
    for name, address in SERVERS.items():
        _connect_server(world, servers[name], segment, address)
    router.forwarding()
    router.route(str(PREFIX), "via", NAME_SERVER)
    gold, plain, resolver, dispatcher, second = edge.values()
    return Hosts(gold, plain, resolver, router, dispatcher, second, servers, segment, wire)


def _link_slowly(world: World, host: Host, router: Host, a_addrs: list[str], b_addrs: list[str]) -> Host:
    """Link two hosts by a third one, which passes frames later (`delay_line`)."""
    wire = world.host("wire")
    wire.sysctl({"net.ipv6.conf.all.disable_ipv6": "1", "net.ipv6.conf.default.disable_ipv6": "1"})
    world.link(host, wire, a_addrs=a_addrs, a_name="eth0", b_name=WIRE_ENDS[0])
    world.link(wire, router, b_addrs=b_addrs, a_name=WIRE_ENDS[1], b_name=host.name)
    for end, interface in ((host, "eth0"), (router, host.name)):
        end.run(
            "ethtool", "-K", interface, "tx", "off"
        )  # as on a cable: whole checksums, no packets larger than its MTU
    return wire


def _connect_server(world: World, server: Host, segment: Host, address: str) -> None:
    """A server accepts every address of the cluster and answers clients through the router."""
    world.link(server, segment, a_addrs=[f"{address}/64"], a_name="eth0")
    server.route("default", "via", "fd00:10::1")
    server.route(f"local {PREFIX}", "dev", "lo")

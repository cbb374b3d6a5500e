"""The MTU of routes in a kernel: of the route, of its interface, of several next hops, by mark."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnsvip.demo.netns import Host, World

pytestmark = pytest.mark.network
ROOT = Path(__file__).parent.parent.parent
ASK = """
import ipaddress, json, sys
from dnsvip.dispatcher.io.user.route_mtu import RouteMtus
with RouteMtus() as routes:
    print(json.dumps([routes.of(ipaddress.ip_address(to).packed, 7) for to in sys.argv[1:]]))
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """A host with two links, of 1500 and 1400 bytes."""
    if reason := World.available(tun=False):
        pytest.skip(reason)
    with World() as world:
        host, other = world.host("one"), world.host("other")
        for name, mtu, addresses in (
            ("wide", 1500, ["fd00:1::1/64", "10.0.1.1/24"]),
            ("thin", 1400, ["fd00:2::1/64", "10.0.2.1/24"]),
        ):
            world.link(host, other, a_name=name, b_name=name, a_addrs=addresses, mtu=mtu)
        yield host


def ask(host: Host, *addresses: str) -> list[int]:
    """The MTU for packets to each address, with the mark 7."""
    mtus: list[int] = json.loads(host.run(sys.executable, "-c", ASK, *addresses, env={"PYTHONPATH": str(ROOT)}).stdout)
    return mtus


def test_routes(host: Host) -> None:
    """The route's own MTU, or its interface's; of several next hops the smallest; none without a route."""
    host.route("fd00:3::/64", "via", "fd00:1::9", "mtu", "1450")
    host.route("10.0.3.0/24", "via", "10.0.1.9", "mtu", "1450")
    host.ip("-6", "route", "add", "fd00:4::/64", "nexthop", "via", "fd00:1::9", "nexthop", "via", "fd00:2::9")
    host.ip("-4", "route", "add", "10.0.4.0/24", "nexthop", "via", "10.0.1.9", "nexthop", "via", "10.0.2.9")
    host.ip("-6", "route", "add", "unreachable", "fd00:5::/64")
    assert ask(host, "fd00:1::2", "fd00:2::2", "fd00:3::2", "fd00:4::2") == [1500, 1400, 1450, 1400]
    assert ask(host, "10.0.1.2", "10.0.2.2", "10.0.3.2", "10.0.4.2") == [1500, 1400, 1450, 1400]
    assert ask(host, "fd00:5::2", "fd00:6::2", "10.0.6.2") == [0, 0, 0]


def test_marks(host: Host) -> None:
    """A packet's mark chooses its routing table."""
    for family, to, via in (("-6", "fd00:7::/64", "fd00:2::9"), ("-4", "10.0.7.0/24", "10.0.2.9")):
        host.ip(family, "rule", "add", "fwmark", "7", "table", "77")
        host.ip(family, "route", "add", to, "via", via, "table", "77")
    assert ask(host, "fd00:7::2", "10.0.7.2") == [1400, 1400]


def test_a_router_tells_a_smaller_one(host: Host) -> None:
    """For IPv6 an interface may have an MTU of its own."""
    host.sysctl({"net.ipv6.conf.wide.mtu": "1300"})
    assert ask(host, "fd00:1::2", "10.0.1.2") == [1300, 1500]

"""Routes of announced prefixes in a kernel that refuses one of them."""

from __future__ import annotations

import sys

import pytest

from dnsvip.demo.netns import World

pytestmark = pytest.mark.network

ALIGN = """
from ipaddress import ip_network
from dnsvip.errors import PlatformError
from dnsvip.node.announced_routes import AnnouncedRoutes
from dnsvip.site.announcement import Standing

refused, leaving, coming = map(ip_network, ("2001:db8:9::/48", "203.0.113.0/24", "203.0.114.0/24"))
routes = AnnouncedRoutes("announce0")
routes.align({leaving: Standing.PREFERRED})
try:
    routes.align({refused: Standing.PREFERRED, leaving: Standing.WITHDRAWN, coming: Standing.PREFERRED})
except PlatformError as error:
    print(error)
"""


def test_a_refused_route_keeps_no_other(world: World) -> None:
    """What has to be withdrawn goes, and what can be announced is, although the kernel takes no route of IPv6."""
    host = world.host("node")
    host.run("ip", "tuntap", "add", "announce0", "mode", "tun")
    host.run("ip", "link", "set", "announce0", "up")
    host.run("sysctl", "-qw", "net.ipv6.conf.announce0.disable_ipv6=1")
    assert "2001:db8:9::/48: Permission denied" in host.run(sys.executable, "-c", ALIGN).stdout
    routes = host.run("ip", "-4", "route", "show", "proto", "86").stdout
    assert [line.split()[0] for line in routes.splitlines()] == ["203.0.114.0/24"]

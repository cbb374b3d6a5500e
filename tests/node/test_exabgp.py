"""What `dnsvip announce` says to ExaBGP, by the kernel's routes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from dnsvip.demo.netns import Host, World
from dnsvip.node.exabgp import lines
from dnsvip.site.announcement import Standing

ONE, OTHER = ip_network("2001:db8:a:1::/64"), ip_network("192.0.2.0/28")


def test_only_changes_are_told() -> None:
    """What ExaBGP knows is not repeated; what nobody knows is told, also that there is none."""
    told = {ONE: Standing.PREFERRED, OTHER: None}
    assert list(lines(told, {ONE: Standing.PREFERRED})) == [f"withdraw route {OTHER} next-hop self"]
    assert list(lines(told, {ONE: Standing.LEAVING, OTHER: Standing.PREFERRED})) == [
        f"announce route {ONE} next-hop self med 60 community [65535:0]",
        f"announce route {OTHER} next-hop self med 10",
    ]


@pytest.fixture
def host() -> Iterator[Host]:
    """A host with a device that routes can lead into."""
    if reason := World.available(tun=True):
        pytest.skip(reason)
    with World() as world:
        made = world.host("node")
        made.ip("tuntap", "add", "mode", "tun", "name", "dnsvip0")
        made.ip("link", "set", "dnsvip0", "up")
        yield made


@pytest.mark.network
def test_a_lost_device_withdraws(host: Host) -> None:
    """Routes of dnsvip's number and metrics count, in both families; the end of their device withdraws them at once,
    and the end of ExaBGP ends it."""
    route = ("dev", "dnsvip0", "proto", "86", "metric")
    host.ip("-6", "route", "add", str(ONE), *route, "86")
    argv = host.command(Path(sys.executable).with_name("dnsvip"), "announce", str(ONE), str(OTHER))
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        said = [process.stdout.readline() for _ in range(2)]
        assert said == [f"withdraw route {prefix} next-hop self\n" for prefix in (ONE, OTHER)]
        host.ip("-6", "route", "add", str(ONE), *route, "10")
        assert process.stdout.readline() == f"announce route {ONE} next-hop self med 10\n"
        host.ip("-4", "route", "add", str(OTHER), *route, "60")
        assert process.stdout.readline() == f"announce route {OTHER} next-hop self med 60 community [65535:0]\n"
        host.ip("link", "del", "dnsvip0")
        said = sorted(process.stdout.readline() for _ in range(2))
        assert said == sorted(f"withdraw route {prefix} next-hop self\n" for prefix in (ONE, OTHER))
        process.stdin.close()
        assert process.wait(10) == 0

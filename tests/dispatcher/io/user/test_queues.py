"""The queues of the TUN device, as the kernel fills them: who shares one, what a flood loses, who may not have them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from dnsvip.demo.netns import Host, World
from dnsvip.dispatcher.io.user.queues import ALONE, LENGTH, QUEUES

pytestmark = pytest.mark.network

OPEN = """
import json, os, socket, struct, subprocess
from ipaddress import IPv4Address, IPv6Address
from dnsvip.dispatcher.io.user.netlink import Kernel
from dnsvip.dispatcher.io.user.queues import LENGTH, QUEUES, Queues

device = Queues("dnsvip0")
kernel = Kernel()
index = kernel.start_device("dnsvip0", 1500, device.length)
raw = {version: socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
       for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6))}
for version in raw:
    subprocess.run(["ip", f"-{version}", "route", "replace", "default", "dev", "dnsvip0"], check=True)

def send(source, vip="2001:db8:a:1::1"):
    if isinstance(source, IPv6Address):
        data = struct.pack("!IHBB16s16s", 6 << 28, 4, 17, 64, source.packed, IPv6Address(vip).packed) + bytes(4)
        raw[6].sendto(data, (vip, 0))
    else:
        data = struct.pack("!BBHHHBBH4s4s", 69, 0, 24, 1, 0, 64, 17, 0, source.packed, IPv4Address("192.0.2.9").packed)
        raw[4].sendto(data + bytes(4), ("192.0.2.9", 0))

def came():
    found = []
    while ready := device.ready(QUEUES):
        for queue in ready:
            data = os.read(queue, 2000)
            found.append((queue, str(IPv6Address(data[8:24]) if data[0] >> 4 == 6 else IPv4Address(data[12:16]))))
    return found
"""
WHERE = """
n6 = [IPv6Address((0x20010DB8 << 16 | n) << 80 | low << 64 | 1) for n in range(400) for low in (1, 2)]
n4 = [IPv4Address(10 << 24 | n << 8 | low) for n in range(400) for low in (1, 2)]
found = []
for source in n6 + n4:
    send(source)
    found += came()
print(json.dumps(found))
"""
FLOOD = """
greedy = IPv6Address("2001:db8:66::1")
for _ in range(LENGTH + 500): send(greedy)
dropped, (own, _), *_ = device.dropped(), *came()
for n in range(1, 100):
    send(IPv6Address((0x20010DB9 << 16 | n) << 80 | 1))
    ((queue, other),) = came()
    if queue != own: break
before = device.dropped()
for _ in range(3 * LENGTH): send(greedy)
send(IPv6Address(other))
ready, after = device.ready(QUEUES), device.dropped()
print(json.dumps([dropped, before, after, own, queue, ready, [source for _, source in came()].count(other)]))
"""
COUNT = 'print(json.dumps([len(device), device.length])); send(IPv6Address("2001:db8::1")); assert len(came()) == 1'
TWICE = """
from dnsvip.errors import PlatformError
for again in (lambda: Queues("dnsvip0"), lambda: Queues("dnsvip0")):
    try: again(); print(json.dumps("opened"))
    except PlatformError as error: print(json.dumps(str(error)))
"""
REFUSED = """
import json
from dnsvip.dispatcher.io.user.queues import Queues
from dnsvip.errors import PlatformError
try: Queues("dnsvip0")
except PlatformError as error: print(json.dumps(str(error)))
"""
VETH = ("link", "add", "name")
UNABLE = ("setpriv", "--bounding-set=-bpf,-sys_admin", "--inh-caps=-bpf,-sys_admin")


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """A host without any device."""
    if reason := World.available(tun=True):
        pytest.skip(reason)
    if os.geteuid() != 0:
        pytest.skip("loading kernel programs needs root")
    with World() as world:
        yield world.host("node")


def said(host: Host, script: str, *prefix: str, opening: str = OPEN) -> Any:
    """What a script says of a device that it has opened."""
    done = host.run(*prefix, sys.executable, "-c", opening + script, timeout=60)
    return json.loads(done.stdout.splitlines()[-1])


def test_each_network_has_one(host: Host) -> None:
    """All packets of a network (/48 or /24) come by one queue, those of 800 networks by all, and no queue has many."""
    queues: dict[str, set[int]] = {}
    networks: dict[int, set[str]] = {}
    found = said(host, WHERE)
    assert len(found) == 1600
    for queue, source in found:
        network = source.rsplit(".", 1)[0] if "." in source else ":".join(source.split(":")[:3])
        queues.setdefault(network, set()).add(queue)
        networks.setdefault(queue, set()).add(network)
    assert len(queues) == 800
    assert all(len(each) == 1 for each in queues.values())
    assert len(networks) == QUEUES
    assert max(map(len, networks.values())) < 4 * 800 / QUEUES


def test_a_flood_loses_its_own(host: Host) -> None:
    """What a network sends beyond its queue is dropped and counted; another's packet comes, and is ready as soon."""
    first, before, after, own, queue, ready, came = said(host, FLOOD)
    assert first == before == 500
    assert after - before == 2 * LENGTH
    assert queue != own
    assert set(ready) == {own, queue}
    assert came == 1


def test_without_the_right_there_is_one(host: Host) -> None:
    """A process that may not load the program has one queue that is longer; it works as well."""
    assert said(host, COUNT) == [QUEUES, LENGTH]
    assert said(host, COUNT, *UNABLE) == [1, ALONE]


@pytest.mark.parametrize("prefix", [(), UNABLE])
def test_a_second_dispatcher_is_refused(host: Host, prefix: tuple[str, ...]) -> None:
    """Nobody joins the queues of another dispatcher."""
    assert "another dispatcher runs" in said(host, TWICE, *prefix)


@pytest.mark.parametrize(
    "made", [("tuntap", "add", "mode", "tun", "multi_queue", "name"), ("tuntap", "add", "mode", "tap", "name"), VETH]
)
@pytest.mark.parametrize("prefix", [(), UNABLE])
def test_a_device_that_cannot_be_used(host: Host, made: tuple[str, ...], prefix: tuple[str, ...]) -> None:
    """Of a device that somebody else has made and that is not as we need it, that is said, and not that another
    dispatcher runs."""
    host.ip(*made, "dnsvip0", *(("type", "veth") if made == VETH else ()))
    try:
        text = said(host, "", *prefix, opening=REFUSED)
    finally:
        host.ip("link", "del", "dnsvip0")
    assert "ip link delete dnsvip0" in text
    assert "another dispatcher" not in text


def test_a_device_made_before(host: Host) -> None:
    """A device that the administrator has made for us is used as it is, with one queue."""
    host.ip("tuntap", "add", "mode", "tun", "name", "dnsvip0")
    try:
        assert said(host, COUNT) == [1, ALONE]
    finally:
        host.ip("link", "del", "dnsvip0")

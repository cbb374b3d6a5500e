"""Quality of service on real packets, in both data planes: who exceeds a limit loses its own, nobody else's."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path
from typing import ClassVar

import pytest

from dnsvip.address.fields import pack_claims
from dnsvip.address.proof import Bind, client_key, prove
from dnsvip.demo.netns import World
from dnsvip.site import Cluster
from tests.network.dispatching import Capture, read_snapshot, wait_until
from tests.network.field import TIERS, TRAFFIC, Field, kernel_world

pytestmark = [pytest.mark.network, pytest.mark.usefixtures("tun")]

PLANES = {"user": "d1", "xdp": "d2"}
SECONDS = 4
OPEN = """
import select, socket, sys, time
count, vip = int(sys.argv[1]), sys.argv[2]
waiting = [socket.socket(socket.AF_INET6) for _ in range(count)]
for one in waiting: one.setblocking(False); one.connect_ex((vip, 8000))
until, opened = time.monotonic() + 0.7, 0
while waiting and time.monotonic() < until:
    for one in select.select([], waiting, [], 0.1)[1]: waiting.remove(one); opened += 1
print(opened)
"""
SEND = """
import socket, sys
sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 2)
for _ in range(int(sys.argv[2])): sender.sendto(b"x", (sys.argv[1], 9))
"""
"""Sends datagrams of one flow at once that say they are capable of ECN (RFC 3168: ECT(0))."""
PUSH = f"""
import socket, sys, time
sender, begun, rate, sent = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM), time.monotonic(), int(sys.argv[2]), 0
while (now := time.monotonic() - begun) < {SECONDS}:
    while sent < rate * now: sent += sender.sendto(bytes(1200), (sys.argv[1], 9))
    time.sleep(0.005)
print(now)
"""
AT_ONCE = """
import socket, sys
sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
for vip in sys.argv[1:]: sender.sendto(b"x", (vip, 9))
"""
POLICED = 500_000
"""Bytes per second of each client of the policed tier."""


class QualityField(Field):
    """A field whose tiers are limited for each client."""

    codes: ClassVar = TIERS | {"assured": 5, "plain": 6}

    def site(self) -> str:
        """See Field.site."""
        site = super().site()
        held = 'rate = { new_flows = 5, burst = 1, over = "hold" }'
        assert held in site
        site = site.replace(held, 'rate = { new_flows = 0.1, burst = 8, over = "drop", per = "client" }')
        policing = f'policing = {{ bytes = {POLICED}, burst = 0.25, per = "client" }}'
        mark = 'policing = { packets = 1, burst = 5, over = "mark", per = "client" }'
        more = f'[tier.assured]\ncode = 5\npool = "direct"\ndscp = 34\n{mark}\n'
        more += f'[tier.plain]\ncode = 6\npool = "direct"\n{mark}\n'
        return site.replace("[tier.tunnel]", f"{policing}\n{more}[tier.tunnel]")

    def open(self, count: int, vip: str) -> int:
        """How many of so many connections at once are open before a SYN is sent again."""
        return int(self.client.run("python3", "-c", OPEN, str(count), vip).stdout)

    def classes(self, vip: str, count: int) -> dict[int, int]:
        """Traffic classes (DSCP and ECN) that the server sees of so many datagrams of one flow."""
        capture = Capture(
            self.servers["s1"], f"ip6 dst {vip} and udp", self.folder / f"{vip[-6:].replace(':', '')}.pcap"
        )
        self.client.run("python3", "-c", SEND, vip, str(count))
        found = [re.search(r"class 0x([0-9a-f]+)", line) for line in capture.lines()]
        return dict(Counter(int(each[1], 16) if each else 0 for each in found))

    def pushed(self, vip: str) -> float:
        """Bytes per second that arrive at the server while a client sends it twice what it may, whatever is lost."""
        before, took = self.received(), float(self.client.run("python3", "-c", PUSH, vip, str(2 * POLICED)).stdout)
        return (self.received() - before) / took

    def received(self) -> int:
        """Bytes that have come to the server."""
        (link,) = json.loads(self.servers["s1"].ip("-j", "-s", "link", "show", "eth0"))
        return int(link["stats64"]["rx"]["bytes"])

    def uploaded(self, vip: str) -> float:
        """Bytes per second of payload that arrive at the server over TCP."""
        said = self.client.run("iperf3", "-J", "-6", "-c", vip, "-t", str(SECONDS), timeout=60).stdout
        return float(json.loads(said)["end"]["sum_received"]["bytes"]) / SECONDS


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QualityField]:
    """A dispatcher of each data plane, and one server."""
    with kernel_world() as world:
        made = QualityField(world, tmp_path_factory.mktemp("quality"), list(PLANES), servers=1)
        made.servers["s1"].start("iperf3", "-s")
        for name in made.dispatchers:
            made.dispatch(name)
        yield made


@pytest.fixture(params=PLANES)
def plane(request: pytest.FixtureRequest, field: QualityField) -> str:
    """The dispatcher that all packets go through."""
    name = PLANES[request.param]
    field.spread([name])
    return name


def test_each_client_has_its_own(field: QualityField, plane: str) -> None:
    """A client that opens many connections gets its burst of them, and leaves another's to it; a client that sends too
    much loses packets, in a connection that is known already, and another loses none."""
    assert field.open(60, field.address("held", client=1)) == 8
    assert field.open(8, field.address("held", client=2)) == 8
    counters = field.status(plane)["counters"]
    assert counters["over-rate"] >= 52
    assert counters["policed"] == 0
    assert field.traffic("push", "30000", field.address("direct", client=2))["arrived"]
    assert field.status(plane)["counters"]["policed"] == 0
    field.traffic("push", "450000", field.address("direct", client=1))
    assert field.status(plane)["counters"]["policed"] > 0
    assert field.status(plane)["buckets"]["clients"]["bound"] == 65_536


@pytest.mark.parametrize(("tier", "within", "over"), [("assured", 34, 38), ("plain", 0, 1)])
def test_a_mark_arrives(field: QualityField, plane: str, tier: str, within: int, over: int) -> None:
    """What is over a limit with `over = "mark"` reaches the server with the highest drop precedence of its class, or as
    lower effort; its bits for congestion notification (ECN) are as the client set them."""
    seen = field.classes(field.address(tier, client=3), 20)
    assert set(seen) == {within << 2 | 2, over << 2 | 2}
    assert seen[over << 2 | 2] in (14, 15), "packets = 1, burst = 5"
    assert sum(seen.values()) == 20
    assert field.status(plane)["counters"]["policed-marked"] >= 14


def test_a_policed_client_gets_its_rate(field: QualityField, plane: str) -> None:
    """Whether it sends twice as much regardless (UDP) or follows its losses (TCP), about its rate arrives."""
    most = POLICED + POLICED * 0.25 / SECONDS
    assert 0.8 < field.pushed(field.address("direct", client=4)) / most < 1.15
    assert 0.4 < field.uploaded(field.address("direct", client=5)) / most < 1.15


def test_a_flood_of_new_flows(field: QualityField) -> None:
    """Beside a client that opens more flows than can be verified, others' connections are opened at once, of all
    networks but perhaps one that shares its queue; whatever came is counted, by the kernel or here."""
    greedy, router = field.world.host("greedy"), field.router
    field.world.link(greedy, router, a_addrs=["2001:db8:66::10/64"], b_addrs=["2001:db8:66::1/64"])
    greedy.route("default", "via", "2001:db8:66::1")
    quiet = field.world.host("quiet")
    field.world.link(quiet, router, a_addrs=["2001:db8:88::10/64"], b_addrs=["2001:db8:88::1/64"])
    quiet.route("default", "via", "2001:db8:88::1")
    field.spread(["d1"])
    issued = [field.address("direct", nonce, client=7) for nonce in range(10)]
    command = greedy.command(sys.executable, TRAFFIC, "opens", "20", "150000", *issued)
    pace = (sys.executable, TRAFFIC, "pace", "1", "100", field.address("direct", client=8))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as flood:
        wait_until(lambda: field.status("d1")["counters"]["overload"] > 1000)
        paces = [subprocess.Popen(host.command(*pace), stdout=subprocess.PIPE) for host in (field.client, quiet)]
        said = [json.loads(each.communicate(timeout=30)[0]) for each in paces]
        assert flood.poll() is None, "it ended before"
        flood.terminate()
    assert any(each["at_once"] > 95 and not each["failed"] for each in said), said
    wait_until(lambda: field.status("d1")["waiting"] == 0)
    status = field.status("d1")
    (link,) = json.loads(field.dispatchers["d1"].ip("-j", "-s", "link", "show", "dnsvip0"))
    came = link["stats64"]["tx"]
    assert status["packets"] == came["packets"] + came["dropped"]
    assert status["packets"] == sum(status["counters"].values())
    assert status["queues"] == 32


class SayingField(Field):
    """A field whose client `acme`, of the tier whose packets are held, says how urgent it is."""

    def site(self) -> str:
        """See Field.site."""
        layout = '[["tier", 4], ["client", 20], ["expiry", 7], ["nonce", 6]]'
        site = super().site()
        assert layout in site
        saying = layout.replace("20", "17") + '\nclaims = [["priority", 3]]\nresume_rate = 0'
        return site.replace(layout, saying) + '[client.acme]\nid = 1001\ntier = "held"\n'

    def said(self, priority: int, nonce: int) -> str:
        """A proven address of the client that says this priority."""
        snapshot = read_snapshot(self.folder, "d1.toml")
        cluster = snapshot.site.clusters["web"]
        assert isinstance(cluster, Cluster)
        layout = cluster.address_layout
        key = client_key(snapshot.masters["web"], layout, 1001, 0)
        issued = int(IPv6Address(self.address("held", nonce, client=1001)))
        slot = int(time.time()) // cluster.slot_seconds
        claims = pack_claims(cluster.claims, {"priority": priority})
        source = int(IPv6Address("2001:db8:77::10"))
        return str(IPv6Address(prove(layout, issued, key, Bind.ADDRESS, source, 0, slot, claims)))


def test_held_packets_go_by_priority(world: World, tmp_path: Path) -> None:
    """Of the first packets that wait for their turn the one of the highest priority arrives first, whichever came
    first; those of one priority in the order in which they came."""
    field = SayingField(world, tmp_path, ["user"], servers=1)
    field.dispatch("d1")
    said = [(priority, field.said(priority, nonce)) for nonce, priority in enumerate((0, 1, 6, 1, 3))]
    capture = Capture(field.servers["s1"], "ip6 and udp dst port 9", tmp_path / "held.pcap")
    field.client.run("python3", "-c", AT_ONCE, *(vip for _, vip in said))
    wait_until(lambda: field.status("d1")["held"] == 0)
    arrived = [vip for line in capture.lines() for _, vip in said if f"> {vip}." in line]
    counters = field.status("d1")["counters"]
    assert counters["held"] == 4, {reason: number for reason, number in counters.items() if number}
    assert [said.index((priority, vip)) for at in arrived for priority, vip in said if vip == at] == [0, 2, 4, 1, 3]

"""IPv4 under nat on real packets between real programs, in both data planes."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator

import pytest

from dnsvip.demo.netns import Host
from tests.network.dispatching import Capture, wait_until
from tests.network.field import Field, kernel_world

pytestmark = pytest.mark.network
PLANES = {"user": "d1", "xdp": "d2"}
VIPS = ("192.0.2.10", "192.0.2.11")
SERVER = "10.0.0.31"
BIG = 600_000
UDP_ECHO = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("0.0.0.0", 7000))
while True:
    data, peer = server.recvfrom(65535)
    server.sendto(f"{peer[0]} {peer[1]} ".encode() + data, peer)
"""
ASK = """
import socket, sys
vip, to, port, check = sys.argv[1], *map(int, sys.argv[2:])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)
s.setsockopt(socket.SOL_SOCKET, 11, not check)  # SO_NO_CHECK
s.bind(("0.0.0.0", port)); s.connect((vip, to)); s.send(b"hello")
try: print(s.recv(2000).decode())
except ConnectionRefusedError: print("refused")
"""


class Nat4Field(Field):
    """A dispatcher of each data plane, and one `server` behind nat that has only an IPv4 address. `plane` is the
    dispatcher that packets go by."""

    server: Host
    plane: str

    def site(self) -> str:
        """See Field.site."""
        site = super().site().replace("direct = [8, 9]", "direct = [8, 9], translated = [10, 11]")
        return site.replace('{ name = "n1", address = "fd00:10::31" }', f'{{ name = "n4", address = "{SERVER}" }}')

    def wire(self) -> Host:
        """Connect the server and start its programs."""
        host = self.world.host("n4")
        self.world.link(host, self.segment, a_addrs=[f"{SERVER}/24"], a_name="eth0", b_name="n4")
        files = self.folder / "n4"
        files.mkdir()
        (files / "big").write_bytes(b"x" * BIG)
        host.start(sys.executable, "-m", "http.server", "--bind", SERVER, "--directory", files, "80")
        host.start(sys.executable, "-c", UDP_ECHO)
        wait_until(lambda: ":80 " in host.run("ss", "-ltnH").stdout and ":7000 " in host.run("ss", "-lunH").stdout, 30)
        return host

    def use(self, name: str) -> None:
        """Send clients' packets and the server's by one dispatcher."""
        self.spread([name])
        self.server.ip("-4", "route", "replace", "default", "via", f"10.0.0.{int(name[1:]) + 1}")
        for host in (self.server, self.client):
            host.ip("-4", "route", "flush", "cache")

    def fetch(self, vip: str) -> int:
        """Bytes of a download."""
        return len(self.client.run("curl", "-s", "-m", "20", f"http://{vip}/big").stdout)

    def ask(self, vip: str, to: int = 7000, port: int = 0, *, check: bool = True) -> str:
        """The answer on a connected UDP socket, which takes only what comes from the VIP itself."""
        return self.client.run(sys.executable, "-c", ASK, vip, str(to), str(port), str(int(check))).stdout.strip()

    def capture(self, host: Host, expression: str) -> Capture:
        """Capture packets on a host's eth0."""
        return Capture(host, expression, self.folder / f"{host.name}-{time.monotonic_ns()}.pcap")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nat4Field]:
    """A field with both dispatchers running."""
    with kernel_world() as world:
        field = Nat4Field(world, tmp_path_factory.mktemp("nat4"), list(PLANES), servers=1)
        field.server = field.wire()
        for name in field.dispatchers:
            field.dispatch(name)
        yield field


@pytest.fixture(params=list(PLANES))
def field(both: Nat4Field, request: pytest.FixtureRequest) -> Nat4Field:
    """The field, with its packets going by one of the two."""
    both.plane = PLANES[request.param]
    both.use(both.plane)
    return both


def test_tcp(field: Nat4Field) -> None:
    """A download is whole; the server sees only its own address, the client the VIP, and every checksum is right."""
    at_server = field.capture(field.server, "tcp port 80")
    at_router = field.capture(field.router, "tcp port 80")
    assert field.fetch(VIPS[0]) == BIG
    lines = at_server.lines()
    assert any(f"> {SERVER}.80: Flags [S]" in line and "(correct)" in line for line in lines)
    assert not any(f"{VIPS[0]}.80" in line for line in lines)
    assert not any("incorrect" in line or "bad cksum" in line for line in lines if f"> {SERVER}.80" in line)
    lines = at_router.lines()
    replies = [line for line in lines if f"{VIPS[0]}.80 >" in line]
    assert replies
    assert not any("incorrect" in line or "bad cksum" in line for line in replies)
    assert not any("> 198.51.100.10" in line for line in lines if line not in replies)


def test_udp(field: Nat4Field) -> None:
    """Datagrams return from the VIP, with a checksum and without; a closed port's ICMP error does, too."""
    before = field.status(field.plane)["counters"]
    for check in (True, False):
        assert field.ask(VIPS[0], check=check).endswith(" hello")
    assert field.ask(VIPS[0], 7001) == "refused"
    after = field.status(field.plane)["counters"]
    assert after["reply"] >= before["reply"] + 2
    assert after["icmp-error"] == before["icmp-error"] + 1


def test_flows_that_differ_only_in_the_vip(field: Nat4Field) -> None:
    """With one client port and one server, each VIP's answer comes from that VIP."""
    answers = [field.ask(vip, port=5555).split() for vip in VIPS]
    assert [answer[0] for answer in answers] == ["198.51.100.10"] * 2
    ports = [answer[1] for answer in answers]
    assert len(set(ports)) == 2
    assert "5555" in ports


def test_ping(field: Nat4Field) -> None:
    """Echoes are answered by the VIP, also in fragments."""
    for size in ("56", "4000"):
        said = field.client.run("ping", "-c", "3", "-i", "0.2", "-W", "5", "-s", size, VIPS[0]).stdout
        assert "3 received" in said, said
        assert f"from {VIPS[0]}" in said


def test_path(field: Nat4Field) -> None:
    """As a traceroute sees it: the router, the dispatcher, the VIP, each by what answers a probe with so many hops."""
    seen = []
    for hops in ("1", "2", "3"):
        said = field.client.run("ping", "-c", "1", "-W", "5", "-t", hops, VIPS[0], check=False).stdout
        seen += re.findall(r"[Ff]rom ([0-9.]+).*(exceeded|ttl=)", said)
    dispatcher = f"10.0.0.{int(field.plane[1:]) + 1}"
    assert seen == [("198.51.100.1", "exceeded"), (dispatcher, "exceeded"), (VIPS[0], "ttl=")]


def test_fragmentation_needed_reaches_the_server(field: Nat4Field) -> None:
    """A router's error about the VIP's packet reaches the server, which sends smaller ones from then on."""
    before = field.status(field.plane)["counters"]["icmp-error"]
    field.router.ip("link", "set", "client", "mtu", "1300")
    try:
        assert field.fetch(VIPS[0]) == BIG
    finally:
        field.router.ip("link", "set", "client", "mtu", "1500")
    assert field.status(field.plane)["counters"]["icmp-error"] > before


def test_the_server_s_own_connections(field: Nat4Field) -> None:
    """What the server itself opens passes untranslated."""
    said = field.server.run("ping", "-c", "2", "-i", "0.2", "-W", "5", "198.51.100.10").stdout
    assert "2 received" in said, said

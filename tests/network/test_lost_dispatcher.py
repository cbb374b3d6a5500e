"""A dispatcher is lost, and comes back, while TCP flows and QUIC connections run whose addresses have expired: none is
lost, in either data plane (dnsvip/address/README.md, "Flows that outlive their address").

Two dispatchers of one plane behind ECMP by flow, four servers, direct and in tunnels.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from ipaddress import IPv6Address
from itertools import product

import pytest

from dnsvip import site
from dnsvip.address.proof import Bind, client_key, prove
from tests.long import LONG, long_or
from tests.network.dispatching import read_snapshot, wait_until
from tests.network.field import PREFIX, TIERS, VERIFYING, Field, kernel_world
from tests.network.hosted import run_on

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(600)]

TCP, QUIC = long_or(100, long=1000), long_or(16, long=100)
EVERY = 1.0 if LONG else 0.3
"""Seconds between a server's lines."""
UNITS = 3
"""Of `expiry_unit`, from an epoch's activation to the expiry of the addresses here: hours while flows are opened, then
seconds, which are over."""
UNNOTICED = 0.3
"""Seconds for which a lost dispatcher still gets packets."""
CLIENT = "2001:db8:77::10"
CLIENTS = """
[client.direct]
id = 1001
tier = "direct"
[client.tunnel]
id = 1002
tier = "tunnel"
"""
DATAGRAMS = """
import socket, sys
for vip in sys.argv[1:]: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(bytes(8), (vip, 8001))
"""


class Cluster(Field):
    """Dispatchers of one plane, and servers with QUIC too; addresses expire and proofs lapse in its time."""

    unit = 3600
    """Seconds of `expiry_unit` and `slot_seconds`."""

    def site(self) -> str:
        """See Field.site."""
        times = f"expiry_unit = {self.unit}\nslot_seconds = {self.unit}\n"
        return super().site().replace("[cluster.legacy]", f"{times}[cluster.legacy]", 1) + CLIENTS

    def expire(self) -> None:
        """Let the time of all addresses be over."""
        self.unit = 1
        self.apply()
        self.settle()

    def serve_quic(self) -> None:
        """Start the servers' QUIC programs."""
        files = ("-keyout", self.folder / "key.pem", "-out", self.folder / "cert.pem")
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        self.router.run("openssl", "req", "-x509", *curve, "-days", "2", "-subj", "/CN=vip", *files)
        for name, host in self.servers.items():
            host.start(sys.executable, "-m", "tests.network.quic", "server", name, self.folder)
        for host in self.servers.values():
            wait_until(lambda host=host: ":8443 " in host.run("ss", "-lunH").stdout, 60)

    def addresses(self) -> list[str]:
        """Two addresses for each tier's client as DNS issues them, and two with its proof."""
        snapshot = read_snapshot(self.folder, "d1.toml")
        cluster, active = snapshot.site.clusters["web"], snapshot.keyrings["web"].active
        assert isinstance(cluster, site.Cluster)
        assert active
        layout, slot = cluster.address_layout, int(time.time()) // cluster.slot_seconds
        made = []
        for tier, nonce in product(("direct", "tunnel"), range(2)):
            client = snapshot.site.clients[tier]
            values = {"tier": TIERS[tier], "client": client.id, "expiry": UNITS, "nonce": nonce}
            key = client_key(snapshot.masters["web"], layout, client.id, client.key_generation)
            issued = active[1].encode(values)
            made += [issued, prove(layout, issued, key, Bind.ADDRESS, int(IPv6Address(CLIENT)), 0, slot)]
        return [str(IPv6Address(each)) for each in made]

    def kill(self, name: str) -> None:
        """Kill a dispatcher, and its program in the kernel; notice it a moment later."""
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait(20)
        if self.modes[name] == "xdp":
            run_on(self.dispatchers[name], "xdp", "detach", self.folder / f"{name}.toml", timeout=VERIFYING)
        time.sleep(UNNOTICED)
        self.spread([each for each in self.dispatchers if each != name])

    def add(self, name: str) -> None:
        """Start a dispatcher, which knows no flow, and give it its share of them, and the others others."""
        self.dispatch(name)
        assert self.status(name)["flows"]["established"] + self.status(name)["flows"]["new"] == 0
        self.spread(sorted(self.dispatchers, key=lambda each: each != name))

    def count(self, reason: str) -> int:
        """A counter of all running dispatchers."""
        return sum(self.counts(reason).values())

    def counts(self, reason: str) -> dict[str, int]:
        """The same of each."""
        running = [name for name, process in self.processes.items() if process.poll() is None]
        return {name: self.status(name)["counters"][reason] for name in running}


@pytest.fixture(scope="module", params=["user", "xdp"])
def field(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two running dispatchers of one plane."""
    with kernel_world() as world:
        made = Cluster(world, tmp_path_factory.mktemp("cluster"), [request.param] * 2)
        made.unwrap()
        made.serve_quic()
        for name in made.dispatchers:
            made.dispatch(name)
        yield made


@pytest.mark.parametrize("tier", ["direct", "tunnel"])
def test_errors_reach_the_server_by_another_dispatcher(field: Cluster, tier: str) -> None:
    """Packet Too Big about a download through one dispatcher comes to the other, which knows no such flow: it reaches
    the flow's server, which sends smaller packets."""
    errors = ("ipproto", "ipv6-icmp", "table", "77")
    field.router.ip("-6", "route", "replace", PREFIX, "via", "fd00:10::3", "table", "77")
    field.router.ip("-6", "rule", "add", *errors)
    field.router.ip("link", "set", "client", "mtu", "1300")
    field.spread(["d1"])
    before = field.status("d2")["actions"]["icmp-error-unknown-flow"]["forward"]
    try:
        for host in field.servers.values():
            host.ip("-6", "route", "flush", "cache")
        for nonce in range(3):
            assert field.traffic("fetch", "300000", field.address(tier, nonce))["bytes"] == 300_000
        assert field.status("d2")["actions"]["icmp-error-unknown-flow"]["forward"] > before
        assert field.status("d1")["counters"]["icmp-error"] == 0
    finally:
        field.router.ip("link", "set", "client", "mtu", "1500")
        field.router.ip("-6", "rule", "del", *errors)
        field.spread(list(field.dispatchers))


def test_no_flow_is_lost(field: Cluster) -> None:
    """Killed, added, the other killed, added: every flow goes on each time, at its server, although its address has
    expired, and its proof lapsed. New connections to those addresses are refused."""
    vips, before = field.addresses(), field.count("issued") + field.count("proven")
    flows = [field.downloads(TCP, vips, f"600/{EVERY}"), field.quic(QUIC, vips)]
    assert field.count("issued") + field.count("proven") - before == TCP + QUIC
    field.expire()
    assert refused(field, vips) == len(vips)
    counts: dict[str, list[float]] = {}
    for number, (step, name) in enumerate(
        ((field.kill, "d1"), (field.add, "d1"), (field.kill, "d2"), (field.add, "d2"))
    ):
        resumed = field.counts("resumed")
        step(name)
        went_on = [each.more() for each in flows]
        assert [(each["waiting"], each["harmed"]) for each in went_on] == [([], {})] * 2, f"{step.__name__} {name}"
        counts[f"{number} {step.__name__} {name}"] = [round(each["seconds"], 2) for each in went_on]
        assert any(count > resumed.get(running, 0) for running, count in field.counts("resumed").items())
    print(f"seconds until all went on (TCP, QUIC): {counts}")  # noqa: T201 - the figure, with -s
    results = [each.finish() for each in flows]
    assert [result["harmed"] for result in results] == [{}, {}]
    assert [len(result["by_flow"]) for result in results] == [TCP, QUIC]


def refused(field: Cluster, vips: list[str]) -> int:
    """How many of the addresses the dispatchers refuse new flows to as expired."""
    before = field.count("expired")
    field.client.run("python3", "-c", DATAGRAMS, *vips)
    wait_until(lambda: field.count("expired") - before >= len(vips), 30)
    return field.count("expired") - before

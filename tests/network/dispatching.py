"""A client, a router, a dispatcher and servers, for the dispatcher's tests on real packets.

client - far - router ======== dispatcher      Replies to direct flows go from the server to the router.
                      segment  fast-1, fast-2  The link from far to router has an MTU of 1300.
                               nat-1, nat-2    (default route: the dispatcher)
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Awaitable, Callable
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any, TypeVar

from dnsvip.demo.netns import Host, World
from dnsvip.site import Snapshot
from dnsvip.site.io.files import load_node, zone_files
from dnsvip.site.plan import plan
from dnsvip.site.site_file import build_site
from dnsvip.store import KeyEncryptionKey, Store
from tests.network.hosted import start_on

Result = TypeVar("Result")
PLAIN = "2001:db8:a:1::1"
SERVERS = {"fast-1": "fd00:10::11", "fast-2": "fd00:10::12", "nat-1": "fd00:10::21", "nat-2": "fd00:10::22"}
TIERS = {"fast": 1, "translated": 2, "held": 3, "half": 4, "blocked": 15}


def clusters(default_tier: str, classes: str) -> str:
    """The clusters of a site file: one IPv6 cluster, and one IPv4 cluster with the given `classes` in TOML."""
    return f"""
[cluster.web]
prefix = "2001:db8:a:1::/64"
plain = "{PLAIN}"
layout = [["tier", 4], ["client", 20], ["expiry", 7], ["nonce", 6]]
tag_bits = 24
default_tier = "{default_tier}"
[cluster.legacy]
prefix = "192.0.2.0/28"
plain = "192.0.2.1"
classes = {{ {classes} }}
default_tier = "{default_tier}"
"""


SITE = (
    clusters("fast", "fast = [8, 9]")
    + """
[tier.fast]
code = 1
pool = "fast"
dscp = 34
[tier.translated]
code = 2
pool = "nat"
[tier.held]
code = 3
pool = "fast"
rate = { new_flows = 2, burst = 1, over = "hold" }
[tier.half]
code = 4
pool = "half"
[tier.blocked]
code = 15
action = "drop"
[pool.fast]
servers = [{ name = "fast-1", address = "fd00:10::11", weight = FAST1 }, { name = "fast-2", address = "fd00:10::12" }]
[pool.half]
servers = [{ name = "off-link", address = "2001:db8:dead::1" }, { name = "on-link", address = "fd00:10::11" }]
[pool.nat]
forward = "nat"
servers = [{ name = "nat-1", address = "fd00:10::21" }, { name = "nat-2", address = "fd00:10::22" }]
"""
)
NODE = """
database = "sqlite:///site.db"
state_dir = "state"
[dispatch]
flows = 5000
"""
UDP_ECHO = """
import socket
server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
server.bind(("::", 7000))
while True:
    data, peer = server.recvfrom(65535)
    server.sendto(NAME + b" " + str(peer[1]).encode() + b" " + data, peer)
"""


class Ground:
    """The connected hosts, with web and UDP servers and the dispatcher running on the site above."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder = world, folder
        self.client, self.far, self.router = (world.host(name) for name in ("client", "far", "router"))
        self.dispatcher, self.segment = world.host("dispatcher"), world.switch("segment")
        self.servers = {name: world.host(name) for name in SERVERS}
        self._wire()
        for name, host in self.servers.items():
            self._serve(name, host)
        (folder / "node.toml").write_text(NODE)
        self.apply()
        self.process = self.dispatch()

    def _wire(self) -> None:
        link = self.world.link
        link(self.client, self.far, a_addrs=["2001:db8:77::10/64", "198.51.100.10/24"],
             b_addrs=["2001:db8:77::1/64", "198.51.100.1/24"])  # fmt: skip
        link(self.far, self.router, a_addrs=["2001:db8:78::1/64", "203.0.113.1/24"],
             b_addrs=["2001:db8:78::2/64", "203.0.113.2/24"], mtu=1300)  # fmt: skip
        link(self.router, self.segment, a_addrs=["fd00:10::1/64", "10.0.0.1/24"], a_name="eth0")
        link(self.dispatcher, self.segment, a_addrs=["fd00:10::2/64", "10.0.0.2/24"], a_name="eth0")
        for router in (self.far, self.router, self.dispatcher):
            router.forwarding()
        self.client.route("default", "via", "2001:db8:77::1")
        self.client.route("default", "via", "198.51.100.1")
        self.far.route("default", "via", "2001:db8:78::2")
        self.far.route("default", "via", "203.0.113.2")
        self.router.route("2001:db8:77::/64", "via", "2001:db8:78::1")
        self.router.route("198.51.100.0/24", "via", "203.0.113.1")
        self.router.route("2001:db8:a:1::/64", "via", "fd00:10::2")
        self.router.route("192.0.2.0/28", "via", "10.0.0.2")
        self.dispatcher.route("default", "via", "fd00:10::1")
        self.dispatcher.route("default", "via", "10.0.0.1")

    def _serve(self, name: str, host: Host) -> None:
        self.world.link(host, self.segment, a_addrs=[f"{SERVERS[name]}/64"], a_name="eth0", b_name=name)
        host.route("default", "via", "fd00:10::2" if name.startswith("nat") else "fd00:10::1")
        if name.startswith("fast"):
            host.ip("-6", "route", "add", "local", "2001:db8:a:1::/64", "dev", "lo")
            host.ip("-4", "route", "add", "local", "192.0.2.0/28", "dev", "lo")
            host.ip("-4", "route", "add", "default", "via", "inet6", "fd00:10::1", "dev", "eth0")
        files = self.folder / name
        files.mkdir()
        (files / "who").write_text(name)
        (files / "big").write_bytes(name.encode() * 200_000)
        host.start(sys.executable, "-m", "http.server", "--bind", "::", "--directory", files, "80")
        host.start(sys.executable, "-c", UDP_ECHO.replace("NAME", repr(name.encode())))
        wait_until(lambda: host.run("curl", "-sf", "http://[::1]/who", check=False).stdout == name)

    def apply(self, fast_1: int = 100) -> None:
        """Apply the site with this weight for fast-1."""
        apply(self.folder, SITE.replace("FAST1", str(fast_1)))

    def dispatch(self) -> subprocess.Popen[bytes]:
        """Start a dispatcher; return once it forwards."""
        before = self.log.count("dispatching")
        process = start_on(self.dispatcher, "dispatch", self.folder / "node.toml", log=self.folder / "dispatch.log")
        wait_until(lambda: self.log.count("dispatching") > before or process.poll() is not None)
        assert process.poll() is None, self.log
        return process

    @property
    def log(self) -> str:
        """The dispatcher's log."""
        file = self.folder / "dispatch.log"
        return file.read_text() if file.exists() else ""

    def snapshot(self) -> Snapshot:
        """The current snapshot of the database."""

        return read_snapshot(self.folder)

    def address(self, tier: str, nonce: int = 0, client: int = 0) -> str:
        """An issued address."""
        active = self.snapshot().keyrings["web"].active
        assert active
        values = {"tier": TIERS[tier], "client": client, "expiry": 127, "nonce": nonce}
        return str(IPv6Address(active[1].encode(values)))

    def status(self) -> dict[str, Any]:
        """The dispatcher's status, read from its socket."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.folder / "state" / "dispatch.sock"))
            connection.sendall(b'{"do": "status"}\n')
            with connection.makefile() as text:
                version, status = json.loads(next(text)), json.loads(next(text))
                assert version == {"dispatch": 1}
                answer: dict[str, Any] = status
                return answer

    def count(self, reason: str) -> int:
        """One counter of the dispatcher."""
        counted: int = self.status()["counters"][reason]
        return counted

    def who(self, address: str, *options: str) -> str:
        """The server that answers the client at an address; empty if none does."""
        host = f"[{address}]" if ":" in address else address
        return self.client.run("curl", "-s", "-m", "3", *options, f"http://{host}/who", check=False).stdout

    def capture(self, host: Host, expression: str) -> Capture:
        """Capture packets on a host's eth0."""
        return Capture(host, expression, self.folder / f"{host.name}-{time.monotonic_ns()}.pcap")


class Capture:
    """Packets seen on an interface from construction until `lines` is called."""

    def __init__(self, host: Host, expression: str, file: Path) -> None:
        self._file, self._host = file, host
        said = file.with_suffix(".log")
        self._process = host.start(
            "tcpdump", "-i", "eth0", "-n", "--immediate-mode", "-U", "-w", file, expression, log=said
        )
        wait_until(lambda: said.exists() and "listening" in said.read_text())

    def lines(self) -> list[str]:
        """One line per packet, as `tcpdump -nv` prints it; waits a moment for the last ones."""
        time.sleep(0.3)
        self._process.terminate()
        self._process.wait()
        text = subprocess.run(["tcpdump", "-nvtr", self._file], check=True, capture_output=True, text=True).stdout
        return [line.replace("\n    ", " ") for line in text.replace("\n    ", " ").splitlines()]


def read_snapshot(folder: Path, node: str = "node.toml") -> Snapshot:
    """The current snapshot of a node file's database."""
    return asyncio.run(with_store(folder / node, lambda store: store.snapshots.load()))


def apply(folder: Path, site: str, node: str = "node.toml") -> None:
    """Apply a site file to a node file's database."""
    wanted = build_site(tomllib.loads(site), zone_files(folder))

    async def change(store: Store) -> None:
        stored = await store.objects.stored()
        changes = plan(stored.site, wanted, stored.origins)
        if changes:
            await store.objects.apply(changes, "test", "site")

    asyncio.run(with_store(folder / node, change))


async def with_store(file: Path, work: Callable[[Store], Awaitable[Result]]) -> Result:
    """Run a coroutine function on the store of a node file."""
    node = load_node(file)
    store = await Store.open(node.database, KeyEncryptionKey.load(node.key_file, {}))
    try:
        return await work(store)
    finally:
        await store.close()


def wait_until(condition: Callable[[], bool], seconds: float = 15) -> None:
    """Wait for a condition; the longer it takes, the less often it is looked at: looking often runs a program."""
    start = time.monotonic()
    while not condition():
        waited = time.monotonic() - start
        assert waited < seconds, "has not happened in time"
        time.sleep(min(max(0.05, waited / 10), 0.3))

"""Several dispatchers, of either data plane, behind one router that spreads flows over them (ECMP).

client - router ======== d1, d2       mode = "xdp" or "user", each with its node file, one database
          segment        s1 ... s4    servers; they reply through the router
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dnsvip.demo.kernel import face, mount_pins
from dnsvip.demo.netns import Host, World
from dnsvip.store import Store
from tests.network.dispatching import apply, clusters, read_snapshot, wait_until, with_store
from tests.network.hosted import run_on, start_on

TRAFFIC = Path(__file__).with_name("traffic.py")
PREFIX, PREFIX4 = "2001:db8:a:1::/64", "192.0.2.0/28"
PLAIN4 = "192.0.2.1"
VERIFYING = 180
"""Seconds in which a busy machine verifies the kernel program, which takes it five when idle."""
TIERS = {"direct": 1, "tunnel": 2, "translated": 3, "held": 4, "blocked": 15}
SITE = (
    clusters("direct", "direct = [8, 9]")
    + """
[tier.direct]
code = 1
pool = "direct"
[tier.tunnel]
code = 2
pool = "tunnel"
[tier.translated]
code = 3
pool = "nat"
[tier.held]
code = 4
pool = "direct"
rate = { new_flows = 5, burst = 1, over = "hold" }
[tier.blocked]
code = 15
action = "drop"
[pool.direct]
check = { tcp = 8000, interval = 0.5, timeout = 2.0 }
servers = [SERVERS]
[pool.tunnel]
forward = "encap"
servers = [SERVERS]
[pool.nat]
forward = "nat"
servers = [{ name = "n1", address = "fd00:10::31" }]
"""
)


@contextmanager
def kernel_world() -> Iterator[World]:
    """An empty topology in which kernel programs can be loaded, removed at the end; skips where that is not allowed."""
    if reason := World.available(tun=True):
        pytest.skip(reason)
    if os.geteuid() != 0:
        pytest.skip("loading kernel programs needs root")
    with World() as made:
        yield made


class Field:
    """The connected hosts, with servers running and no dispatcher yet."""

    codes: ClassVar[Mapping[str, int]] = TIERS

    def __init__(self, world: World, folder: Path, modes: Sequence[str], servers: int = 4) -> None:
        self.world, self.folder = world, folder
        self.pins = folder / "bpffs"
        self.client, self.router, self.segment = world.host("client"), world.host("router"), world.switch("segment")
        self.modes = {f"d{n}": mode for n, mode in enumerate(modes, 1)}
        self.dispatchers = {name: world.host(name) for name in self.modes}
        self.weights = {f"s{n}": 100 for n in range(1, servers + 1)}
        self.servers = {name: world.host(name) for name in self.weights}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        mount_pins(world, self.pins)
        self._wire()
        for name, host in self.servers.items():
            self.wire_server(name, host, f"fd00:10::2{name[1:]}")
        self.apply()

    def _wire(self) -> None:
        link = self.world.link
        link(self.client, self.router, a_addrs=["2001:db8:77::10/64", "198.51.100.10/24"],
             b_addrs=["2001:db8:77::1/64", "198.51.100.1/24"])  # fmt: skip
        link(self.router, self.segment, a_addrs=["fd00:10::1/64", "10.0.0.1/24"], a_name="eth0")
        self.router.forwarding()
        self.router.sysctl({"net.ipv6.fib_multipath_hash_policy": "1", "net.ipv4.fib_multipath_hash_policy": "1"})
        self.client.route("default", "via", "2001:db8:77::1")
        self.client.route("default", "via", "198.51.100.1")
        for name, host in self.dispatchers.items():
            number = int(name[1:]) + 1
            link(host, self.segment, a_addrs=[f"fd00:10::{number}/64", f"10.0.0.{number}/24"], a_name="eth0",
                 b_name=name)  # fmt: skip
            host.forwarding()
            host.route("default", "via", "fd00:10::1")
            host.route("default", "via", "10.0.0.1")
            face(self.segment, name, self.pins)
            (self.folder / f"{name}.toml").write_text(self.node(name))
        self.spread(list(self.dispatchers))

    def node(self, name: str) -> str:
        """A dispatcher's node file."""
        return (
            f'database = "sqlite:///site.db"\nstate_dir = "state-{name}"\nnode = "{name}"\n[dispatch]\n'
            f'mode = "{self.modes[name]}"\ninterface = "eth0"\nflows = 20000\npins = "{self.pins}/{name}"\n'
        )

    def spread(self, names: Sequence[str]) -> None:
        """Route the clusters' packets to these dispatchers, spread by flow."""
        for family, prefix, via in (("-6", PREFIX, "fd00:10::"), ("-4", PREFIX4, "10.0.0.")):
            hops = [word for name in names for word in ("nexthop", "via", f"{via}{int(name[1:]) + 1}")]
            self.router.ip(family, "route", "replace", prefix, *hops)

    def wire_server(self, name: str, host: Host, address: str) -> None:
        """Connect a server, directly and by tunnel, and start its programs."""
        self.world.link(host, self.segment, a_addrs=[f"{address}/64"], a_name="eth0", b_name=name)
        host.route("default", "via", "fd00:10::1")
        host.ip("-6", "route", "add", "local", PREFIX, "dev", "lo")
        host.ip("-4", "route", "add", "local", PREFIX4, "dev", "lo")
        host.ip("-4", "route", "add", "default", "via", "inet6", "fd00:10::1", "dev", "eth0")
        self.serve(name, host)

    def unwrap(self) -> None:
        """Make the servers unwrap tunnel packets in the kernel program."""
        for name, host in self.servers.items():
            self.segment.run("ethtool", "-K", name, "tx", "off")
            run_on(host, "xdp", "decap", "eth0", f"fd00:10::2{name[1:]}", "--pins", self.pins / name, timeout=90)

    def wire_nat(self) -> None:
        """Connect the server of pool nat, whose default route is d1."""
        self.translated = host = self.world.host("n1")
        self.world.link(host, self.segment, a_addrs=["fd00:10::31/64"], a_name="eth0", b_name="n1")
        host.route("default", "via", "fd00:10::2")
        self.serve("n1", host)

    def serve(self, name: str, host: Host) -> subprocess.Popen[bytes]:
        """Start a server's programs."""
        process = host.start(sys.executable, TRAFFIC, "server", name)
        wait_until(lambda: ":8000 " in host.run("ss", "-ltnH").stdout)
        return process

    def apply(self) -> None:
        """Apply the site with these `weights`."""
        apply(self.folder, self.site(), node="d1.toml")

    def site(self) -> str:
        """The site file with these `weights`."""
        entries = (
            f'{{ name = "{name}", address = "fd00:10::2{name[1:]}", weight = {weight} }}'
            for name, weight in self.weights.items()
        )
        return SITE.replace("SERVERS", ", ".join(entries))

    def dispatch(
        self,
        name: str,
        *options: str,
        command: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start a dispatcher, by a `command` of one's own where there is one; return once it forwards."""
        before = self.log(name).count("dispatching")
        host, argv = self.dispatchers[name], ("dispatch", *options, self.folder / f"{name}.toml")
        log = self.folder / f"{name}.log"
        process = host.start(*command, *argv, log=log, env=env) if command else start_on(host, *argv, log=log)
        wait_until(lambda: self.log(name).count("dispatching") > before or process.poll() is not None, VERIFYING)
        assert process.poll() is None, self.log(name)
        self.processes[name] = process

    def settle(self) -> None:
        """Wait until every running dispatcher uses the database's current generation."""
        generation = read_snapshot(self.folder, "d1.toml").generation
        running = [name for name, process in self.processes.items() if process.poll() is None]
        wait_until(lambda: all(self.status(name)["generation"] >= generation for name in running), 30)

    def weigh(self, **weights: int) -> None:
        """Give servers other weights; return once every running dispatcher uses them."""
        self.weights |= weights
        self.apply()
        self.settle()

    def log(self, name: str) -> str:
        """A dispatcher's log."""
        file = self.folder / f"{name}.log"
        return file.read_text() if file.exists() else ""

    def address(self, tier: str, nonce: int = 0, client: int = 0, expiry: int = 127) -> str:
        """An issued address."""
        active = read_snapshot(self.folder, "d1.toml").keyrings["web"].active
        assert active
        values = {"tier": self.codes[tier], "client": client, "expiry": expiry, "nonce": nonce}
        return str(IPv6Address(active[1].encode(values)))

    def status(self, name: str) -> dict[str, Any]:
        """A dispatcher's status, read from its socket."""
        return read_status(self.folder / f"state-{name}" / "dispatch.sock")

    def traffic(self, *words: str, timeout: float = 100) -> Mapping[str, Any]:
        """Run one of the traffic programs on the client to its end."""
        done = self.client.run(sys.executable, TRAFFIC, *words, timeout=timeout)
        result: Mapping[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result

    def downloads(self, flows: int, addresses: Sequence[str], seconds: float = 60) -> Downloads:
        """Start a number of downloads; return once all run."""
        return Downloads(self, (TRAFFIC, "download", str(flows), str(seconds), *addresses)).running()

    def quic(self, flows: int, addresses: Sequence[str]) -> Downloads:
        """Open a number of QUIC connections; return once all run."""
        return Downloads(self, ("-m", "tests.network.quic", "client", str(flows), *addresses)).running()


class Downloads:
    """Slow downloads, or connections, that run on the client until `finish`."""

    def __init__(self, field: Field, words: Sequence[str | Path]) -> None:
        command = field.client.command(sys.executable, *words)  # not Host.start: it must be stoppable
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def running(self) -> Downloads:
        """Itself, once all run."""
        assert self._process.stdout
        said = self._process.stdout.readline()
        assert said == "running\n", said
        return self

    def more(self) -> Mapping[str, Any]:
        """Wait until each has received more than now; those that have not, and how long that took."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("more\n")
        self._process.stdin.flush()
        result: Mapping[str, Any] = json.loads(self._process.stdout.readline())
        return result

    def finish(self) -> Mapping[str, Any]:
        """End the downloads; return what each received."""
        said, _ = self._process.communicate("\n", timeout=60)
        result: Mapping[str, Any] = json.loads(said.splitlines()[-1])
        return result


def rotate(folder: Path) -> None:
    """Create and activate a new key for the cluster once every dispatcher holds it."""

    async def change(store: Store) -> None:
        rotated = await store.keys.rotate("web", "test", time.time())
        async with asyncio.timeout(30):
            while (await store.snapshots.load()).keyrings["web"].active[0].slot != rotated.slot:  # type: ignore[index]
                await store.keys.advance(time.time())
                await asyncio.sleep(0.2)

    asyncio.run(with_store(folder / "d1.toml", change))


def read_status(path: Path) -> dict[str, Any]:
    """The status that a dispatcher reports on its socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        with connection.makefile() as text:
            status: dict[str, Any] = json.load(text)
            return status

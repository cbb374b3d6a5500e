"""Dispatchers that announce their prefixes by BGP to a router, which spreads packets over them: the files of deploy/bgp
with the real daemons, one set of processes for each host.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dnsvip.demo.host import stop
from dnsvip.demo.netns import Host
from tests.network.dispatching import wait_until, with_store
from tests.network.field import PREFIX, PREFIX4, Field
from tests.network.hosted import start_on

DEPLOY = Path(__file__).parents[2] / "deploy" / "bgp"
FRR = Path("/usr/lib/frr")
ANYCAST, ANYCAST_PREFIX = "2001:db8:53::53", "2001:db8:53::/48"
GRACE = 2.0
LISTENER = '[[dns.listen]]\nname = "any"\naddress = "[::]:53"\n'
ZONE_NAME = "example.test"
ZONE = """\
$ORIGIN example.test.
@ 60 IN SOA ns1 hostmaster 1 3600 600 86400 60
@ 60 IN NS ns1
ns1 60 IN AAAA 2001:db8:53::53
version 60 IN TXT "1"
"""
MORE = """
[tier.lone]
code = 5
pool = "lone"
[pool.lone]
check = { tcp = 8080, interval = 0.2, timeout = 2.0 }
servers = [{ name = "n1", address = "fd00:10::31" }]
[zone."example.test"]
file = "zone"
[service."often.example.test"]
cluster = "web"
"""


class Routing:
    """The routing daemons of one host, with the file that `text` is."""

    def __init__(self, host: Host, folder: Path, kind: str, text: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._host, file = host, folder / f"{kind}.conf"
        file.write_text(text)
        self._sockets = Path(tempfile.mkdtemp(prefix="dnsvip-bgp-"))  # the user frr has to reach them
        shutil.chown(self._sockets, *(("frr", "frr") if kind == "frr" else (0, 0)))
        self.processes = [
            host.start(*command, log=folder / f"{Path(str(command[0])).name}.log", env=_ENV)
            for command in _COMMANDS[kind](self._sockets, file)
        ]
        if kind == "frr":
            self._configure(file)

    def _configure(self, file: Path) -> None:
        """Give FRR's daemons its one file, as its unit does."""
        wait_until(lambda: all((self._sockets / f"{name}.vty").exists() for name in ("zebra", "bgpd", "bfdd")))
        self._host.run("vtysh", "--vty_socket", self._sockets, "-f", file)

    def show(self, command: str) -> Any:
        """JSON of a command of FRR's shell."""
        done = self._host.run("vtysh", "--vty_socket", self._sockets, "-c", f"{command} json", check=False)
        return json.loads(done.stdout or "{}")

    def stop(self) -> None:
        """End all."""
        for process in self.processes:
            stop(process)
        shutil.rmtree(self._sockets)


def _frr(folder: Path, _: Path) -> list[Sequence[str | Path]]:
    common = ("--vty_socket", folder, "-z", folder / "zserv.api", "--log", "stdout")
    return [
        (FRR / name, *common, "-i", folder / f"{name}.pid", *more)
        for name, more in (("zebra", ()), ("bfdd", ("--bfdctl", folder / "bfdd.sock")), ("bgpd", ()))
    ]


_COMMANDS: Mapping[str, Callable[[Path, Path], list[Sequence[str | Path]]]] = {
    "bird": lambda folder, file: [("bird", "-f", "-c", file, "-s", folder / "bird.ctl")],
    "frr": _frr,
    "exabgp": lambda _, file: [("exabgp", file)],
}
_ENV = {"exabgp.daemon.user": "root", "exabgp.log.destination": "stdout", "exabgp.tcp.delay": "0"}


class Fabric(Field):
    """Dispatchers whose router learns of them by BGP alone; each may run `dnsvip serve` with an anycast address too."""

    def _wire(self) -> None:
        super()._wire()
        for family, prefix in (("-6", PREFIX), ("-4", PREFIX4)):
            self.router.ip(family, "route", "del", prefix)
        text = (DEPLOY / "router.conf").read_text()
        self.daemons: dict[str, Routing] = {}
        self.upstream = Routing(self.router, self.folder / "router", "frr", text)
        self.lone = self.world.host("n1")
        self.world.link(self.lone, self.segment, a_addrs=["fd00:10::31/64"], a_name="eth0", b_name="n1")
        self._names: dict[str, str] = {}
        for name, host in self.dispatchers.items():
            (device,) = json.loads(host.ip("-j", "address", "show", "eth0"))
            self._names |= {address["local"]: name for address in device["addr_info"]}
            host.ip("-6", "address", "add", f"{ANYCAST}/128", "dev", "lo", "nodad")

    def node(self, name: str) -> str:
        """See Field.node."""
        text = super().node(name).replace("[dispatch]", f"grace_seconds = {GRACE}\n[dispatch]", 1)
        return f'{text}[announce]\nprefixes = ["{ANYCAST_PREFIX}"]\nhold_seconds = 1\n{LISTENER}'

    def site(self) -> str:
        """See Field.site: the IPv4 cluster has a pool of its own, and there is a zone to ask for."""
        (self.folder / "zone").write_text(ZONE)
        text = super().site()
        start = text.index("[cluster.legacy]")
        legacy = text[start:].replace('"direct"', '"lone"', 1).replace("direct = [8, 9]", "lone = [8, 9]", 1)
        return text[:start] + legacy.replace('default_tier = "direct"', 'default_tier = "lone"', 1) + MORE

    def start_lone(self) -> None:
        """Start the only server of the IPv4 cluster."""
        self._lone = self.lone.start(sys.executable, "-m", "http.server", "8080", "--bind", "::")

    def stop_lone(self) -> None:
        """Kill it."""
        self._lone.kill()

    def serve_dns(self, name: str) -> subprocess.Popen[bytes]:
        """Start a DNS node beside a dispatcher; return once it answers."""
        host = self.dispatchers[name]
        process = start_on(host, "serve", self.folder / f"{name}.toml", log=self.folder / f"{name}-dns.log")
        dig = ("dig", f"@{ANYCAST}", "+short", "+tries=1", "+time=1", "TXT", f"version.{ZONE_NAME}")
        wait_until(lambda: "1" in host.run(*dig, check=False).stdout, 60)
        return process

    def drain(self, name: str) -> None:
        """Drain a node, as an operator does."""
        asyncio.run(with_store(self.folder / "d1.toml", lambda store: store.drains.drain(name, "me", time.time())))

    def undrain(self, name: str) -> None:
        """Give it traffic again."""
        asyncio.run(with_store(self.folder / "d1.toml", lambda store: store.drains.undrain(name, "me", time.time())))

    def paths(self, prefix: str = PREFIX) -> dict[str, tuple[int, str]]:
        """What the router hears of a prefix: MED and communities by dispatcher."""
        family = "ipv6" if ":" in prefix else "ipv4"
        heard = self.upstream.show(f"show bgp {family} unicast {prefix}").get("paths", [])
        return {
            self._names[path["peer"]["peerId"]]: (path["metric"], path.get("community", {}).get("string", ""))
            for path in heard
        }

    def route_by(self, kind: str) -> None:
        """Run these daemons on every dispatcher, in place of others."""
        for running in self.daemons.values():
            running.stop()
        for name, host in self.dispatchers.items():
            self.daemons[name] = Routing(host, self.folder / name / kind, kind, self.daemon_file(kind, name))

    def close(self) -> None:
        """End all dispatchers, without a grace, and all routing daemons."""
        for process in self.processes.values():
            process.kill()
        for routing in (*self.daemons.values(), self.upstream):
            routing.stop()

    def daemon_file(self, kind: str, name: str) -> str:
        """The file of deploy/bgp as a host of the other address has it."""
        number, text = int(name[1:]) + 1, (DEPLOY / f"{kind}.conf").read_text()
        text = text.replace("/opt/dnsvip/bin/dnsvip", str(Path(sys.executable).with_name("dnsvip")))
        return text.replace("fd00:10::2", f"fd00:10::{number}").replace("10.0.0.2", f"10.0.0.{number}")

    def hops(self, prefix: str = PREFIX) -> set[str]:
        """The dispatchers that the router's kernel sends packets of a prefix to."""
        routes = json.loads(self.router.ip("-6" if ":" in prefix else "-4", "-j", "route", "show", prefix) or "[]")
        hops = [hop.get("gateway") for route in routes for hop in route.get("nexthops", [route])]
        return {self._names[hop] for hop in hops if hop}

    def until_hops(self, *names: str, seconds: float = 30, prefix: str = PREFIX) -> float:
        """Wait until packets of a prefix go to these dispatchers; how long that took, in seconds."""
        start = time.monotonic()
        while self.hops(prefix) != set(names):
            assert time.monotonic() < start + seconds, (self.hops(prefix), self.upstream.show("show bgp ipv6 unicast"))
            time.sleep(0.02)
        return time.monotonic() - start

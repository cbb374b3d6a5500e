"""The compared paths from a client to its servers, in network namespaces.

They are: no dispatcher, HAProxy in TCP mode, the user-space runner, and the kernel program. Each is measured in turn,
round after round, by the same client with the same connections.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from dnsvip.demo.netns import World
from tests.bench.processes import cpu_seconds
from tests.network.dispatching import wait_until
from tests.network.field import PREFIX, TRAFFIC, Field

HAPROXY = """
global
    maxconn 5000
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend in
    bind :::8000
MORE
    default_backend servers
backend servers
    balance roundrobin
SERVERS
"""
WAYS = ("none", "haproxy", "user", "xdp")
TITLES = {
    "none": "no dispatcher, one server",
    "haproxy": "HAProxy, TCP mode",
    "user": "dnsvip, user space",
    "xdp": "dnsvip, kernel",
}
DOWNLOAD_BYTES = 100_000_000
KNOWN_PACKETS = 60_000
FLOOD_PACKETS = 500_000


@dataclass(frozen=True, slots=True)
class Connections:
    """One round of connections: connections per second, and connect times in milliseconds."""

    per_second: float
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Compared:
    """Everything measured; rounds by path, bytes into the dispatcher for a download by path, and the runner's cost."""

    rounds: Mapping[str, list[Connections]]
    download: Mapping[str, int]
    user_us: list[float]
    flood: Mapping[str, float]

    def typical(self, way: str) -> Connections:
        """The medians of a path."""
        rounds = self.rounds[way]
        return Connections(
            *(median(values) for values in zip(*((c.per_second, c.p50, c.p99) for c in rounds), strict=True))
        )


def compare(rounds: int, connections: int, say: Callable[[str], None]) -> Compared:
    """Measure all of it; needs root."""
    with tempfile.TemporaryDirectory(prefix="dnsvip-bench-") as name, World() as world:
        field = Field(world, Path(name), ["user", "xdp"])
        for dispatcher in field.dispatchers:
            field.dispatch(dispatcher)
        with haproxy(field):
            vip = field.address("direct")
            found: dict[str, list[Connections]] = {way: [] for way in WAYS}
            for number in range(-1, rounds):
                for way in WAYS:
                    say(f"connections, {way}, round {number + 1} of {rounds}")
                    by(field, way)
                    said = field.traffic("connect", str(connections), "50", vip)
                    if number >= 0:
                        found[way].append(Connections(said["per_second"], said["p50"], said["p99"]))
            say("download")
            download = {way: through(field, way, vip) for way in WAYS[1:]}
            say("packets through the user-space runner")
            by(field, "user")
            user_us = [packet_us(field, vip) for _ in range(rounds)]
            say("floods")
            return Compared(found, download, user_us, flooded(field, vip))


@contextmanager
def haproxy(field: Field, more: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """HAProxy on its own host, in front of the same servers; `more`: lines of its frontend."""
    host = field.world.host("haproxy")
    field.world.link(host, field.segment, a_addrs=["fd00:10::9/64"], a_name="eth0", b_name="haproxy")
    host.route("default", "via", "fd00:10::1")
    host.ip("-6", "route", "add", "local", PREFIX, "dev", "lo")
    file = field.folder / "haproxy.cfg"
    servers = "\n".join(f"    server {name} [fd00:10::2{name[1:]}]:8000" for name in field.weights)
    file.write_text(HAPROXY.replace("SERVERS", servers).replace("MORE", more))
    program = shutil.which("haproxy") or "/usr/sbin/haproxy"
    process = host.start(program, "-db", "-f", file, log=field.folder / "haproxy.log")
    wait_until(lambda: ":8000" in host.run("ss", "-ltnH").stdout)
    yield process


def by(field: Field, way: str) -> None:
    """Route the cluster's packets along one of the paths."""
    hop = {"none": "fd00:10::21", "haproxy": "fd00:10::9", "user": "fd00:10::2", "xdp": "fd00:10::3"}[way]
    field.router.ip("-6", "route", "replace", PREFIX, "via", hop)


def through(field: Field, way: str, vip: str) -> int:
    """Bytes that enter the dispatcher while the client downloads DOWNLOAD_BYTES."""
    by(field, way)
    name = {"user": "d1", "xdp": "d2"}.get(way, "haproxy")

    def received() -> int:
        (link,) = json.loads(field.world.hosts[name].ip("-j", "-s", "link", "show", "eth0"))
        count: int = link["stats64"]["rx"]["bytes"]
        return count

    before = received()
    said = field.traffic("fetch", str(DOWNLOAD_BYTES), vip)
    assert said["bytes"] == DOWNLOAD_BYTES, said
    return received() - before


def packet_us(field: Field, vip: str) -> float:
    """CPU microseconds of the user-space runner per packet of an established flow, kernel time included."""
    pid = field.processes["d1"].pid
    packets, spent = field.status("d1")["packets"], cpu_seconds(pid)
    field.traffic("flood", "known", str(KNOWN_PACKETS), vip)
    return 1e6 * (cpu_seconds(pid) - spent) / (field.status("d1")["packets"] - packets)


def flooded(field: Field, vip: str) -> Mapping[str, float]:
    """Connections per second through the kernel program, alone and beside each flood."""
    by(field, "xdp")
    figures = {}
    for kind in ("", "forged", "new"):
        command = field.client.command("python3", str(TRAFFIC), "flood", kind, str(FLOOD_PACKETS), vip)
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL) if kind else None
        said = field.traffic("connect", "1000", "50", vip)
        figures[kind or "alone"] = said["per_second"]
        if said["failed"]:
            figures[f"{kind or 'alone'}, failed"] = said["failed"]
        if running:
            running.terminate()
            running.wait()
    return figures

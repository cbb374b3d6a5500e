"""CPU of a query answered over a veth pair: dnsvip in the kernel and on sockets, beside NSD, Knot (sockets and XDP)
and gdnsd, from one source (by kxdpgun) and from 100,000 in turn (by the generator of `floods`), at a bounded rate. What
counts is the CPU time of the server's processes, less what they take while nobody asks, and of the XDP program on its
interface; the veth pair's own work is in neither.

    python -m tests.bench.dns_kernel [NAME ...]
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from ipaddress import ip_address
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypeAlias

from dnsvip.demo.host import Host, stop
from dnsvip.xdp.build import compile_all
from dnsvip.xdp.objects import Program
from tests.bench.processes import cpu_seconds
from tests.bench.program import LEAST, PROGRAMS, counting
from tests.dns.hotpath.test_fastpath import question
from tests.dns.io.xdp.kernel import packet
from tests.network.dispatching import wait_until
from tests.network.field import kernel_world
from tests.network.test_dns_xdp import FOUR, NODE, Pair

RATE, SECONDS, ROUNDS = 20_000, 2, 3
SOURCES = 100_000
OURS, BY_GDNSD, BY_KNOT, ALONE = "dnsvip, xdp", "gdnsd", "knot, xdp", "veth alone"
ONE, MANY = "one source", "100,000 sources"
QUESTIONS = {"plain": ("plain.example.test", "A"), "per client": ("www.example.test", "AAAA")}
NOBODY = 1 << 30
"""No process has this number."""
LEARNING = 30
"""Turns at most until the program knows nearly all sources."""
ZONE = """$ORIGIN example.test.
@ 60 SOA ns h 1 1 1 1 60
@ 60 NS ns
ns 60 A 192.0.2.53
plain 60 A 198.51.100.9
www 60 AAAA 2001:db8:a:1::1
w 60 AAAA 2001:db8:a:1::1
"""
NSD = f"""
server:
  ip-address: {FOUR}
  server-count: 1
  username: ""
  chroot: ""
  zonesdir: "$dir"
  pidfile: "$dir/nsd.pid"
  xfrdfile: "$dir/xfrd.state"
  xfrdir: "$dir"
  zonelistfile: "$dir/zone.list"
  database: ""
  rrl-ratelimit: 0
remote-control:
  control-enable: no
zone:
  name: example.test
  zonefile: zone
"""
KNOT = f"""
server:
  rundir: "$dir"
  listen: {FOUR}
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
XDP
database:
  storage: "$dir/db"
template:
  - id: default
    storage: "$dir"
    zonefile-sync: -1
    journal-content: none
zone:
  - domain: example.test
    file: zone
"""
GDNSD = f"""
options => {{
  listen => [ {FOUR} ]
  udp_threads => 1
  tcp_threads => 1
  run_dir => $dir/run
  state_dir => $dir/state
}}
"""


def programs(pair: Pair) -> list[Program]:
    """The XDP programs on the server's interface."""
    text = pair.server.ip("-d", "link", "show", "eth0")
    return [Program.by_id(int(number)) for number in re.findall(r"prog/xdp id (\d+)", text)]


def in_programs(pair: Pair) -> float:
    """Seconds that they have run."""
    total = 0.0
    for program in programs(pair):
        total += program.information().run_time_ns / 1e9
        program.close()
    return total


Asked: TypeAlias = Callable[[], tuple[int, int]]
"""Asks for SECONDS at RATE; how many questions were sent and answered."""


def one_source(pair: Pair, name: str, rtype: str) -> Asked:
    """By kxdpgun. (Its ranges of sources give one source.)"""
    queries = pair.folder / "queries"
    words = ["-t", str(SECONDS), "-Q", str(RATE), "-i", str(queries), "-I", "eth0", "-l", "192.0.2.7/32"]

    def asked() -> tuple[int, int]:
        queries.write_text(f"{name} {rtype}\n")
        for _ in range(10):
            said = pair.client.run("kxdpgun", *words, FOUR, timeout=60, check=False)
            text = said.stdout + said.stderr
            if "busy" not in text:  # of the turn before
                break
            time.sleep(0.5)
        sent = re.search(r"total queries:\s+(\d+)", text)
        answered = re.search(r"total replies:\s+(\d+)", text)
        if not sent or not answered or not int(answered[1]):
            raise SystemExit(f"kxdpgun: {text}")
        return int(sent[1]), int(answered[1])

    return asked


def many_sources(pair: Pair, name: str, rtype: str) -> Asked:
    """By frames of their own, of which nobody reads the answers."""
    macs = bytes.fromhex((_mac(pair.server) + _mac(pair.client)).replace(":", ""))
    wire = question(name, {"A": 1, "AAAA": 28}[rtype])
    sources = (str(ip_address("198.18.0.0") + n) for n in range(SOURCES))
    frames = (macs + b"\x08\0" + packet(source, FOUR, wire) for source in sources)
    file = pair.folder / f"{name}.heads"
    file.write_bytes(b"".join(frame.ljust(LEAST, b"\0") for frame in frames))
    words = ("--send", str(file), "--rate", str(RATE), "--seconds", str(SECONDS), "--interface", "eth0")

    def received() -> int:
        return int(pair.client.run("cat", "/sys/class/net/eth0/statistics/rx_packets").stdout)

    def asked() -> tuple[int, int]:
        before = received()
        said = pair.client.run(sys.executable, "-m", "tests.bench.floods", *words, timeout=60).stdout
        time.sleep(0.2)
        sent = json.loads(said.splitlines()[-1])["per_second"] * SECONDS
        return round(sent), received() - before

    return asked


def measure(pair: Pair, pid: int, asked: Asked, idle: float) -> tuple[float, float, float]:
    """Microseconds of CPU an answered query beyond the `idle` share of a processor, those of them in the program, and
    how many were answered."""
    before, programs_before, began = cpu_seconds(pid), in_programs(pair), time.monotonic()
    sent, answered = asked()
    in_processes = max(cpu_seconds(pid) - before - idle * (time.monotonic() - began), 0)
    in_program = in_programs(pair) - programs_before
    each = 1e6 / max(answered, 1)
    return (in_processes + in_program) * each, in_program * each, answered / sent


def learn(pair: Pair, asked: Asked) -> None:
    """Ask until the program knows nearly all of it."""
    for _ in range(LEARNING):
        before = pair.metrics()
        asked()
        after = pair.metrics()
        missed = sum(after[why] - before[why] for why in ("unknown-name", "unknown-requester"))
        if missed * 1000 < after["answered"] - before["answered"]:
            return


def idles(pid: int) -> Iterator[float]:
    """The shares of a processor that it takes while nobody asks, in turn: some go on starting for a while."""
    for _ in range(4):
        before = cpu_seconds(pid)
        time.sleep(2)
        yield (cpu_seconds(pid) - before) / 2


@contextmanager
def peer(
    pair: Pair, name: str, file: str, config: str, *argv: str, more: Mapping[str, str] | None = None
) -> Iterator[int]:
    """A peer on the server's host, with its zone and more files by name."""
    folder = pair.folder / name
    for path in (folder, folder / "zones", folder / "run", folder / "state", folder / "db"):
        path.mkdir()
    for zone in (folder / "zone", folder / "zones" / "example.test"):
        zone.write_text(ZONE)
    for path, text in {file: config, **(more or {})}.items():
        (folder / path).write_text(text.replace("$dir", str(folder)))
    process = pair.server.start(*(word.replace("$dir", str(folder)) for word in argv), log=folder / "log")
    try:
        wait_until(lambda: "198.51.100.9" in _asked(pair.client), 30)
        yield process.pid
    finally:
        stop(process)


def _asked(client: Host) -> str:
    return client.run("dig", "+tries=1", "+time=1", f"@{FOUR}", "plain.example.test", "A", check=False).stdout


@contextmanager
def ours(pair: Pair, node: str) -> Iterator[int]:
    """dnsvip with a node file."""
    pair.node.write_text(node.replace("PINS", str(pair.pins)))
    process = pair.server.start(sys.executable, "-m", "dnsvip", "serve", pair.node, log=pair.folder / "serve.log")
    try:
        wait_until(lambda: "198.51.100.9" in _asked(pair.client), 60)
        yield process.pid
    finally:
        stop(process)


@contextmanager
def turning(pair: Pair) -> Iterator[int]:
    """A program that returns packets without work, and no process."""
    folder = pair.folder / "turn"
    compile_all(PROGRAMS, folder)
    pair.server.ip("link", "set", "dev", "eth0", "xdp", "obj", str(folder / "turn.bpf.o"), "sec", "xdp")
    try:
        yield NOBODY
    finally:
        pair.server.ip("link", "set", "dev", "eth0", "xdp", "off")


Subjects: TypeAlias = dict[str, Callable[[], AbstractContextManager[int]]]


def subjects(pair: Pair) -> Subjects:
    """Each server as a context that gives its process."""
    xdp = "xdp:\n  listen: eth0\n"
    plain = NODE.replace('xdp = { interface = "eth0", pins = "PINS" }\n', "")
    return {
        ALONE: lambda: turning(pair),
        OURS: lambda: ours(pair, NODE),
        "dnsvip, sockets": lambda: ours(pair, plain),
        "nsd": lambda: peer(pair, "nsd", "nsd.conf", NSD, "nsd", "-d", "-c", "$dir/nsd.conf"),
        BY_GDNSD: lambda: peer(pair, "gdnsd", "config", GDNSD, "gdnsd", "-c", "$dir", "start"),
        "knot": lambda: peer(pair, "knot", "knot.conf", KNOT.replace("XDP\n", ""), "knotd", "-c", "$dir/knot.conf"),
        BY_KNOT: lambda: peer(pair, "kxdp", "knot.conf", KNOT.replace("XDP\n", xdp), "knotd", "-c", "$dir/knot.conf"),
    }


class Row(NamedTuple):
    """Microseconds of CPU an answer, those of them in the program, and the share that was answered; medians."""

    server: str
    kind: str
    who: str
    cost: float
    program: float
    share: float

    def __str__(self) -> str:
        asked = f"{self.server:16} {self.kind:11} {self.who:16}"
        return f"{asked} {self.cost:7.2f} us, {self.program:.2f} in the program  {self.share:6.1%}"


def row_of(pair: Pair, pid: int, asked: Asked, idle: float, name: tuple[str, str, str]) -> Row:
    """The medians of ROUNDS turns."""
    turns = [measure(pair, pid, asked, idle) for _ in range(ROUNDS)]
    return Row(*name, *(median(values) for values in zip(*turns, strict=True)))


def rows(names: Sequence[str] = ()) -> Iterator[Row]:
    """Each server, or those named, with each question."""
    with tempfile.TemporaryDirectory() as folder, kernel_world() as world, counting():
        pair = Pair(world, Path(folder))
        subprocess.run(["ip", "-n", pair.client.namespace, "link", "set", "dev", "eth0", "xdp", "off"], check=True)
        for host in (pair.client, pair.server):  # else a veth takes no frames of the generator without a program there
            host.run("ethtool", "-K", "eth0", "gro", "on")
        pair.server.ip("route", "add", "198.18.0.0/15", "via", "192.0.2.7")
        pair.server.ip("neigh", "replace", "192.0.2.7", "dev", "eth0", "lladdr", _mac(pair.client))
        for name, subject in subjects(pair).items():
            if names and name not in names:
                continue
            with subject() as pid:
                idle = min(idles(pid))
                for kind, words in QUESTIONS.items():
                    for who, asking in {ONE: one_source, MANY: many_sources}.items():
                        asked = asking(pair, *words)
                        if name == OURS:
                            learn(pair, asked)
                        yield row_of(pair, pid, asked, idle, (name, kind, who))


def main() -> None:
    """Print the table."""
    for row in rows(sys.argv[1:]):
        print(row, flush=True)


def _mac(host: Host) -> str:
    return host.run("cat", "/sys/class/net/eth0/address").stdout.strip()


if __name__ == "__main__":
    main()

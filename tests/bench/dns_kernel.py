"""CPU of a query answered over a veth pair, of the whole machine (`asking`): dnsvip in the kernel and on sockets,
beside NSD, Knot (sockets and XDP) and gdnsd, the same questions at the same rate, from one source and from 100,000 in
turn.

    python -m tests.bench.dns_kernel [NAME ...]
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple, TypeAlias

from dnsvip.demo.host import Host, stop
from dnsvip.xdp.objects import Program
from tests.bench.asking import RATE, Sender, ethernet, lay_cable
from tests.bench.program import counting
from tests.dns.hotpath.test_fastpath import question
from tests.dns.io.xdp.kernel import packet
from tests.network.dispatching import wait_until
from tests.network.field import kernel_world
from tests.network.test_dns_xdp import FOUR, NODE, Pair

SOURCES = 100_000
OURS, BY_GDNSD, BY_NSD, BY_KNOT = "dnsvip, xdp", "gdnsd", "nsd", "knot, xdp"
ONE, MANY = "one source", "100,000 sources"
ASKERS = {ONE: 1, MANY: SOURCES}
QUESTIONS = {
    "plain": ("plain.example.test", "A"),
    "per client": ("www.example.test", "AAAA"),
    "per prefix": ("w.example.test", "AAAA"),
}
"""Nobody who asks is a client: the second has one address for all of them, the third one for each /24. From the others
both are the same answer for all."""
LEARNING, KEEPING = 30, 8
"""Turns at most until the program knows nearly all questions, and at least of many sources: of who comes in turn with
another one it keeps half each time."""
EACH = """
[cluster.each]
prefix = "2001:db8:c:1::/64"
plain = "2001:db8:c:1::1"
layout = [["tier", 4], ["client", 20], ["expiry", 7], ["nonce", 6]]
tag_bits = 24
default_tier = "fast"
anonymous = "encoded"
[service."w.example.test"]
cluster = "each"
"""
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


def frames(pair: Pair, name: str, rtype: str, sources: int) -> Iterator[bytes]:
    """The question from each of so many sources."""
    wire, head = question(name, {"A": 1, "AAAA": 28}[rtype]), ethernet(pair)
    if sources == 1:
        yield head + packet("192.0.2.7", FOUR, wire)
    else:
        for number in range(sources):
            yield head + packet(str(ip_address("198.18.0.0") + number), FOUR, wire)


def learn(pair: Pair, sender: Sender, pid: int, least: int) -> None:
    """Ask until the program knows nearly all of it, at least so many turns."""
    for turn in range(LEARNING):
        before = pair.metrics()
        sender.turn("eth0", pid)
        after = pair.metrics()
        missed = sum(after[why] - before[why] for why in ("unknown-name", "unknown-requester"))
        if turn + 1 >= least and missed * 1000 < after["answered"] - before["answered"]:
            return


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


Subjects: TypeAlias = dict[str, Callable[[], AbstractContextManager[int]]]


def subjects(pair: Pair) -> Subjects:
    """Each server as a context that gives its process."""
    xdp = "xdp:\n  listen: eth0\n"
    plain = NODE.replace('xdp = { interface = "eth0", pins = "PINS" }\n', "")
    return {
        OURS: lambda: ours(pair, NODE),
        "dnsvip, sockets": lambda: ours(pair, plain),
        BY_NSD: lambda: peer(pair, "nsd", "nsd.conf", NSD, "nsd", "-d", "-c", "$dir/nsd.conf"),
        BY_GDNSD: lambda: peer(pair, "gdnsd", "config", GDNSD, "gdnsd", "-c", "$dir", "start"),
        "knot": lambda: peer(pair, "knot", "knot.conf", KNOT.replace("XDP\n", ""), "knotd", "-c", "$dir/knot.conf"),
        BY_KNOT: lambda: peer(pair, "kxdp", "knot.conf", KNOT.replace("XDP\n", xdp), "knotd", "-c", "$dir/knot.conf"),
    }


class Row(NamedTuple):
    """Microseconds of CPU an answer: of the whole machine, the same by its processors' idle time, of the server's
    processes, and of the XDP program; and the share that was answered."""

    server: str
    kind: str
    who: str
    cost: float
    by_idle: float
    processes: float
    program: float
    share: float

    def __str__(self) -> str:
        asked = f"{self.server:16} {self.kind:11} {self.who:16} {self.cost:7.2f} us ({self.by_idle:.2f} by idle time)"
        return f"{asked}, {self.processes:.2f} in processes, {self.program:.2f} in the program  {self.share:6.1%}"


def row_of(pair: Pair, sender: Sender, pid: int, name: tuple[str, str, str]) -> Row:
    """The costs, and then in a turn of its own what the program takes, as counting that costs."""
    cost = sender.cost("eth0", pid)
    with counting():
        before = in_programs(pair)
        turn = sender.turn("eth0", pid)
        program = (in_programs(pair) - before) * 1e6 / max(turn.answered, 1)
    return Row(*name, cost.all, cost.by_idle, cost.processes, program, cost.share)


def rows(names: Sequence[str] = ()) -> Iterator[Row]:
    """Each server, or those named, with each question."""
    with tempfile.TemporaryDirectory() as folder, kernel_world() as world:
        pair = Pair(world, Path(folder))
        lay_cable(world, pair)
        pair.site += EACH
        pair.change(1)
        for name, subject in subjects(pair).items():
            if names and name not in names:
                continue
            with subject() as pid:
                for kind, words in QUESTIONS.items():
                    for who, sources in ASKERS.items():
                        with Sender(pair.client, pair.folder / "heads", frames(pair, *words, sources)) as sender:
                            if name == OURS:
                                learn(pair, sender, pid, KEEPING if sources > 1 else 1)
                            yield row_of(pair, sender, pid, (name, kind, who))


def main() -> None:
    """Print the table."""
    print(f"{RATE:,} questions a second", flush=True)
    for row in rows(sys.argv[1:]):
        print(row, flush=True)


if __name__ == "__main__":
    main()

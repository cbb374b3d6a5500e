"""What floods do to a client that connects STEADY times a second through the kernel's program, over veth.

    python -m tests.bench.floods [--rate N] [--rounds N] [--addresses N]

The flood comes from the kernel itself (`programs/flood.bpf.c`), at the dispatcher's own port, so that the router and
its queues do not count; what the dispatcher forwards of it is counted and dropped behind it (`programs/sink.bpf.c`), as
its servers are other machines. Each kind is beside no flood of the same round. A connection is in time where its first
segment was answered and not sent again. Needs root.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address
from pathlib import Path
from statistics import median

from dnsvip.demo.netns import World
from dnsvip.xdp.build import compile_all
from dnsvip.xdp.libbpf import check, library
from dnsvip.xdp.objects import Object
from dnsvip.xdp.structs import number_of, u32
from tests.bench.flooder import loaded, sending
from tests.bench.processes import prefer
from tests.bench.program import LEAST, PROGRAMS, Frames, fragments
from tests.bench.report import table
from tests.dispatcher.build import segment
from tests.network.dispatching import read_snapshot
from tests.network.field import Field

STEADY, SECONDS, RATE, ROUNDS, ADDRESSES = 300, 3.0, 500_000, 3, 1_000_000
FLOODER = int(IPv6Address("2001:db8:78::10"))
KINDS = ("none", "forged", "one client", "many addresses", "first fragments", "later fragments")
SLICES = 20
"""Times a second that packets are sent: each call makes and frees its pages."""
PORT_AT, IDENTITY_AT = 14 + 40, 14 + 40 + 6


@dataclass(frozen=True, slots=True)
class Beside:
    """Percent of the connections in time, and packets a second of the flood: sent, received by the dispatcher (with the
    connections'), and forwarded."""

    in_time: float
    rate: float
    received: float
    forwarded: float


def measure(
    rounds: int, rate: int, addresses: int, seconds: float = SECONDS, kinds: Sequence[str] = KINDS
) -> Mapping[str, Beside]:
    """The medians of each kind."""
    with tempfile.TemporaryDirectory(prefix="dnsvip-bench-") as name, World() as world:
        field = Field(world, Path(name), ["xdp"], servers=2)
        prefer(os.getpid())
        field.dispatch("d1")
        for process in field.processes.values():
            prefer(process.pid)
        sunk = _sink(field)
        vip = field.address("direct", client=1)
        files = {kind: _written(field, kind, addresses) for kind in kinds if kind != KINDS[0]}
        found: dict[str, list[Beside]] = {kind: [] for kind in kinds}
        for _ in range(rounds):
            for kind in kinds:
                found[kind].append(_beside(field, files.get(kind), vip, rate, seconds, sunk))
        return {
            kind: Beside(*(median(getattr(each, name) for each in some) for name in FIGURES))
            for kind, some in found.items()
        }


def _sink(field: Field) -> Callable[[], int]:
    """Have what is forwarded of floods dropped where it leaves the dispatcher; gives how many packets that has been."""
    with tempfile.TemporaryDirectory(prefix="dnsvip-bench-") as name:
        compile_all(PROGRAMS, Path(name))
        with Object.open("sink", (Path(name) / "sink.bpf.o").read_bytes()) as opened:
            opened.load()
            program, sinks = opened.program("sink"), opened.map("sinks")
    source = FLOODER.to_bytes(16, "big")
    sinks.put(u32(0), source + bytes(8))
    program.pin(field.pins / "sink")
    program.close()
    field.segment.ip("-force", "link", "set", "dev", "d1", "xdp", "pinned", str(field.pins / "sink"))
    return lambda: number_of((sinks.get(u32(0)) or b"")[len(source) :])


def _written(field: Field, kind: str, addresses: int) -> tuple[Path, int]:
    """The file of a kind's heads, and where they are varied."""
    active = read_snapshot(field.folder, "d1.toml").keyrings["web"].active
    assert active
    codec, layout, count = active[1], active[1].layout, addresses if kind == "many addresses" else 4096
    most = {name: (1 << bits) - 1 for name, bits in layout.fields}
    payloads = [
        layout.pack({
            **dict.fromkeys(most, 0), "tier": 1, "expiry": most["expiry"],
            "client": 2 if kind == "one client" else n >> 6 & most["client"], "nonce": n & 63 & most["nonce"],
        })
        for n in range(1 if kind == "one client" else count)
    ]  # fmt: skip
    vips = [vip for first in range(0, len(payloads), 4096) for vip in codec.seal_batch(payloads[first : first + 4096])]
    if "fragment" in kind:
        forged = (vip ^ 1 for vip in vips)
        frames = fragments(forged, 1, 0) if kind == "first fragments" else fragments(vips, 1, 1480)
    else:
        like = b"".join((bytes(12), b"\x86\xdd", segment(vips[0], source=FLOODER))).ljust(LEAST, b"\0")
        wanted = [vip ^ 1 for vip in vips] if kind == "forged" else vips
        frames = Frames.like(like, {14 + 24: [vip.to_bytes(16, "big") for vip in wanted]})
    file = field.folder / f"{kind.replace(' ', '-')}.heads"
    raw = frames.held.raw
    file.write_bytes(b"".join(raw[at : at + LEAST] for at in range(0, frames.count * frames.size, frames.size)))
    return file, IDENTITY_AT if "fragment" in kind else PORT_AT


def _beside(
    field: Field, flood: tuple[Path, int] | None, vip: str, rate: int, seconds: float, sunk: Callable[[], int]
) -> Beside:
    before = _received(field), sunk()
    with _flooding(field, flood, rate, seconds + 1) as rates:
        said = field.traffic("pace", str(seconds), str(STEADY), vip)
    asked = int(seconds * STEADY)
    received, forwarded = (
        (now - then) / (seconds + 1) for then, now in zip(before, (_received(field), sunk()), strict=True)
    )
    return Beside(100 * said["at_once"] / asked, rates[0] if rates else 0.0, received, forwarded)


def _received(field: Field) -> int:
    return int(field.dispatchers["d1"].run("cat", "/sys/class/net/eth0/statistics/rx_packets").stdout)


@contextmanager
def _flooding(field: Field, flood: tuple[Path, int] | None, rate: int, seconds: float) -> Iterator[list[float]]:
    rates: list[float] = []
    if flood is None:
        yield rates
        return
    words = ("-m", "tests.bench.floods", "--send", flood[0], "--vary", flood[1], "--rate", rate, "--seconds", seconds)
    command = field.segment.command(sys.executable, *map(str, words))
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert running.stdout
    try:
        running.stdout.readline()  # it sends
        yield rates
    finally:
        said, _ = running.communicate(timeout=60)
    rates.append(json.loads(said)["per_second"])


def send(file: Path, vary: int, rate: int, seconds: float, interface: str = "d1", tail: bytes = b"") -> float:
    """Send a file's heads, each with this tail, by an interface of this network namespace; how many a second it was."""
    heads = file.read_bytes()
    program, orders = loaded(heads)
    orders.put(u32(0), b"".join(map(u32, (0, len(heads) // LEAST, vary, socket.if_nametoindex(interface)))))
    frame = ctypes.create_string_buffer(heads[:LEAST] + tail, LEAST + len(tail))
    options = sending(frame, max(rate // SLICES, 1))
    print("sending", flush=True)
    begun, sent = time.monotonic(), 0
    while (now := time.monotonic()) < begun + seconds:
        check(library().bpf_prog_test_run_opts(program.fd, ctypes.byref(options)), "sending")
        sent += options.repeat
        time.sleep(max(begun + sent / rate - time.monotonic(), 0))
    return sent / (now - begun)


FIGURES = ("in_time", "rate", "received", "forwarded")
HEAD = ("flood", "packets/s", "received", "forwarded", "connections in time, percent")


def rows(found: Mapping[str, Beside]) -> Sequence[tuple[str, ...]]:
    """The rows of a table."""
    return [
        (kind, f"{each.rate:,.0f}", f"{each.received:,.0f}", f"{each.forwarded:,.0f}", f"{each.in_time:.1f}")
        for kind, each in found.items()
    ]


def main() -> None:
    """Measure and print, or send."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=RATE, help="packets a second (%(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds of all kinds (%(default)s)")
    parser.add_argument("--addresses", type=int, default=ADDRESSES, help="of the flood of many (%(default)s)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of a window (%(default)s)")
    parser.add_argument("--send", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--interface", default="d1", help=argparse.SUPPRESS)
    parser.add_argument("--vary", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--tail", type=bytes.fromhex, default=b"", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.send:
        rate = send(given.send, given.vary, given.rate, given.seconds, given.interface, given.tail)
        print(json.dumps({"per_second": rate}))
        return
    found = measure(given.rounds, given.rate, given.addresses, given.seconds)
    for line in table(HEAD, rows(found)):
        print(line)


if __name__ == "__main__":
    main()

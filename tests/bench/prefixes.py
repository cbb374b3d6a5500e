"""What it costs the kernel to find whose prefix an address is in, by the ways there are: bytes a prefix, and
nanoseconds a look-up of few prefixes (warm) and of all in turn (cold), each beginning when the one before has ended.

    python -m tests.bench.prefixes [PREFIXES ...]
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from dnsvip.xdp.build import compile_all
from dnsvip.xdp.maps import Map
from dnsvip.xdp.objects import Object, Program
from tests.bench.program import PROGRAMS

SIZES = (10_000, 1_000_000, 10_000_000)
LOOK_UPS, WARM, ROUNDS = 200_000, 64, 5
FANOUT, LEVELS = 8, 10
_ORDER = struct.Struct("<6IQ10III")
LPM, HASHED, RUNS, NOTHING = range(4)
NAMES = {LPM: "LPM trie", HASHED: "hash, one length", RUNS: "sorted runs"}


def levels_of(prefixes: int) -> list[int]:
    """How many lines each level of the runs has, the leaves last."""
    sizes = [-(-2 * prefixes // FANOUT)]
    while sizes[0] > 1:
        sizes.insert(0, -(-sizes[0] // FANOUT))
    return sizes


class Bench:
    """The maps of one way with so many prefixes."""

    def __init__(self, programs: dict[str, Program], maps: dict[str, Map], way: int, count: int) -> None:
        self._programs, self._orders, self.way, self.count = programs, maps["orders"], way, count
        self.bytes = sum(map(counted, maps.values()))
        sizes = levels_of(count)
        self._levels = [sum(sizes[:n]) for n in range(len(sizes))]
        if way == RUNS:
            for level in reversed(range(len(sizes))):
                leaf = level == len(sizes) - 1
                below = (0, 0) if leaf else (self._levels[level + 1] + 1, sizes[level + 1])
                self._call("write", sizes[level], first=below[0], among=below[1], levels=[self._levels[level]])
        else:
            for first in range(0, count, 1_000_000):
                self._call("write", min(1_000_000, count - first), first=first)

    def nanoseconds(self, among: int, way: int | None = None) -> float:
        """Of one look-up."""
        found, spent = self._call("find", LOOK_UPS, among=min(among, self.count), levels=self._levels, way=way)
        assert found == LOOK_UPS, (NAMES[self.way], found)
        return spent / LOOK_UPS

    def _call(
        self,
        program: str,
        number: int,
        *,
        first: int = 0,
        among: int = 1,
        levels: list[int] | None = None,
        way: int | None = None,
    ) -> tuple[int, int]:
        levels = levels or []
        way = self.way if way is None else way
        order = _ORDER.pack(
            way, self.count, first, number, among, 0, 0, *levels, *[0] * (LEVELS - len(levels)), len(levels), 0
        )
        self._orders.put(bytes(4), order)
        self._programs[program].run(bytes(64))
        values = _ORDER.unpack(self._orders.get(bytes(4)) or b"")
        return values[5], values[6]


@contextmanager
def bench(way: int, count: int) -> Iterator[Bench]:
    """One way with so many prefixes, until the end of the block."""
    lines = sum(levels_of(count))
    with TemporaryDirectory() as folder:
        compile_all(PROGRAMS, Path(folder))
        data = (Path(folder) / "prefixes.bpf.o").read_bytes()
    with Object.open("prefixes", data) as opened:
        if way in (LPM, HASHED):
            opened.resize("trie" if way == LPM else "hash", count)
        else:
            opened.resize("lines", lines)
            opened.resize("owners", levels_of(count)[-1])
        opened.load()
        programs = {name: opened.program(name) for name in ("write", "find")}
        maps = {name: opened.map(name) for name in opened.maps if "." not in name}
    try:
        yield Bench(programs, maps, way, count)
    finally:
        for descriptor in (*programs.values(), *maps.values()):
            descriptor.close()


def slabs() -> int:
    """Bytes of small objects of the kernel's that have no cache of their own, which the nodes of a trie are among."""
    total = 0
    for line in Path("/proc/slabinfo").read_text().splitlines():
        if re.match(r"kmalloc-(cg-)?(32|64|96|128) ", line):
            _, objects, _, size, *_ = line.split()
            total += int(objects) * int(size)
    return total


def counted(one: Map) -> int:
    """Bytes of a map as the kernel counts them."""
    said = re.search(r"memlock:\s*(\d+)", Path(f"/proc/self/fdinfo/{one.fd}").read_text())
    return int(said[1]) if said else 0


def main(*sizes: str) -> None:
    """Print the table."""
    sys.stdout.write("| prefixes | way | bytes each | warm ns | cold ns |\n| ---: | --- | ---: | ---: | ---: |\n")
    for count in [int(size) for size in sizes] or SIZES:
        for way, name in NAMES.items():
            before = slabs()
            with bench(way, count) as one:
                size = (slabs() - before if way == LPM else one.bytes) / count
                samples = [
                    (
                        one.nanoseconds(WARM) - one.nanoseconds(WARM, NOTHING),
                        one.nanoseconds(count) - one.nanoseconds(count, NOTHING),
                    )
                    for _ in range(ROUNDS)
                ]
                warm, cold = (median(values) for values in zip(*samples, strict=True))
                sys.stdout.write(f"| {count:,} | {name} | {size:.0f} | {warm:.0f} | {cold:.0f} |\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])

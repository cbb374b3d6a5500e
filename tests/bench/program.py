"""Nanoseconds per packet of the kernel program by outcome: net of E, a program that returns at once, and beside a
balancer on the kernel's LRU map (`programs/balancer.bpf.c`).

    python -m tests.bench.program [ROUNDS]

The kernel measures each figure (BPF_ENABLE_STATS). *cold*: single BPF_PROG_TEST_RUN calls, a system call between
packets, each packet different. *hot*: many packets in one call, each written in place of the one before and then passed
on by a tail call (`programs/again.bpf.c`), so that none meets what the one before has left. Rounds of all rows and of E
alternate, and each figure is the median of its rounds.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.site import Forward, SelectRule, Site
from dnsvip.xdp.build import compile_all
from dnsvip.xdp.libbpf import check, library
from dnsvip.xdp.libbpf_structs import TestRunOptions
from dnsvip.xdp.maps import Map
from dnsvip.xdp.objects import Object, Program
from dnsvip.xdp.structs import u32
from tests.bench.report import table
from tests.dispatcher.build import ACK, CLIENT, CLUSTER, PUSH, SITE, TIERS, address, ip6, segment, snapshot, with_pool
from tests.dispatcher.io.xdp.kernel import OUR_LINK, SERVER_LINK, Kernel, frame_of, loaded

RUN_TIME = 0
"""BPF_STATS_RUN_TIME of enum bpf_stats_type."""
ROUNDS, PACKETS, FLOWS = 9, 2000, 1 << 16
LEAST = 96
"""Bytes of the shortest frame: as many as `again.bpf.c` writes."""
PROGRAMS = Path(__file__).parent / "programs"
ESTABLISHED, ENCAP, FORGED = "established", "established, encap", "forged"
DECODED, DECODED_ENCAP, DECRYPTED = "new, decoded before", "new, decoded before, encap", "new, decrypted"
NOT_OURS = "not ours"
CROWDED, DECODED_CROWDED = "forged, full filter", "new, decoded before, full filter"
FIRST, LATER = "first fragment, forged", "later fragment"
BALANCED, BALANCED_NEW = "balancer, established", "balancer, new"
GOALS = {
    NOT_OURS: 75,
    ESTABLISHED: 100,
    ENCAP: 170,
    DECODED: 330,
    DECODED_ENCAP: 420,
    DECRYPTED: 1000,
    FORGED: 170,
    CROWDED: 200,
    FIRST: 150,
    LATER: 100,
}
"""The limits in nanoseconds, cold and net of E, of 2 x AMD EPYC, Linux 6.18 without an AES driver in hardware, where E
is 66 ns (project documentation: performance, second round)."""


@dataclass(frozen=True, slots=True)
class Figure:
    """Median nanoseconds per packet, cold and hot, those of E beside it in the same rounds, and the goal for `net`."""

    name: str
    cold: float
    hot: float
    e: float
    e_hot: float
    goal: float | None = None

    @property
    def in_e(self) -> float:
        """The cold figure in E."""
        return self.cold / self.e

    @property
    def net(self) -> float:
        """Cold nanoseconds without those of E."""
        return self.cold - self.e

    @property
    def hot_net(self) -> float:
        """Hot nanoseconds without those of E."""
        return self.hot - self.e_hot


@contextmanager
def counting() -> Iterator[None]:
    """The kernel measures the run time of programs during the block, whatever other processes do (BPF_ENABLE_STATS)."""
    descriptor = check(library().bpf_enable_stats(RUN_TIME), "measuring programs")
    try:
        yield
    finally:
        os.close(descriptor)


def spent(program: Program, work: Callable[[], None]) -> float:
    """Nanoseconds that each run of a program takes during some work, while the kernel is `counting`."""
    before = program.information()
    work()
    after = program.information()
    return (after.run_time_ns - before.run_time_ns) / max(after.run_cnt - before.run_cnt, 1)


class Frames:
    """Frames of one size, contiguous, so that reading them touches little memory."""

    def __init__(self, frames: Iterable[bytes], size: int = 0) -> None:
        packets = list(frames)
        self.size = size or len(packets[0])
        data = b"".join(packets)
        self.count = len(data) // self.size
        self.held = ctypes.create_string_buffer(data)
        if len(data) != self.count * self.size or (not size and any(len(packet) != self.size for packet in packets)):
            raise ValueError("frames of several sizes")

    @classmethod
    def like(cls, frame: bytes, changes: Mapping[int, list[bytes]]) -> Self:
        """Copies of a frame, each with other bytes at some offsets. Its checksum is not changed: nobody verifies it."""
        count, size = len(next(iter(changes.values()))), len(frame)
        data = bytearray(frame * count)
        for offset, values in changes.items():
            for byte in range(len(values[0])):
                data[offset + byte :: size] = bytes(value[byte] for value in values)
        return cls([bytes(data)], size)

    def starts(self) -> range:
        """The address of each."""
        start = ctypes.addressof(self.held)
        return range(start, start + self.size * self.count, self.size)


class Runner:
    """BPF_PROG_TEST_RUN with as little Python overhead as possible."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def cold(self, frames: Frames) -> float:
        """Nanoseconds per packet, each in its own call, with nothing between the calls."""
        call, fd = library().bpf_prog_test_run_opts, self.program.fd
        options = TestRunOptions(sz=ctypes.sizeof(TestRunOptions), repeat=1, data_size_in=frames.size)
        where = ctypes.byref(options)

        def work() -> None:
            for at in frames.starts():
                options.data_in = at
                call(fd, where)

        return spent(self.program, work)


class Again:
    """Runs programs hot: `again.bpf.c` with its maps."""

    def __init__(self, opened: Object) -> None:
        self.program = opened.program("again")
        self._orders, self._heads, self._measured = (opened.map(name) for name in ("orders", "heads", "measured"))

    def hot(self, program: Program, frames: Frames, times: int = 1) -> float:
        """Nanoseconds per packet of all frames one after the other, so many times, with this one's own."""
        size, count, raw = frames.size, min(frames.count, self._heads.max_entries), frames.held.raw
        heads = b"".join(raw[at : at + LEAST] for at in range(0, count * size, size))
        self._heads.put_many(b"".join(map(u32, range(count))), heads)
        self._orders.put(u32(0), u32(0) + u32(count) + u32(size) + u32(0))
        self._measured.put(u32(0), u32(program.fd))
        return spent(self.program, lambda: (self.program.run(raw[:size], repeat=count * times), None)[1])


class Bench:
    """The measured programs: the dispatcher's of a kernel, E, the balancer, and what runs each of them."""

    def __init__(self, stack: ExitStack, kernel: Kernel, connections: int = FLOWS) -> None:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="dnsvip-bench-")))
        compile_all(PROGRAMS, folder)
        self.kernel, self.dispatcher = kernel, Runner(kernel.program)
        with Object.open("empty") as empty:
            empty.load()
            self.empty = Runner(empty.program(empty.programs[0]))
        with Object.open("again", (folder / "again.bpf.o").read_bytes()) as again:
            again.load()
            self.again = Again(again)
        with Object.open("balancer", (folder / "balancer.bpf.o").read_bytes()) as balancer:
            balancer.resize("connections", connections)
            balancer.load()
            self.balancer = Runner(balancer.program("balance"))
            add_servers(balancer.map("servers"))

    def both(self, runner: Runner, cold: Frames, hot: Frames, times: int = 1) -> tuple[float, float, float, float]:
        """Cold and hot nanoseconds of a program, and those of E beside it."""
        return (
            runner.cold(cold),
            self.again.hot(runner.program, hot, times),
            self.empty.cold(cold),
            self.again.hot(self.empty.program, hot, times),
        )


def add_servers(servers: Map) -> None:
    """Give each server of the balancer an address and a link address."""
    for number in range(servers.max_entries):
        servers.put(u32(number), bytes(15) + bytes([number]) + SERVER_LINK[:6] + OUR_LINK[:6] + bytes(4))


def forget_decoded(kernel: Kernel) -> None:
    """Empty the decode cache."""
    decoded = kernel.maps["decoded"]
    keys = b"".join(u32(number) for number in range(decoded.max_entries))
    decoded.put_many(keys, bytes(decoded.max_entries * decoded.value_size))


def vips_of(count: int, first: int = 0, tier: str = "gold") -> list[int]:
    """Different issued addresses."""
    return [address(tier, client, nonce) for client in range(first, first + count // 64 + 1) for nonce in range(64)][
        :count
    ]


def first_segments(vips: Iterable[int], port: int) -> Frames:
    """The first segment of a flow to each address, all from one port."""
    return Frames(frame_of(segment(vip, port=port)).ljust(LEAST, b"\0") for vip in vips)


def known_segments(vips: list[int], port: int = 40_000) -> list[bytes]:
    """A later segment of a flow to each address."""
    return [frame_of(segment(vip, ACK | PUSH, port + n, data=b"x" * 100)) for n, vip in enumerate(vips)]


def fragments(vips: Iterable[int], turn: int, offset: int) -> Frames:
    """A fragment of a datagram for each address: the first one with a TCP header in it, or a later one."""
    return Frames(
        frame_of(
            ip6(
                CLIENT,
                vip,
                6,
                segment(vip, port=turn)[40:].ljust(40, b"\0"),
                bytes((6, 0)) + (offset | 1).to_bytes(2, "big") + (turn << 16 | number).to_bytes(4, "big"),
                44,
            )
        )
        for number, vip in enumerate(vips)
    )


def measure(rounds: int = ROUNDS, packets: int = PACKETS) -> list[Figure]:
    """Every outcome's figure; needs root."""
    with loaded(flows=FLOWS) as kernel, counting(), ExitStack() as stack:
        bench = Bench(stack, kernel)
        site = with_pool("translated", forward=Forward.DIRECT)  # under nat each new flow might be a reply
        tables = DispatchTables(snapshot(site))
        kernel.writer.apply(tables)
        kernel.writer.settings(trace=0, now=0)
        figures = _measure(bench, rounds, packets)
        kernel.writer.apply(DispatchTables(snapshot(replace(site, clusters=ruled().clusters)), tables))
        # All rows again: what runs between is what the caches have lost.
        after = [each for each in _measure(bench, rounds, packets) if each.name in (DECODED, DECRYPTED)]
        return figures + [replace(each, name=f"{each.name}, 64 rules", goal=None) for each in after]


def ruled() -> Site:
    """The site with 64 rules of which the last fits: every condition has a look-up, one of them in a hash map."""
    rules = [SelectRule({"client": ("acme",), "tier": (name,)}, "slow", n) for n in range(7) for name in TIERS][:63]
    cluster = replace(CLUSTER, select=(*rules, SelectRule({"proof": ("issued",), "tier": ("gold",)}, "fast")))
    return replace(SITE, clusters={"web": cluster})


def _measure(bench: Bench, rounds: int, packets: int) -> list[Figure]:
    kernel = bench.kernel
    vips, tunnels = vips_of(packets), vips_of(packets, tier="tunnel")
    forged = [vip ^ 1 << n % 24 for n, vip in enumerate(vips)]
    elsewhere = [vip ^ 1 << 70 + n % 20 for n, vip in enumerate(vips)]
    flows = known_segments(vips[:64]), known_segments(tunnels[:64], 50_000)
    many = packets // 64 + 1

    def turn(n: int) -> dict[str, tuple[Frames, Frames]]:
        """The frames of each row, cold and hot."""
        port, other = 2000 + 2 * n, 2001 + 2 * n
        alike = {
            NOT_OURS: Frames(known_segments(elsewhere, 1000)),
            ESTABLISHED: Frames((flows[0] * many)[:packets]),
            ENCAP: Frames((flows[1] * many)[:packets]),
            FORGED: first_segments(forged, port),
            LATER: fragments(vips, n, 1480),
            FIRST: fragments(forged, n, 0),
            BALANCED: Frames((flows[1] * many)[:packets]),
        }
        return {
            **{name: (frames, frames) for name, frames in alike.items()},
            DECODED: (first_segments(vips, port), first_segments(vips, other)),
            DECODED_ENCAP: (first_segments(tunnels, port), first_segments(tunnels, other)),
            DECRYPTED: (first_segments(vips, 20_000 + port), first_segments(vips, 20_000 + other)),
            BALANCED_NEW: (first_segments(vips, 20_000 + port), first_segments(vips, 20_000 + other)),
            # Last: the filter stays full until the next round.
            CROWDED: (first_segments(forged, other),) * 2,
            DECODED_CROWDED: (first_segments(vips, 40_000 + port), first_segments(vips, 40_000 + other)),
        }

    # Prepared in advance, so that only calls come between packets.
    turns = [turn(n) for n in range(rounds)]
    training = first_segments(vips, 999), first_segments(tunnels, 999)
    samples: dict[str, list[tuple[float, float, float, float]]] = {}
    for frames in turns:
        kernel.writer.sweep(0, everything=True)
        for some in (*flows, *flows):
            bench.dispatcher.cold(Frames(some))
        for some_frames in training:
            bench.dispatcher.cold(some_frames)
        for name, (cold, hot) in frames.items():
            if name == CROWDED:
                kernel.crowd()
            runner = bench.balancer if name in (BALANCED, BALANCED_NEW) else bench.dispatcher
            if name == DECRYPTED:
                kernel.writer.sweep(int(time.time()))
                samples.setdefault(name, []).append(_decrypted(bench, cold, hot))
            else:
                samples.setdefault(name, []).append(bench.both(runner, cold, hot))
    return [_figure(name, samples[name]) for name in samples]


def _decrypted(bench: Bench, cold: Frames, hot: Frames) -> tuple[float, float, float, float]:
    """As `Bench.both`, with an empty decode cache before each of the two."""
    forget_decoded(bench.kernel)
    first = bench.dispatcher.cold(cold)
    forget_decoded(bench.kernel)
    second = bench.again.hot(bench.kernel.program, hot)
    return first, second, bench.empty.cold(cold), bench.again.hot(bench.empty.program, hot)


def _figure(name: str, samples: list[tuple[float, float, float, float]]) -> Figure:
    cold, hot, e, e_hot = (statistics.median(values) for values in zip(*samples, strict=True))
    return Figure(name, cold, hot, e, e_hot, GOALS.get(name))


def rows(figures: Iterable[Figure]) -> list[tuple[str, ...]]:
    """The rows of a table."""
    known = list(figures)
    unit = next(figure.net for figure in known if figure.name == BALANCED)
    return [
        (
            figure.name,
            f"{figure.cold:.0f}",
            f"{figure.in_e:.2f}",
            f"{figure.net:.0f}",
            f"{figure.goal:g}" if figure.goal else "",
            f"{figure.net / unit:.2f}",
            f"{figure.hot_net:.0f}",
        )
        for figure in known
    ]


HEAD = ("packet", "cold ns", "cold, E", "net ns", "goal", "by the balancer", "hot, net ns")
"""The heads of the columns of `rows`."""


def main() -> None:
    """Print the figures."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    for line in table(HEAD, rows(measure(rounds))):
        print(line)


if __name__ == "__main__":
    main()

"""Nanoseconds per packet of the kernel program by outcome, in units of E: a program that returns at once.

The kernel measures each figure (BPF_ENABLE_STATS) over single BPF_PROG_TEST_RUN calls, so that each packet
is "cold", after a system call; a second figure repeats one packet in one call. Rounds of all outcomes and of E
alternate, and each figure is the median of its rounds. The flow table holds 65,536 flows: in a larger one a look-up
misses the caches more often and takes longer.
"""

from __future__ import annotations

import ctypes
import os
import statistics
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.site import Forward, SelectRule, Site
from dnsvip.xdp.libbpf import check, library
from dnsvip.xdp.libbpf_structs import TestRunOptions
from dnsvip.xdp.objects import Object, Program
from dnsvip.xdp.structs import u32
from tests.dispatcher.build import ACK, CLUSTER, PUSH, SITE, TIERS, address, segment, snapshot, with_pool
from tests.dispatcher.io.xdp.kernel import Kernel, frame_of, loaded

RUN_TIME = 0
"""BPF_STATS_RUN_TIME of enum bpf_stats_type."""
ROUNDS, PACKETS, FLOWS = 9, 2000, 1 << 16
GOALS = {"established": 3.9, "forged": 5.0, "new, decoded before": 13.0, "new, decrypted": 50.0}
"""The limits in E (project documentation: performance)."""


@dataclass(frozen=True, slots=True)
class Figure:
    """Median nanoseconds per packet, cold and repeated, and the same in E."""

    name: str
    cold: float
    repeated: float
    in_e: float
    repeated_in_e: float
    goal: float | None


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


class Runner:
    """BPF_PROG_TEST_RUN with as little Python overhead as possible."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def cold(self, frames: Frames) -> float:
        """Nanoseconds per packet, each in its own call, with nothing between the calls."""
        call, fd = library().bpf_prog_test_run_opts, self.program.fd
        options = TestRunOptions(sz=ctypes.sizeof(TestRunOptions), repeat=1, data_size_in=frames.size)
        where, start = ctypes.byref(options), ctypes.addressof(frames.held)

        def work() -> None:
            for at in range(start, start + frames.size * frames.count, frames.size):
                options.data_in = at
                call(fd, where)

        return spent(self.program, work)

    def repeated(self, frames: Frames) -> float:
        """Nanoseconds per packet, repeating the first of the frames."""
        frame = frames.held.raw[: frames.size]
        return spent(self.program, lambda: (self.program.run(frame, repeat=20_000), None)[1])


class Frames:
    """Frames of one size, contiguous, so that reading them touches little memory."""

    def __init__(self, frames: Iterable[bytes]) -> None:
        packets = list(frames)
        self.count, self.size = len(packets), len(packets[0])
        self.held = ctypes.create_string_buffer(b"".join(packets))
        if len(self.held) != self.count * self.size + 1:
            raise ValueError("frames of several sizes")


def forget_decoded(kernel: Kernel) -> None:
    """Empty the decode cache."""
    decoded = kernel.maps["decoded"]
    keys = b"".join(u32(number) for number in range(decoded.max_entries))
    decoded.put_many(keys, bytes(decoded.max_entries * decoded.value_size))


def vips_of(count: int, first: int = 0) -> list[int]:
    """Different issued addresses."""
    return [address("gold", client, nonce) for client in range(first, first + count // 64 + 1) for nonce in range(64)][
        :count
    ]


def measure(rounds: int = ROUNDS, packets: int = PACKETS) -> list[Figure]:
    """Every outcome's figure; needs root."""
    with loaded(flows=FLOWS) as kernel, Object.open("empty") as empty, counting():
        empty.load()
        nothing = Runner(empty.program(empty.programs[0]))
        tables = DispatchTables(snapshot(with_pool("translated", forward=Forward.DIRECT)))
        kernel.writer.apply(tables)
        kernel.writer.settings(trace=0, now=0)
        figures = _measure(kernel, nothing, rounds, packets)
        kernel.writer.apply(DispatchTables(snapshot(ruled()), tables))
        after = _measure(kernel, nothing, rounds, packets)
        return figures + [
            replace(each, name=f"{each.name}, 64 rules", goal=None) for each in after if each.name.startswith("new")
        ]


def ruled() -> Site:
    """The site with 64 rules of which the last fits: every condition has a look-up, one of them in a hash map."""
    rules = [SelectRule({"client": ("acme",), "tier": (name,)}, "slow", n) for n in range(7) for name in TIERS][:63]
    cluster = replace(CLUSTER, select=(*rules, SelectRule({"proof": ("issued",), "tier": ("gold",)}, "fast")))
    return replace(SITE, clusters={"web": cluster})


def _measure(kernel: Kernel, nothing: Runner, rounds: int, packets: int) -> list[Figure]:
    runner = Runner(kernel.program)
    flows = [
        frame_of(segment(vip, ACK | PUSH, 40_000 + n % 20_000, data=b"x" * 100)) for n, vip in enumerate(vips_of(64))
    ]
    vips = vips_of(packets)
    established = Frames((flows * (packets // len(flows) + 1))[:packets])
    training = Frames(frame_of(segment(vip, port=999)) for vip in vips)

    def made(turn: int) -> dict[str, Frames]:
        return {
            "established": established,
            "forged": Frames(frame_of(segment(vip ^ 1 << n % 24, port=turn)) for n, vip in enumerate(vips)),
            "new, decoded before": Frames(frame_of(segment(vip, port=2000 + turn)) for vip in vips),
            "new, decrypted": Frames(frame_of(segment(vip, port=3000 + turn)) for vip in vips),
        }

    # Prepared in advance, so that only calls come between packets.
    turns = [made(turn) for turn in range(rounds)]
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in ("E", *GOALS)}
    for frames in turns:
        kernel.writer.sweep(0, everything=True)
        for frame in flows * 2:
            kernel.program.run(frame)
        runner.cold(training)
        cold: dict[str, tuple[float, float]] = {}
        for name, some in frames.items():
            if name == "new, decrypted":
                forget_decoded(kernel)
            cold[name] = nothing.cold(some), runner.cold(some)
        for name, some in frames.items():
            e, figure = cold[name]
            samples["E"].append((e, nothing.repeated(some)))
            samples[name].append((figure, runner.repeated(some)))
    return [_figure(name, samples) for name in samples]


def _figure(name: str, samples: dict[str, list[tuple[float, float]]]) -> Figure:
    (cold, repeated), (e, e_repeated) = (
        tuple(statistics.median(values) for values in zip(*samples[kind], strict=True)) for kind in (name, "E")
    )
    return Figure(name, cold, repeated, cold / e, repeated / e_repeated, GOALS.get(name))


def main() -> None:
    """Print the figures."""
    for figure in measure():
        goal = f"  goal {figure.goal} E" if figure.goal else ""
        print(
            f"{figure.name:22} cold {figure.cold:7.1f} ns = {figure.in_e:5.2f} E   "
            f"repeated {figure.repeated:7.1f} ns = {figure.repeated_in_e:5.2f} E{goal}"
        )


if __name__ == "__main__":
    main()

"""The dispatcher's cost, in the kernel and in user space, compared with HAProxy and with no dispatcher.

    python -m tests.bench.bench_dispatch [--quick] [--json FILE] [--record]

The last line says which goals are met and missed; the exit code is 0, 1 if a goal is missed, 2 if something
cannot be measured here. Needs root.
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dnsvip.demo.netns import World
from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.egress.output import output_bytes
from dnsvip.dispatcher.engine import decide
from dnsvip.dispatcher.flows.flow import Flows
from tests.bench import growth, program, said
from tests.bench.growth import Growth
from tests.bench.outcome import Result, conclude, measuring, parser_of, say
from tests.bench.pairs import Pair
from tests.bench.program import BALANCED, ENCAP, ESTABLISHED, Figure, ruled
from tests.bench.report import machine, table
from tests.bench.ways import DOWNLOAD_BYTES, TITLES, WAYS, Compared, compare
from tests.dispatcher.build import NOW_NS, POOLS, address, datagram, established, segment, snapshot, with_pool

COUNT = 20_000
FLOWS = 50_000
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
PAGE = "dispatcher.md"


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to measure: rounds and packets per round of the program, turns and packets of what clients say, rounds
    and connections per path."""

    program: tuple[int, int]
    said: tuple[int, int]
    ways: tuple[int, int]


FULL, QUICK = Effort((9, 2000), (300, 256), (5, 2000)), Effort((3, 300), (4, 64), (1, 300))


@dataclass(frozen=True, slots=True)
class Report:
    """Everything measured: `decisions` in microseconds, `flow_bytes` per flow, `moved` in percent."""

    machine: str
    program: Sequence[Figure]
    said: Mapping[str, Pair]
    decisions: Mapping[str, float]
    flow_bytes: float
    moved: Mapping[str, float]
    ways: Compared
    growth: Sequence[Growth] = ()

    @property
    def figures(self) -> dict[str, float]:
        """Every figure that a goal may name."""
        net = {figure.name: figure.net for figure in self.program}
        return {
            **{figure.name: figure.in_e for figure in self.program},
            **{f"{name} / balancer": net[name] / net[BALANCED] for name in (ESTABLISHED, ENCAP) if BALANCED in net},
            **{name: pair.ratio for name, pair in self.said.items()},
            "user us": statistics.median(self.ways.user_us),
            "MiB per 1,000 flows": self.flow_bytes * 1000 / (1 << 20),
            "moved": max(self.moved.values()),
        }

    def as_json(self) -> dict[str, Any]:
        """All figures as JSON."""
        return {
            "machine": self.machine,
            "program": [asdict(figure) for figure in self.program],
            "growth": [asdict(each) for each in self.growth],
            "said": {name: asdict(pair) for name, pair in self.said.items()},
            "decisions_us": dict(self.decisions),
            "flow_bytes": self.flow_bytes,
            "moved_percent": dict(self.moved),
            "connections": {
                way: [asdict(connections) for connections in rounds] for way, rounds in self.ways.rounds.items()
            },
            "bytes_into_dispatcher": dict(self.ways.download),
            "user_space_us": self.ways.user_us,
            "connections_under_flood": dict(self.ways.flood),
        }


def main() -> None:
    """Measure, print, write, judge."""
    options = parser_of(__doc__, "dispatch").parse_args()
    with measuring(lacking()):
        raise SystemExit(run(QUICK if options.quick else FULL, options.json, record=options.record))


def lacking() -> str | None:
    """What this machine lacks for the bench; None if nothing."""
    if os.geteuid() != 0:
        return "the dispatcher part needs root: it loads programs into the kernel"
    absent = [name for name in ("haproxy", "ethtool") if shutil.which(name, path=PATH) is None]
    return f"no program {', '.join(absent)}; as root: deploy/bench-packages.sh" if absent else World.available()


def run(effort: Effort, path: Path, *, record: bool) -> int:
    """Run the bench and return the exit code."""
    where = machine()
    say("the program")
    figures = program.measure(*effort.program)
    grown = growth.measure(quick=effort is QUICK)
    say("what clients say")
    spoken = said.compare(*effort.said)
    say("decisions")
    tables = DispatchTables(snapshot())
    report = Report(
        where, figures, spoken, decisions(tables), memory(tables), moved(), compare(*effort.ways, say), grown
    )
    say("")
    result = Result("dispatch", "\n".join(lines(report)), report.figures, report.as_json(), PAGE, where)
    return conclude(result, path, quick=effort is QUICK, record=record)


def lines(report: Report) -> Iterator[str]:
    """The lines to print."""
    yield f"{report.machine}."
    yield "\nThe kernel's program, nanoseconds a packet; E is a program that returns at once\n"
    yield from table(program.HEAD, program.rows(report.program))
    yield "\nThe same as what it holds grows, every packet one of many thousands\n"
    yield from table(growth.HEAD, growth.rows(report.growth))
    yield "\nWhat clients say, nanoseconds a packet, the best turn\n"
    yield from table(("packet", "ns", "without, ns", "ratio"), said.rows(report.said))
    yield "\nConnections through network namespaces, one client, 50 at a time\n"
    typical = {way: report.ways.typical(way) for way in WAYS}
    rows = [
        (TITLES[way], f"{c.per_second:,.0f}", f"{c.p50:.1f}", f"{c.p99:.1f}",
         f"{report.ways.download[way]:,}" if way in report.ways.download else "")
        for way, c in typical.items()
    ]  # fmt: skip
    head = (
        "way",
        "connections/s",
        "connect ms, median",
        "99th percentile",
        f"bytes in, {DOWNLOAD_BYTES / 1e6:.0f} MB download",
    )
    yield from table(head, rows)
    yield "\nConnections/s through the kernel's program beside a flood that takes its share of the machine\n"
    yield from table(("flood", "connections/s"), [(kind, f"{rate:,.0f}") for kind, rate in report.ways.flood.items()])
    us = statistics.median(report.ways.user_us)
    yield f"\nUser-space runner: {us:.1f} us CPU a packet, the kernel's part included: {1e6 / us:,.0f} packets/s a core"
    yield "\nDecisions in Python alone, and memory\n"
    rows = [(name, f"{cost:.2f}", "us") for name, cost in report.decisions.items()]
    yield from table(
        ("decision", "cost", "unit"), [*rows, ("memory of an established flow", f"{report.flow_bytes:.0f}", "bytes")]
    )
    yield "\nFlows that move though their server stays, percent\n"
    yield from table(
        ("change of a pool of 10", "moved"), [(what, f"{share:.2f}") for what, share in report.moved.items()]
    )


def decisions(tables: DispatchTables) -> dict[str, float]:
    """Microseconds per decision, the median of five runs."""
    runs = {
        "established": known(tables, tier="gold", send=False),
        "established, and its bytes": known(tables, tier="gold", send=True),
        "established, and its bytes under nat": known(tables, tier="silver", send=True),
        "forged address": forged(tables),
        "new flow": new(tables),
        "new flow, 64 rules": new(DispatchTables(snapshot(ruled()), tables)),
    }
    return {name: 1e6 * statistics.median(run() for _ in range(5)) / COUNT for name, run in runs.items()}


def known(tables: DispatchTables, tier: str, *, send: bool) -> Callable[[], float]:
    """Packets of 1,000 established flows in turn."""
    flows = Flows(100_000)
    packets = [established(tables, flows, tier, port) for port in range(1024, 2024)] * (COUNT // 1000)

    def run() -> float:
        start = time.perf_counter()
        for packet in packets:
            verdict = decide(packet, tables, flows, NOW_NS)
            if send:
                output_bytes(packet, verdict)
        return time.perf_counter() - start

    return run


def forged(tables: DispatchTables) -> Callable[[], float]:
    """Packets to addresses with a wrong tag."""
    good = address("gold")
    packets = [segment(good ^ (1 + n % 1000), port=n % 60_000) for n in range(COUNT)]
    return lambda: _decide_all(packets, tables, Flows(100_000))


def new(tables: DispatchTables) -> Callable[[], float]:
    """SYNs of unseen flows to one address."""
    packets = [segment(address("gold"), port=n) for n in range(COUNT)]
    return lambda: _decide_all(packets, tables, Flows(100_000))


def memory(tables: DispatchTables) -> float:
    """Bytes per flow, measured over FLOWS established flows."""
    tracemalloc.start()
    flows = Flows(1_000_000)
    vip = address("gold")
    before = tracemalloc.get_traced_memory()[0]
    for n in range(FLOWS):
        for _ in range(2):
            decide(datagram(vip, port=n, source=n), tables, flows, NOW_NS)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return used / len(flows.established)


def moved() -> dict[str, float]:
    """Percent of the ring's positions that move between two servers of which neither has changed."""
    ten = [replace(POOLS["fast"].servers[0], name=f"s{n}") for n in range(10)]
    changes = {
        "one goes": (ten, ten[:-1]),
        "one comes": (ten[:-1], ten),
        "one drains": (ten, [*ten[:-1], replace(ten[-1], weight=0)]),
        "one gets half its weight": (ten, [*ten[:-1], replace(ten[-1], weight=50)]),
    }
    return {what: _moved(before, after) for what, (before, after) in changes.items()}


def _moved(before: Sequence[Any], after: Sequence[Any]) -> float:
    rings = [
        DispatchTables(snapshot(with_pool("fast", servers=tuple(servers)))).ring("fast", 6)
        for servers in (before, after)
    ]
    names = [[ring.targets[place].name for place in ring.places] for ring in rings]
    stay = {server.name for server in before if server in after}
    changed = sum(old != new and {old, new} <= stay for old, new in zip(*names, strict=True))
    return 100 * changed / len(names[0])


def _decide_all(packets: list[bytes], tables: DispatchTables, flows: Flows) -> float:
    start = time.perf_counter()
    for packet in packets:
        decide(packet, tables, flows, NOW_NS)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

"""What quality of service and rules cost, and whether one client's flows delay another's.

    python -m tests.bench.bench_quality [--quick] [--json FILE] [--record]

The last line says which goals are met and missed; the exit code is 0, 1 if a goal is missed, 2 if something cannot be
measured here. Needs root.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from tests.bench.bench_dispatch import lacking
from tests.bench.neighbours import GREEDY, WAYS, Neighbours, measure
from tests.bench.outcome import Result, conclude, measuring, parser_of, say
from tests.bench.pairs import PACKETS, TURNS, Pair, compare
from tests.bench.report import machine, table

PAGE = "quality.md"
ROUNDS = 12
NICE = -15
"""The priority of all that is measured, so that other work on the machine delays it less."""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything measured."""

    machine: str
    pairs: Mapping[str, Pair]
    neighbours: Neighbours

    @property
    def figures(self) -> dict[str, float]:
        """Every figure that a goal may name."""
        plain, policed = self.neighbours.user_us
        return {
            **{name: pair.ratio for name, pair in self.pairs.items()},
            "user policed": policed / plain,
            "neighbour": self.neighbours.ratio("xdp", 0),
            "user neighbour": self.neighbours.ratio("user", 0),
        }


def main() -> None:
    """Measure, print, write, judge."""
    options = parser_of(__doc__, "quality").parse_args()
    turns, packets, rounds = (4, 64, 1) if options.quick else (TURNS, PACKETS, ROUNDS)
    with measuring(lacking()):
        os.nice(NICE)
        where = machine()
        say("the program")
        report = Report(where, compare(turns, packets), measure(rounds, say))
        say("")
        more = {name: asdict(pair) for name, pair in report.pairs.items()} | {"neighbours": asdict(report.neighbours)}
        result = Result("quality", "\n".join(lines(report)), report.figures, more, PAGE, where)
        raise SystemExit(conclude(result, options.json, quick=options.quick, record=options.record))


def lines(report: Report) -> Iterator[str]:
    """The lines to print."""
    yield f"{report.machine}."
    yield "\nThe kernel's program, nanoseconds a packet, the best turn\n"
    rows = [
        (pair.title, f"{pair.ns:.0f}", f"{pair.base_ns:.0f}", f"{pair.ratio:.2f}") for pair in report.pairs.values()
    ]
    yield from table(("packet", "ns", "compared with, ns", "ratio"), rows)
    plain, policed = report.neighbours.user_us
    yield f"\nUser-space runner: {plain:.1f} us CPU a packet, policed {policed:.1f}: {policed / plain:.2f} x"
    yield f"\nMilliseconds to connect beside another client that opens {GREEDY:,} flows a second\n"
    head = (
        "way",
        "median alone",
        "median beside",
        "99th percentile alone",
        "beside packets elsewhere",
        "beside",
        "beside by alone",
        "by packets elsewhere",
        "left out",
        "failed",
    )
    yield from table(head, [_row(report.neighbours, way) for way in WAYS])


def _row(neighbours: Neighbours, way: str) -> tuple[str, ...]:
    alone, elsewhere, beside = neighbours.times(way)
    times = (alone.p50, beside.p50, alone.p99, elsewhere.p99, beside.p99)
    ratios = (neighbours.ratio(way, 0), neighbours.ratio(way, 1))
    shown = (*(f"{figure:.3f}" for figure in times), *(f"{ratio:.2f}" for ratio in ratios))
    return WAYS[way], *shown, f"{max(alone.disturbed, beside.disturbed):.0%}", f"{beside.failed}"


if __name__ == "__main__":
    main()

"""What DNS answers cost that the kernel gives (`[dns] xdp`): the program by outcome and by the number of prefixes, and
end to end beside gdnsd and Knot.

    python -m tests.bench.bench_kernel [--quick] [--json FILE] [--record]

The last line says which goals are met and missed; the exit code is 0, 1 if a goal is missed, 2 if something cannot be
measured here. Needs root.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from dnsvip.demo.netns import World
from tests.bench import dns_kernel, dns_new_prefixes, dns_prefixes, dns_program
from tests.bench.dns_kernel import BY_GDNSD, BY_KNOT, BY_NSD, MANY, ONE, OURS, QUESTIONS, Row
from tests.bench.dns_new_prefixes import GEOIP_SOCKETS, SPACES
from tests.bench.outcome import Result, conclude, measuring, parser_of, say
from tests.bench.report import machine, table

PAGE = "kernel.md"
SIZES, FEW = (10, 10_000, 100_000, 1_000_000, 10_000_000), (10,)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything measured: nanoseconds by outcome, and by the number of prefixes; and the rows of both end to end."""

    machine: str
    program: Mapping[str, float]
    prefixes: Mapping[int, Mapping[str, float]]
    known: Sequence[Row]
    new: Sequence[Row]

    @property
    def figures(self) -> dict[str, float]:
        """Every figure that a goal may name."""
        figures = {name: ns / self.program["E"] for name, ns in self.program.items()}
        figures |= {f"new, {size}": found["of a client"] / found["E"] for size, found in self.prefixes.items()}
        known = {(row.server, row.kind, row.who): row.cost for row in self.known}
        for name, peer in (("gdnsd", BY_GDNSD), ("knot", BY_KNOT)):
            for who, words in (("one", ONE), ("many", MANY)):
                ratios = [
                    known[OURS, kind, words] / known[peer, kind, words]
                    for kind in QUESTIONS
                    if (OURS, kind, words) in known and (peer, kind, words) in known
                ]
                figures |= {f"{name}, {who}": max(ratios)} if ratios else {}
        new = {(row.server, row.kind): row.cost for row in self.new}
        ratios = [new[OURS, kind] / new[GEOIP_SOCKETS, kind] for kind in SPACES if (OURS, kind) in new]
        return figures | ({"new / geoip": max(ratios)} if ratios else {})


def lacking() -> str | None:
    """What this machine lacks for the bench; None if nothing."""
    if os.geteuid() != 0:
        return "the part needs root: it loads programs into the kernel"
    absent = [name for name in ("gdnsd", "knotd", "nsd", "ethtool") if shutil.which(name) is None]
    return f"no program {', '.join(absent)}; as root: deploy/bench-packages.sh" if absent else World.available()


def measured(*, quick: bool) -> Report:
    """All of it; a quick run has no servers but ours."""
    say("the program")
    program = dns_program.measure(3, 500) if quick else dns_program.measure()
    prefixes = {}
    for size in FEW if quick else SIZES:
        say(f"{size:,} prefixes")
        prefixes[size] = dns_prefixes.measure(size)
    say("over veth")
    known = list(dns_kernel.rows([OURS] if quick else [OURS, BY_GDNSD, BY_NSD, BY_KNOT]))
    new = list(dns_new_prefixes.rows([OURS] if quick else ()))
    say("")
    return Report(machine(), program, prefixes, known, new)


def lines(report: Report) -> Iterator[str]:
    """The lines to print."""
    e = report.program["E"]
    yield f"{report.machine}. E = {e:.1f} ns."
    yield "\nThe program, cold\n"
    rows = [(name, f"{ns:.0f}", f"{ns / e:.1f}") for name, ns in report.program.items() if name != "E"]
    yield from table(("question", "ns", "E"), rows)
    yield "\nA prefix that was never asked for\n"
    kinds = ("of a client", "of nobody")
    rows = [
        (f"{size:,}", *(f"{found[kind]:.0f} = {found[kind] / found['E']:.1f} E" for kind in kinds))
        for size, found in report.prefixes.items()
    ]
    yield from table(("prefixes", *kinds), rows)
    yield "\nOver veth: microseconds of CPU an answer\n"
    rows = [
        (
            row.server,
            row.kind,
            row.who,
            *(f"{us:.2f}" for us in (row.cost, row.by_idle, row.processes, row.program)),
            f"{row.share:.0%}",
        )
        for row in (*report.known, *report.new)
    ]
    head = ("server", "question", "from", "CPU us", "by idle time", "in processes", "in the program", "answered")
    yield from table(head, rows)


def main() -> None:
    """Measure, print, write, judge."""
    options = parser_of(__doc__, "kernel").parse_args()
    with measuring(lacking()):
        report = measured(quick=options.quick)
    result = Result("kernel", "\n".join(lines(report)), report.figures, asdict(report), PAGE, report.machine)
    raise SystemExit(conclude(result, options.json, quick=options.quick, record=options.record))


if __name__ == "__main__":
    main()

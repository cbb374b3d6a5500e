"""The figures of a DNS bench as tables (which are Markdown, for the pages), as names for the goals, and as JSON."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench import signed
from tests.bench.load import Load
from tests.bench.servers import OURS, PEERS
from tests.bench.signed import SignedRounds

TITLES: Mapping[str, str] = {
    "plain": "the service's name, without EDNS",
    "ecs": "with ECS of 10,000 known prefixes",
    "new": "with ECS of new prefixes, each asked once (dnsvip: anonymous, encoded)",
    "spread": "the service's name, without EDNS, from 100 sockets in turn",
}

COLUMNS: Mapping[str, tuple[str, int]] = {
    "prefixes": ("prefixes", 0),
    "bytes": ("bytes a prefix", 0),
    "classify_us": ("classify us", 2),
    "query_us": ("query us, no fast path", 1),
}
"""The columns of bench_classify's look-ups: title, decimal places."""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything measured.

    `rounds` by kind of query, then by server; `memory` in bytes (PSS) by server; `flat` by number of prefixes;
    `classification` as bench_classify reports it; `signed` as `signed.side_by_side` does.
    """

    machine: str
    number: int
    rounds: Mapping[str, Sequence[Mapping[str, Load]]]
    memory: Mapping[str, int]
    flat: Mapping[int, Sequence[Load]]
    classification: Mapping[str, Any]
    signed: SignedRounds = field(default_factory=dict)

    @property
    def figures(self) -> dict[str, float]:
        """Every figure that a goal may name."""
        look_ups, change = self.classification["look_ups"], self.classification["change"]
        small, large = self.flat[min(self.flat)], self.flat[max(self.flat)]
        return {
            **{f"{kind} / {peer.name}": self.ratio(kind, peer.name) for kind in self.rounds for peer in PEERS},
            "flatness": median(many.cpu_us / few.cpu_us for few, many in zip(small, large, strict=True)),
            "flatness without fast path": look_ups[-1]["query_us"] / look_ups[0]["query_us"],
            "bytes a prefix": look_ups[-1]["bytes"],
            "load": change["load_seconds"],
            "change": change["effect_seconds"],
            "pause": change["pause_ms"],
            **signed.figures(self.signed),
        }

    def cost(self, kind: str, server: str) -> float:
        """Median CPU microseconds per answer."""
        return median(loads[server].cpu_us for loads in self.rounds[kind])

    def rate(self, kind: str, server: str) -> float:
        """Median answers per second."""
        return median(loads[server].rate for loads in self.rounds[kind])

    def ratio(self, kind: str, peer: str) -> float:
        """Our CPU time divided by a peer's, the median of the rounds."""
        return median(loads[OURS.name].cpu_us / loads[peer].cpu_us for loads in self.rounds[kind])

    def as_json(self) -> dict[str, Any]:
        """All of it, with every round."""
        return {
            "machine": self.machine,
            "cpu_us_per_query": {k: {s: self.cost(k, s) for s in rows[0]} for k, rows in self.rounds.items()},
            "queries_per_second": {k: {s: self.rate(k, s) for s in rows[0]} for k, rows in self.rounds.items()},
            "memory_bytes": dict(self.memory),
            "cpu_us_by_prefixes": {size: median(each.cpu_us for each in loads) for size, loads in self.flat.items()},
            "rounds": {
                kind: [{server: load.cpu_us for server, load in each.items()} for each in rows]
                for kind, rows in self.rounds.items()
            },
            "classification": self.classification,
            "signed": {
                kind: [{server: load.cpu_us for server, load in each.items()} for each in rows]
                for kind, rows in self.signed.items()
            },
        }


def tables(report: Report) -> Iterator[str]:
    """The lines to print."""
    yield f"{report.machine}. Medians of {report.number} rounds, one worker each."
    for kind in report.rounds:
        yield f"\nQuestions: {TITLES[kind]}\n"
        rows = [
            (
                recipe.name,
                recipe.text,
                f"{report.cost(kind, recipe.name):.2f}",
                "" if recipe is OURS else f"{report.ratio(kind, recipe.name):.2f}",
                f"{report.rate(kind, recipe.name):,.0f}",
                f"{report.memory[recipe.name] / 1e6:.0f}",
            )
            for recipe in (OURS, *PEERS)
        ]
        head = ("server", "answers", "CPU us/query", "dnsvip by it", "queries/s", "memory MB")
        yield from table(head, rows)
    for kind, loads in report.signed.items():
        yield f"\nSigned answers: {signed.KINDS[kind].title}\n"
        yield from table(("server", "CPU us/query", "by unsigned", "by PowerDNS"), [*signed.rows_of(loads)])
    yield "\nNumber of client prefixes (dnsvip, ECS /32 from anywhere in them, each new)\n"
    sizes = [
        (f"{size:,}", f"{median(load.cpu_us for load in loads):.2f}", f"{median(load.rate for load in loads):,.0f}")
        for size, loads in report.flat.items()
    ]
    yield from table(("prefixes", "CPU us/query", "queries/s"), sizes)
    yield "\nClassification, in process (bench_classify)\n"
    look_ups = report.classification["look_ups"]
    yield from table(
        tuple(title for title, _ in COLUMNS.values()),
        [tuple(f"{row[key]:,.{places}f}" for key, (_, places) in COLUMNS.items()) for row in look_ups],
    )
    change = report.classification["change"]
    yield (
        f"\n{change['clients']:,} clients: loaded in {change['load_seconds']:.1f} s; a change took effect within "
        f"{change['effect_seconds']:.3f} s with a pause of at most {change['pause_ms']:.1f} ms "
        f"(median {change['pause_median_ms']:.1f} ms, without changes {change['idle_pause_ms']:.1f} ms)"
    )


def machine() -> str:
    """The machine, and its load before the bench."""
    cpus = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    model = cpus[0].partition(":")[2].strip() if cpus else platform.machine()
    release = ".".join(platform.release().split(".")[:2])
    return (
        f"{time.strftime('%Y-%m-%d')}, {len(os.sched_getaffinity(0))} x {model}, Linux {release}, "
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f} before"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A Markdown table."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    texts = [any(map(str.isalpha, rows[0][column])) for column in range(len(head))]
    for row in (head, ["---" if text else "---:" for text in texts], *rows):
        cells = [
            cell.ljust(width) if text else cell.rjust(width)
            for cell, width, text in zip(row, widths, texts, strict=True)
        ]
        yield f"| {' | '.join(cells)} |"

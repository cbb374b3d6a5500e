"""Rates of the processes of a site, from the totals that each reports at times of its own. Pure: times are arguments.

The clocks of nodes differ, so a process's own times give its rates, and the reader's when it was last heard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

MOST_PROCESSES = 512
PATIENCE = 3.5
"""Seconds for which the rates of a process that is silent stand."""
LOST = 20.0
"""Seconds of silence after which a process begins anew; after a shorter one the mean of that time is its rate."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The totals of one process at `at`, its own unix time; `whole`: those that are not in it are 0."""

    at: float
    totals: Mapping[str, int]
    whole: bool = True


@dataclass(slots=True)
class _Meter:
    node: str
    sample: Sample
    heard: float
    rates: Mapping[str, float] | None = None
    sources: frozenset[str] = field(default_factory=frozenset)


class Meters:
    """The meters of all processes that report."""

    def __init__(self) -> None:
        self._meters: dict[str, _Meter] = {}

    def take(self, process: str, node: str, sample: Sample, now: float) -> None:
        """Take what a process of a node has counted; its first totals give no rates, totals that fell are of one that
        counts anew."""
        meter = self._meters.get(process)
        if meter is None:
            if len(self._meters) < MOST_PROCESSES:
                self._meters[process] = _Meter(node, sample, now)
        elif sample.at > meter.sample.at:
            gone = now - meter.heard > LOST  # what it counted meanwhile is of no moment
            meter.rates = None if gone else rates(meter.sample, sample)
            meter.sources = frozenset() if gone else sources(sample.totals) & sources(meter.sample.totals)
            meter.sample, meter.heard = sample, now

    def lose(self, process: str, now: float) -> None:
        """Note that a process is known to be away: its rates are not known from now on."""
        meter = self._meters.get(process)
        if meter is not None:
            meter.rates, meter.heard = None, now - 2 * LOST

    def sums(self, now: float) -> dict[str, tuple[dict[str, float], frozenset[str]]]:
        """By node, and under "" for the site: the rates of all that are known now, and the sources that they are of.
        Processes that are long silent are forgotten."""
        self._meters = {key: meter for key, meter in self._meters.items() if now - meter.heard < 10 * LOST}
        found: dict[str, tuple[dict[str, float], frozenset[str]]] = {"": ({}, frozenset())}
        for meter in self._meters.values():
            if meter.rates is None or now - meter.heard > PATIENCE:
                continue
            for scope in ("", meter.node):
                sums, heard = found.get(scope, ({}, frozenset()))
                for name, rate in meter.rates.items():
                    sums[name] = sums.get(name, 0.0) + rate
                found[scope] = sums, heard | meter.sources
        return found


class Silence:
    """How long processes have been silent, by the reader's clock alone."""

    def __init__(self) -> None:
        self._heard: dict[str, tuple[float, float]] = {}

    def hear(self, seen: Mapping[str, float], now: float) -> None:
        """Take when each process has reported last, by its own clock; others are forgotten."""
        before = self._heard
        self._heard = {
            process: before[process] if process in before and before[process][0] == at else (at, now)
            for process, at in seen.items()
        }

    def seconds(self, now: float) -> dict[str, float]:
        """Seconds since each process was heard to report."""
        return {process: now - heard for process, (_, heard) in self._heard.items()}


def rates(before: Sample, after: Sample) -> dict[str, float]:
    """What was counted per second between two samples, of the sources that are in both."""
    known = sources(before.totals) & sources(after.totals)
    seconds = after.at - before.at
    gained: dict[str, float] = {}
    for name, total in after.totals.items():
        if source_of(name) in known and (name in before.totals or before.whole):
            gain = total - before.totals.get(name, 0)
            gained[name] = (gain if gain >= 0 else total) / seconds
    return gained


def source_of(name: str) -> str:
    """The source of a counter SOURCE.GROUP.NAME."""
    return name.partition(".")[0]


def sources(totals: Iterable[str]) -> frozenset[str]:
    """The sources of counters."""
    return frozenset(map(source_of, totals))

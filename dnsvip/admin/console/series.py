"""Rates over a day for charts, in rings of three resolutions. Pure: times and rates are arguments.

Bounded in names and moments: a ring of one name takes four bytes a moment, all rings of the site at most MOST_BYTES.
Names that were always 0 take nothing.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan, nan
from typing import Any

NAMES = 256
"""Names that a ring of the site keeps."""
NODE_NAMES, NODES = 128, 32
"""Names that a ring of one node keeps, and nodes that have rings of their own."""

GONE_SECONDS = 3600.0
"""Silence after which a node's rings give way to those of a new one."""


@dataclass(frozen=True, slots=True)
class Span:
    """A ring's resolution in seconds (0: each moment as it comes), and its length in moments."""

    seconds: float
    moments: int


SPANS: Mapping[str, Span] = {"10min": Span(0.0, 300), "1h": Span(20.0, 180), "24h": Span(300.0, 288)}
MOST_BYTES = 4 * (NAMES + NODES * NODE_NAMES) * sum(span.moments for span in SPANS.values())
"""13 MB: the largest site with as many nodes; one of two nodes and 40 names has 0.4 MB."""


class Ring:
    """The means of a span's moments, the newest last; `names` bounds how many names it keeps."""

    def __init__(self, span: Span, names: int) -> None:
        self._span, self._names = span, names
        self._times: array[float] = array("d")
        self._columns: dict[str, array[float]] = {}
        self._heard: dict[str, bytearray] = {}
        self._slot = 0.0
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}
        self._newest = 0.0
        self._over = False

    def add(self, at: float, rates: Mapping[str, float], sources: frozenset[str]) -> None:
        """Add the rates at a moment (unix seconds) of these sources; the mean of a slot is kept when it is over."""
        slot = at // self._span.seconds if self._span.seconds else at
        if self._newest and slot != self._slot:
            self._keep()
        self._slot, self._newest = slot, at
        for name, rate in rates.items():
            if rate or name in self._sums:
                self._sums[name] = self._sums.get(name, 0.0) + rate
        for source in sources:
            self._counts[source] = self._counts.get(source, 0) + 1
        if not self._span.seconds:
            self._keep()
            self._newest = 0.0

    def after(self, at: float) -> dict[str, Any]:
        """The moments later than `at` by columns: `times`, and under each name a rate or None for each of them.

        Names that were always 0 are left out. `heard` says of each source, such as the dispatcher, at which moments
        there was something to read; at the others its rates are not known, which is not 0.
        """
        first = next((place for place, time in enumerate(self._times) if time > at), len(self._times))
        rates = {
            name: [None if isnan(rate) else round(rate, 2) for rate in column[first:]]
            for name, column in sorted(self._columns.items())
            if any(column[first:])
        }
        return {
            "times": [round(time, 2) for time in self._times[first:]],
            "rates": {name: column for name, column in rates.items() if any(column)},
            "heard": {source: [bool(one) for one in flags[first:]] for source, flags in sorted(self._heard.items())},
        }

    def _keep(self) -> None:
        length = len(self._times)
        for name in self._sums:
            if name not in self._columns and len(self._columns) < self._names:
                known = self._heard.get(name.partition(".")[0], bytearray(length))
                self._columns[name] = array("f", (0.0 if flag and not self._over else nan for flag in known))
            self._over = self._over or name not in self._columns  # what a name had before is not known any more
        for source in self._counts:
            self._heard.setdefault(source, bytearray(length))
        for name, column in self._columns.items():
            count = self._counts.get(name.partition(".")[0], 0)
            column.append(self._sums.get(name, 0.0) / count if count else nan)
        for source, flags in self._heard.items():
            flags.append(source in self._counts)
        self._times.append(self._newest)
        self._sums, self._counts = {}, {}
        if len(self._times) > self._span.moments:
            self._drop()

    def _drop(self) -> None:
        """Drop the oldest moment, and names that have been 0 in all others."""
        for column in self._columns.values():
            del column[0]
        for flags in self._heard.values():
            del flags[0]
        del self._times[0]
        self._columns = {name: column for name, column in self._columns.items() if _tells(column)}


def _tells(column: array[float]) -> bool:
    return any(rate and not isnan(rate) for rate in column)


class History:
    """The rings of the site, under "", and of its nodes."""

    def __init__(self) -> None:
        self._rings: dict[str, dict[str, Ring]] = {}
        self._heard: dict[str, float] = {}

    def add(self, at: float, sums: Mapping[str, tuple[Mapping[str, float], frozenset[str]]]) -> None:
        """Add the rates of all scopes at a moment; a scope that is known and not among them is silent. A node without
        a place takes that of one that has been silent for GONE_SECONDS."""
        for scope in sorted(sums.keys() - self._rings.keys()):
            if scope and len(self._rings) > NODES:
                self._forget(at)
            if not scope or len(self._rings) <= NODES:
                self._rings[scope] = {key: Ring(span, NODE_NAMES if scope else NAMES) for key, span in SPANS.items()}
        self._heard |= dict.fromkeys(sums.keys() & self._rings.keys(), at)
        for scope, rings in self._rings.items():
            rates, sources = sums.get(scope, ({}, frozenset()))
            for ring in rings.values():
                ring.add(at, rates, sources)

    def _forget(self, at: float) -> None:
        longest = min(self._heard, key=self._heard.__getitem__, default="")
        if longest and at - self._heard[longest] >= GONE_SECONDS:
            del self._rings[longest], self._heard[longest]

    def ring(self, scope: str, span: str) -> Ring:
        """The ring of a scope; an empty one where there is none."""
        return self._rings.get(scope, {}).get(span) or Ring(SPANS[span], 0)

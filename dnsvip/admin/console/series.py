"""Counters over the last minutes as rates, for charts. Pure: times and totals are arguments.

It keeps a fixed number of moments and names, so its memory and the size of an answer are bounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MOMENTS = 300
NAMES = 400
GROUPS = ("outcomes", "rcodes", "steps", "vips", "tiers", "actions", "new_flows")
"""The tables of a status that are charted over time; each holds name -> total since the start."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Rates per second by name over the time up to `at` (unix seconds), and the sources that they are of."""

    at: float
    rates: Mapping[str, float]
    sources: frozenset[str]


class Series:
    """The last moments, the newest last."""

    def __init__(self, moments: int = MOMENTS, names: int = NAMES) -> None:
        self._moments: deque[Moment] = deque(maxlen=moments)
        self._names = names
        self._before: tuple[float, Mapping[str, int]] | None = None

    def add(self, at: float, totals: Mapping[str, int]) -> None:
        """Record the totals at a moment. The first ones give no rates; a total that fell has restarted from 0.

        A source that was away and is back gives none either: what it has counted meanwhile is of no moment.
        """
        bounded = dict(sorted(totals.items())[: self._names])
        if self._before is not None and at > self._before[0]:
            since, before = self._before
            sources = _sources(before) & _sources(bounded)
            known = {name: total for name, total in bounded.items() if _source(name) in sources}
            gains = {name: total - before.get(name, 0) for name, total in known.items()}
            rates = {
                name: round((gain if gain >= 0 else bounded[name]) / (at - since), 2) for name, gain in gains.items()
            }
            self._moments.append(Moment(at, rates, sources))
        self._before = at, bounded

    def after(self, at: float) -> dict[str, Any]:
        """The moments later than `at` by columns: `times`, and under each name a rate or None for each of them.

        Names that were always 0 are left out. `heard` says of each source, such as the dispatcher, at which moments
        there was something to read; at the others its rates are not known, which is not 0.
        """
        moments = [moment for moment in self._moments if moment.at > at]
        names = sorted({name for moment in moments for name, rate in moment.rates.items() if rate})
        rates = {name: [moment.rates.get(name) for moment in moments] for name in names}
        sources = sorted({source for moment in self._moments for source in moment.sources})
        heard = {source: [source in moment.sources for moment in moments] for source in sources}
        return {"times": [round(moment.at, 2) for moment in moments], "rates": rates, "heard": heard}


def _source(name: str) -> str:
    return name.partition(".")[0]


def _sources(totals: Mapping[str, int]) -> frozenset[str]:
    return frozenset(map(_source, totals))


def totals_of(source: str, status: Mapping[str, Any]) -> dict[str, int]:
    """The counted tables of a status, flat: `SOURCE.GROUP.NAME` -> total."""
    return dict(_flat(source, status))


def _flat(source: str, status: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for group in GROUPS:
        table = status.get(group)
        if isinstance(table, Mapping):
            for name, total in table.items():
                if isinstance(total, int):
                    yield f"{source}.{group}.{name}", total
                elif isinstance(total, Mapping):  # a table by two labels
                    counted = ((key, value) for key, value in total.items() if isinstance(value, int))
                    yield from ((f"{source}.{group}.{name}.{key}", value) for key, value in counted)

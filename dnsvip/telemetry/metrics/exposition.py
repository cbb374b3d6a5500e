"""Metric families from plain numbers, and their exposition in the format a scraper asks for.

Names are `dnsvip_PART_WHAT_UNIT`; counters end in `_total`. Label values come from a closed set or from the site's
own names (tiers, pools, servers, clusters, nodes), never from clients, addresses or queries: traffic cannot grow the
number of series.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

Labels: TypeAlias = tuple[str, ...]
Samples: TypeAlias = Iterable[tuple[Labels, float]]


def counters(name: str, text: str, labels: Labels, samples: Samples) -> Metric:
    """A counter family; `name` is without `_total`. A sample is the label values and the number."""
    family = CounterMetricFamily(name, text, labels=labels)
    for values, number in samples:
        family.add_metric([str(value) for value in values], float(number))
    return family


def gauges(name: str, text: str, labels: Labels, samples: Samples) -> Metric:
    """A gauge family."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, number in samples:
        family.add_metric([str(value) for value in values], float(number))
    return family


def counter(name: str, text: str, number: float) -> Metric:
    """One counter without labels."""
    return counters(name, text, (), [((), number)])


def gauge(name: str, text: str, number: float) -> Metric:
    """One gauge without labels."""
    return gauges(name, text, (), [((), number)])


def by_label(numbers: Mapping[str, float]) -> Samples:
    """Samples of a family with a single label."""
    return (((name,), number) for name, number in sorted(numbers.items()))


def collected(**parts: Callable[[], Iterable[Metric]]) -> list[Metric]:
    """The families of all parts. One that raises costs its later families alone, and is named by a metric."""
    families: list[Metric] = []
    failed: list[str] = []
    for name, part in parts.items():
        try:
            for family in part():
                families.append(family)  # noqa: PERF402 - those before an error count
        except Exception:  # noqa: BLE001 - as above
            failed.append(name)
    text = "A part of the metrics that a fault of the program leaves out, always 1."
    return [*families, gauges("dnsvip_metrics_failed", text, ("part",), (((name,), 1.0) for name in failed))]


_ASKED, _VERSION = re.compile(r"version=([^;,]*)"), re.compile(r"[0-9]{1,2}(\.[0-9]{1,2}){2}", re.ASCII)
"""The versions of formats that an Accept header names, and the form of those that there are."""


def render(families: Iterable[Metric], accept: str = "") -> tuple[bytes, str]:
    """The exposition and its content type; `accept` is the request's Accept header."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(families))
    known = all(map(_VERSION.fullmatch, _ASKED.findall(accept)))  # others make the library fail, or are echoed
    encode, content_type = choose_encoder(accept if known else "")
    return encode(registry), content_type


class _Families(Collector):
    """Hands a registry families that already exist."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families

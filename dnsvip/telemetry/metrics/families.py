"""One metric family from plain numbers, by the rules that all of ours keep.

Names are `dnsvip_PART_WHAT_UNIT`, counters end in `_total`. A label's values come from a closed set or from the
site's own names (tiers, pools, servers, clusters, nodes), never from clients, addresses or questions: what strangers
send cannot make the number of series grow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

Labels: TypeAlias = tuple[str, ...]
Samples: TypeAlias = Iterable[tuple[Labels, float]]


def counters(name: str, text: str, labels: Labels, samples: Samples) -> Metric:
    """A family of counters, `name` without `_total`; a sample is the labels' values and the number."""
    family = CounterMetricFamily(name, text, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def gauges(name: str, text: str, labels: Labels, samples: Samples) -> Metric:
    """A family of gauges."""
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def counter(name: str, text: str, number: float) -> Metric:
    """One counter without labels."""
    return counters(name, text, (), [((), number)])


def gauge(name: str, text: str, number: float) -> Metric:
    """One gauge without labels."""
    return gauges(name, text, (), [((), number)])


def by_one(numbers: Mapping[str, float]) -> Samples:
    """Samples of a family with one label."""
    return (((name,), number) for name, number in sorted(numbers.items()))

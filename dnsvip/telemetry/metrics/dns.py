"""Metrics of the DNS server, from `DnsServer.counters` summed over all workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily, Metric

from dnsvip.telemetry.metrics.exposition import by_label, counters, gauge, gauges

OPEN = "_open"
"""How the gauges of group `transport` end: open connections by transport."""

GROUPS: Mapping[str, tuple[str, str, str]] = {
    "outcomes": ("dnsvip_dns_messages", "outcome", "Messages by outcome; they sum to all messages."),
    "rcodes": ("dnsvip_dns_responses", "rcode", "Answers by rcode."),
    "vips": ("dnsvip_dns_vips", "kind", "Answers with an address synthesized for the requester, by kind of address."),
    "steps": ("dnsvip_dns_identified", "step", "The same answers by the step that identified the requester."),
    "tiers": (
        "dnsvip_dns_answers",
        "tier",
        "The same answers by the tier of the client; none: an unknown client.",
    ),
    "zones": (
        "dnsvip_dns_zone_answers",
        "zone",
        "Answers from a zone, of the thousand with the most; an estimate where datagrams come in batches.",
    ),
    "query_log": ("dnsvip_dns_query_log_lines", "result", "Sampled queries by result of their log line."),
    "dnstap": ("dnsvip_dns_dnstap_messages", "result", "Sampled queries by result of their dnstap message."),
    "xdp": ("dnsvip_dns_xdp_packets", "result", "Packets that the program in the kernel saw, by result."),
    "transport": ("dnsvip_dns_transport", "event", "Messages read, and connections and answers refused."),
}
"""Group of counters -> name, label and help of its family."""


def families(totals: Mapping[str, Mapping[str, int]]) -> Iterator[Metric]:
    """One family per group."""
    for group, (name, label, text) in GROUPS.items():
        numbers = {key: number for key, number in totals.get(group, {}).items() if not key.endswith(OPEN)}
        yield counters(name, text, (label,), by_label(numbers))
    queries = (((proto, rcode), number) for (proto, rcode), number in _pairs(totals.get("queries", {})))
    text = "Queries answered, by transport and rcode."
    yield counters("dnsvip_dns_queries", text, ("proto", "rcode"), queries)
    yield _latency(totals.get("latency", {}))
    open_ = {key.removesuffix(OPEN): n for key, n in totals.get("transport", {}).items() if key.endswith(OPEN)}
    yield gauges("dnsvip_dns_connections", "Open connections by transport.", ("proto",), by_label(open_))
    yield gauge("dnsvip_dns_tcp_connections", "Open TCP connections.", open_.get("tcp", 0))


def _latency(counts: Mapping[str, int]) -> Metric:
    """The histogram of the sampled times; `counts` as dns.io.latency has them."""
    text = "Time from when a datagram is read until its answer is sent, of a sample."
    family = HistogramMetricFamily("dnsvip_dns_latency_seconds", text)
    bounds = sorted((name for name in counts if name != "microseconds"), key=float)
    if bounds:
        sums = accumulate(counts[name] for name in bounds)
        family.add_metric([], list(zip(bounds, map(float, sums), strict=True)), counts["microseconds"] / 1e6)
    return family


def _pairs(numbers: Mapping[str, int]) -> Iterator[tuple[tuple[str, str], int]]:
    for name, number in sorted(numbers.items()):
        proto, _, rcode = name.partition(" ")
        yield (proto, rcode), number

"""Metrics of a dispatcher, from the `status` of any runner; groups that a runner lacks yield no samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client.core import Metric

from dnsvip.telemetry.metrics.exposition import by_label, counter, counters, gauge, gauges

_PLAIN: Mapping[str, tuple[Callable[[str, str, float], Metric], str, str]] = {
    "mtu": (gauge, "dnsvip_dispatch_mtu_bytes", "Largest packet that is accepted."),
    "since": (gauge, "dnsvip_dispatch_start_timestamp_seconds", "When forwarding started, unix seconds."),
    "waiting": (
        gauge,
        "dnsvip_dispatch_waiting_packets",
        "Packets in user space that wait for their network's turn to be verified; they are not counted yet.",
    ),
    "held": (
        gauge,
        "dnsvip_dispatch_held_packets",
        "Packets of tiers over their rate, delayed until a token is available.",
    ),
    "gave_way": (
        counter,
        "dnsvip_dispatch_held_gave_way",
        "Held packets that were dropped for others of a higher priority.",
    ),
    "guesses_refused": (
        counter,
        "dnsvip_dispatch_guesses_refused",
        "Proofs refused unseen, as their source network has sent too many bad ones in this time slot.",
    ),
    "labels_ignored": (
        counter,
        "dnsvip_dispatch_labels_ignored",
        "New flows of clients to clusters with `label` whose flow label is no claim; they go by what the address says.",
    ),
    "unseen": (counter, "dnsvip_dispatch_unseen_packets", "Packets not shown to watchers because there were too many."),
    "send_failed": (counter, "dnsvip_dispatch_send_failures", "Packets that the kernel failed to send."),
}
_FLOWS: Mapping[str, tuple[str, str]] = {
    "evicted": ("dnsvip_dispatch_flows_evicted", "Flows evicted because the table was full."),
    "expired": ("dnsvip_dispatch_flows_expired", "Flows expired after being idle."),
    "not_promoted": (
        "dnsvip_dispatch_flows_not_promoted",
        "Flows not promoted from probation because the table was full.",
    ),
    "not_recorded": (
        "dnsvip_dispatch_flows_not_recorded",
        "New flows that were forwarded but not recorded, because none of a lower priority gave way.",
    ),
}
_CHECKS: Mapping[str, tuple[str, str]] = {
    "probes": ("dnsvip_dispatch_probes", "Health checks performed."),
    "failures": ("dnsvip_dispatch_probe_failures", "Health checks that failed."),
}
_USAGE: Mapping[str, tuple[str, str]] = {
    "packets": ("dnsvip_dispatch_client_packets", "Packets of all clients that were forwarded."),
    "bytes": ("dnsvip_dispatch_client_bytes", "Bytes of the packets of all clients that were forwarded."),
    "flows": ("dnsvip_dispatch_client_flows", "New flows of all clients."),
    "drops": ("dnsvip_dispatch_client_drops", "Packets of all clients that were dropped or answered."),
}
_SERVER = ("pool", "server")


def families(status: Mapping[str, Any]) -> Iterator[Metric]:
    """All families that the status has."""
    text = "Packets by the reason of their verdict and what was done with them; they sum to all packets."
    actions = status.get("actions", {}).items()
    pairs = (((reason, action), number) for reason, counts in actions for action, number in counts.items())
    yield counters("dnsvip_dispatch_packets", text, ("reason", "action"), pairs)
    text = "New flows sent to a server, by tier."
    yield counters("dnsvip_dispatch_new_flows", text, ("tier",), by_label(status.get("new_flows", {})))
    text = "New flows whose pool a rule of their cluster decided, or their client (rule client)."
    rules = (((one["cluster"], one["rule"]), float(one["flows"])) for one in status.get("rules", []))
    yield counters("dnsvip_dispatch_rule_flows", text, ("cluster", "rule"), rules)
    text = "Packets dropped or answered, by the cluster of their destination."
    drops = (((one["cluster"], one["action"]), float(one["packets"])) for one in status.get("drops", []))
    yield counters("dnsvip_dispatch_cluster_drops", text, ("cluster", "action"), drops)
    yield from (counter(name, text, status["usage"][key]) for key, (name, text) in _USAGE.items() if "usage" in status)
    text = "Packets over the limits of their tier's policing, dropped or marked."
    policed = (((one["tier"], one["done"]), float(one["packets"])) for one in status.get("policed", []))
    yield counters("dnsvip_dispatch_policed_packets", text, ("tier", "done"), policed)
    text = "Sampled flows by result of their log line."
    yield counters("dnsvip_dispatch_flow_log_lines", text, ("result",), by_label(status.get("flow_log", {})))
    for key, (make, name, text) in _PLAIN.items():
        if key in status:
            yield make(name, text, status[key])
    yield from _flows(status.get("flows", {}))
    if "uses" in status:
        text = "Damaged records of used single-use addresses, found at the start."
        yield gauge("dnsvip_dispatch_uses_damaged", text, status["uses"]["damaged"])
    yield from _buckets(status.get("buckets", {}))
    yield from _servers(status.get("servers", []))
    checks = status.get("checks", {})
    yield from (counter(name, text, checks[key]) for key, (name, text) in _CHECKS.items() if key in checks)
    unreachable = len(status.get("unreachable", []))
    yield gauge("dnsvip_dispatch_unreachable_servers", "Servers that are currently unreachable.", unreachable)


def _flows(flows: Mapping[str, float]) -> Iterator[Metric]:
    held = {state: flows[state] for state in ("established", "new") if state in flows}
    yield gauges("dnsvip_dispatch_flows", "Flows in the connection key table.", ("state",), by_label(held))
    if "bound" in flows:
        yield gauge("dnsvip_dispatch_flows_limit", "Capacity of the connection key table.", flows["bound"])
    yield from (counter(name, text, flows[key]) for key, (name, text) in _FLOWS.items() if key in flows)


def _buckets(tables: Mapping[str, Mapping[str, float]]) -> Iterator[Metric]:
    """Of the tables of clients and of sources; absent in the status of a dispatcher that has none."""
    if not tables:
        return

    def of(key: str) -> Iterable[tuple[tuple[str, ...], float]]:
        return by_label({holders: table[key] for holders, table in tables.items()})

    text = "Clients, or sources, whose limits are in use: a bucket each that is not full."
    yield gauges("dnsvip_dispatch_buckets", text, ("holders",), of("used"))
    text = "How many of them can have a bucket of their own at a time."
    yield gauges("dnsvip_dispatch_buckets_limit", text, ("holders",), of("bound"))
    text = "Packets counted against the bucket of their tier, because there was no room for their client's or source's."
    yield counters("dnsvip_dispatch_buckets_shared", text, ("holders",), of("shared"))


def state_of(server: Mapping[str, Any]) -> str:
    """The state of a server: out of service where an operator says so, failing by its check, or what both leave."""
    wanted, now, healthy = server.get("set"), server.get("state", "up"), server.get("healthy")
    if wanted in _OUT:
        return str(wanted)
    if healthy is False:
        return "failing"
    return str(now) if now != "up" else "unchecked" if healthy is None else "healthy"


_OUT = ("down", "maint")


def _servers(servers: list[Mapping[str, Any]]) -> Iterator[Metric]:
    def of(key: str) -> Iterator[tuple[tuple[str, ...], float]]:
        return (
            ((server["pool"], server["name"]), float(server[key])) for server in servers if server.get(key) is not None
        )

    yield counters("dnsvip_dispatch_server_packets", "Packets sent to a server.", _SERVER, of("packets"))
    text = "Bytes of IP packets sent to a server, as they came."
    yield counters("dnsvip_dispatch_server_bytes", text, _SERVER, of("bytes"))
    text = "New flows that were recorded for a server."
    yield counters("dnsvip_dispatch_server_new_flows", text, _SERVER, of("new_flows"))
    states = [((server["pool"], server["name"], state_of(server)), 1.0) for server in servers]
    text = "State of a server, always 1: healthy, failing, unchecked, drain, maint or down."
    yield gauges("dnsvip_dispatch_server_state", text, (*_SERVER, "state"), states)
    text = (
        "Whether a server passes its check and can be reached: 1 or 0; absent without a check, and while down or maint."
    )
    yield gauges("dnsvip_dispatch_server_healthy", text, _SERVER, of("healthy"))
    yield gauges(
        "dnsvip_dispatch_server_weight",
        "Weight of a server for new flows; 0 where it takes none.",
        _SERVER,
        of("weight"),
    )

"""Metrics of the node and its site: generations, the database, other nodes, key epochs, the program."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import Metric

from dnsvip import __version__
from dnsvip.address.keyring import EpochState
from dnsvip.site import Cluster, Snapshot
from dnsvip.site.epochs import NodeReport
from dnsvip.site.fleet import by_node, live_by_role
from dnsvip.site.plain import collection
from dnsvip.site.readiness import Code, Reason
from dnsvip.site.registry import COLLECTIONS
from dnsvip.site.rotation import full_at
from dnsvip.telemetry.metrics.exposition import by_label, gauge, gauges


@dataclass(frozen=True, slots=True)
class Known:
    """What a process knows about its site at `now` (unix seconds).

    `generation` and `nodes` come from the database, None and empty where it does not answer. `connected` is whether the
    follower has a connection, `heard_at` when the database last answered (unix seconds).
    """

    role: str
    snapshot: Snapshot
    now: float
    connected: bool
    heard_at: float
    generation: int | None = None
    nodes: tuple[NodeReport, ...] = ()


def families(known: Known) -> Iterator[Metric]:
    """The families of this process, the database and other nodes."""
    info = [((__version__, platform.python_version(), known.role), 1.0)]
    yield gauges("dnsvip_build_info", "Always 1; the labels identify the program.", ("version", "python", "role"), info)
    text = "Generation of the site that this process uses."
    yield gauge("dnsvip_node_generation", text, known.snapshot.generation)
    yield gauge("dnsvip_database_up", "Whether the database answers: 1 or 0.", float(known.connected))
    text = "When the database last answered, unix seconds."
    yield gauge("dnsvip_database_heard_timestamp_seconds", text, known.heard_at)
    if known.generation is not None:
        yield gauge("dnsvip_store_generation", "Generation of the site in the database.", known.generation)
        yield from _nodes(known.nodes, known.generation, known.now)


def _nodes(nodes: Iterable[NodeReport], generation: int, now: float) -> Iterator[Metric]:
    """Per node, the process furthest behind; silent processes count only where all are silent."""
    reports = tuple(nodes)
    by_name = by_node(reports)
    live = {key: [report for report in each if report.is_live(now)] for key, each in by_name.items()}
    labels = ("node", "role")
    samples = [(key, float(bool(live[key]))) for key in sorted(by_name)]
    yield gauges("dnsvip_nodes_live", "Whether a node has reported within its lease: 1 or 0.", labels, samples)
    text = "When a node last reported, unix seconds; of one that was stopped, when that was."
    seen = [(key, max(report.seen_at for report in by_name[key])) for key in sorted(by_name)]
    yield gauges("dnsvip_nodes_seen_timestamp_seconds", text, labels, seen)
    text = "Nodes that live, by what they do; 0 where nobody does it."
    yield gauges("dnsvip_live_nodes", text, ("role",), by_label(live_by_role(reports, now)))
    behind = {key: max(generation - report.generation for report in live[key] or by_name[key]) for key in by_name}
    samples = [(key, float(max(0, behind[key]))) for key in sorted(by_name)]
    for key, name, label, text in _BROKEN:
        pairs = sorted({(node, it) for (node, _), some in live.items() for each in some for it in _broken(each, key)})
        yield gauges(name, text, ("node", label), [(pair, 1.0) for pair in pairs])
    text = "Generations by which a node is behind."
    yield gauges("dnsvip_nodes_lag_generations", text, labels, samples)


_BROKEN = (
    (
        "broken_zones",
        "dnsvip_zone_broken",
        "zone",
        "A zone that a node answers SERVFAIL for, always 1; the node's warnings say why.",
    ),
    (
        "broken_objects",
        "dnsvip_object_broken",
        "object",
        "Another object (KIND.NAME) that makes a node fail, always 1; the node's warnings say why.",
    ),
)
"""Key of a report, and its metric's name, label and help."""


def _broken(report: NodeReport, key: str) -> list[str]:
    names = report.detail.get(key)
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


SAID_OF_ALL = tuple(code.value for code in Code if code not in (Code.ROLE, Code.SERVERS, Code.UNKNOWN_CLUSTER))
"""Reasons against a process as a whole; SERVERS is one against a cluster, and the others answer a wrong question."""


def readiness(reasons: Iterable[Reason], by_cluster: Mapping[str, Iterable[Reason]]) -> Iterator[Metric]:
    """The family of what speaks against traffic: for the process, and for each cluster of a dispatcher."""
    codes = {reason.code for reason in reasons}
    samples = [(("", name), float(name in codes)) for name in SAID_OF_ALL]
    for cluster, some in by_cluster.items():
        lacks = any(reason.code is Code.SERVERS for reason in some)
        samples.append(((cluster, Code.SERVERS.value), float(lacks)))
    text = "Whether this speaks against traffic for the process, or for a cluster of a dispatcher: 1 or 0."
    yield gauges("dnsvip_not_ready", text, ("cluster", "reason"), samples)


def site_families(snapshot: Snapshot) -> Iterator[Metric]:
    """The families of the site."""
    sizes = {kind: float(len(collection(snapshot.site, kind))) for kind in COLLECTIONS}
    yield gauges("dnsvip_site_objects", "Objects of the site by kind.", ("kind",), by_label(sizes))
    states = Counter((name, e.state.value) for name, ring in snapshot.keyrings.items() for e in ring.epochs)
    samples = [
        ((name, state.value), float(states[name, state.value])) for name in snapshot.keyrings for state in EpochState
    ]
    yield gauges("dnsvip_epochs", "Key epochs of a cluster by state.", ("cluster", "state"), samples)
    since = {name: float(ring.active[0].activated_at) for name, ring in snapshot.keyrings.items() if ring.active}
    text = "When a cluster's active key epoch was activated, unix seconds."
    yield gauges("dnsvip_epoch_activated_timestamp_seconds", text, ("cluster",), by_label(since))
    text = "When new addresses of a cluster no longer expire by themselves, as the expiry field is full, unix seconds."
    yield gauges("dnsvip_epoch_expiry_full_timestamp_seconds", text, ("cluster",), by_label(_full(snapshot)))


def _full(snapshot: Snapshot) -> dict[str, float]:
    actives = {name: ring.active[0] for name, ring in snapshot.keyrings.items() if ring.active}
    clusters = {name: cluster for name, cluster in snapshot.site.clusters.items() if isinstance(cluster, Cluster)}
    ends = {name: full_at(clusters[name], active) for name, active in actives.items() if name in clusters}
    return {name: float(end) for name, end in ends.items() if end is not None}

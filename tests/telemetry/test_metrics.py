"""Plain counters are exposed as metric families with the right names, labels and values."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.core import Metric

from dnsvip.dispatcher.reason import REASONS, zero_counts
from dnsvip.dns.io.latency import Latency
from dnsvip.dns.reply import DnsOutcome
from dnsvip.site.epochs import NodeReport
from dnsvip.site.readiness import Code, Reason
from dnsvip.telemetry.endpoints import ApiCounts
from dnsvip.telemetry.metrics import dispatch, dns, node, process
from dnsvip.telemetry.metrics.exposition import collected, gauge, render
from tests.samples import make_snapshot

STATUS = {
    "mode": "user",
    "since": 5.0,
    "mtu": 1500,
    "actions": zero_counts() | {"bad-tag": {"drop": 7, "forward": 2}},
    "new_flows": {"gold": 3},
    "rules": [{"cluster": "web", "rule": "2", "flows": 5}, {"cluster": "web", "rule": "client", "flows": 1}],
    "policed": [{"tier": "gold", "done": "marked", "packets": 8}],
    "send_failed": 1,
    "drops": [{"cluster": "web", "action": "drop", "packets": 6}],
    "usage": {"packets": 5, "bytes": 500, "flows": 2, "drops": 1},
    "flows": {
        "established": 4,
        "new": 2,
        "bound": 1024,
        "evicted": 1,
        "expired": 9,
        "not_promoted": 0,
        "not_recorded": 3,
    },
    "servers": [
        {"pool": "fast", "name": "fast-1", "packets": 12, "bytes": 900, "new_flows": 2, "healthy": True, "weight": 100},
        {"pool": "slow", "name": "slow-1", "packets": 3},
    ],
    "unreachable": ["fd00::1"],
}


def values(families: object) -> dict[tuple[str, ...], float]:
    """Samples by name and label values."""
    assert not isinstance(families, Metric)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families  # type: ignore[attr-defined]
        for sample in family.samples
    }


def test_dns_counters() -> None:
    """Each group of the server's counters is a family; open streams are a gauge."""
    found = values(
        dns.families(
            {
                "outcomes": {outcome.value: 0 for outcome in DnsOutcome} | {"service": 5},
                "rcodes": {"NOERROR": 5},
                "vips": {"encoded": 5},
                "steps": {"source": 5},
                "tiers": {"gold": 5},
                "zones": {"example.test": 6},
                "queries": {"udp NOERROR": 4, "tcp NOERROR": 1},
                "transport": {"udp_messages": 4, "tcp_messages": 1, "tcp_open": 2, "tls_open": 3},
            }
        )
    )
    assert found["dnsvip_dns_messages_total", "service"] == 5
    assert len([key for key in found if key[0] == "dnsvip_dns_messages_total"]) == len(DnsOutcome)
    assert found["dnsvip_dns_queries_total", "udp", "NOERROR"] == 4
    assert found["dnsvip_dns_answers_total", "gold"] == 5
    assert found["dnsvip_dns_zone_answers_total", "example.test"] == 6
    assert found["dnsvip_dns_tcp_connections",] == 2
    assert (found["dnsvip_dns_connections", "tcp"], found["dnsvip_dns_connections", "tls"]) == (2, 3)
    assert ("dnsvip_dns_transport_total", "tcp_open") not in found


def test_states_of_servers() -> None:
    """Out of service counts before failing, failing before draining; an agent is heard where the operator is silent."""
    rows = {
        "maint": {"set": "maint", "state": "maint", "healthy": None},
        "down": {"set": "down", "state": "down", "healthy": None},
        "failing": {"set": "drain", "state": "down", "healthy": False},
        "drain": {"set": "up", "state": "drain", "healthy": True},
        "healthy": {"set": "up", "state": "up", "healthy": True},
        "unchecked": {"set": "up", "state": "up", "healthy": None},
    }
    assert {name: dispatch.state_of(row) for name, row in rows.items()} == {name: name for name in rows}


def test_a_histogram_of_latency() -> None:
    """Buckets are cumulative, as Prometheus reads them, and there is none before anything was counted."""
    latency = Latency()
    latency.observe(0.0002)
    latency.observe(0.3, 2)
    found = values(dns.families({"latency": dict(latency.counters())}))
    buckets = {key[1]: number for key, number in found.items() if key[0] == "dnsvip_dns_latency_seconds_bucket"}
    assert (buckets["0.0001"], buckets["0.00025"], buckets["0.1"], buckets["0.5"], buckets["+Inf"]) == (0, 1, 1, 3, 3)
    assert abs(found["dnsvip_dns_latency_seconds_sum",] - 0.6002) < 1e-6
    assert found["dnsvip_dns_latency_seconds_count",] == 3
    assert not [key for key in values(dns.families({})) if "latency" in key[0]]


def test_dispatcher_status() -> None:
    """Packets by reason and action, flows by state, servers by pool; what a runner does not report has no sample."""
    found = values(dispatch.families(STATUS))
    assert found["dnsvip_dispatch_packets_total", "bad-tag", "drop"] == 7
    assert found["dnsvip_dispatch_packets_total", "bad-tag", "forward"] == 2
    assert {key[1] for key in found if key[0] == "dnsvip_dispatch_packets_total"} == set(REASONS)
    assert found["dnsvip_dispatch_new_flows_total", "gold"] == 3
    assert found["dnsvip_dispatch_rule_flows_total", "web", "2"] == 5
    assert found["dnsvip_dispatch_policed_packets_total", "gold", "marked"] == 8
    assert found["dnsvip_dispatch_flows_not_recorded_total",] == 3
    assert found["dnsvip_dispatch_flows", "established"] == 4
    assert found["dnsvip_dispatch_server_packets_total", "slow", "slow-1"] == 3
    assert found["dnsvip_dispatch_server_healthy", "fast", "fast-1"] == 1
    assert ("dnsvip_dispatch_server_healthy", "slow", "slow-1") not in found
    assert found["dnsvip_dispatch_server_bytes_total", "fast", "fast-1"] == 900
    assert found["dnsvip_dispatch_server_new_flows_total", "fast", "fast-1"] == 2
    assert found["dnsvip_dispatch_server_state", "fast", "fast-1", "healthy"] == 1
    assert found["dnsvip_dispatch_server_state", "slow", "slow-1", "unchecked"] == 1
    assert found["dnsvip_dispatch_cluster_drops_total", "web", "drop"] == 6
    assert found["dnsvip_dispatch_client_bytes_total",] == 500
    assert values(dispatch.families({}))["dnsvip_dispatch_unreachable_servers",] == 0


def test_broken_zones() -> None:
    """A zone that a live node answers SERVFAIL for is named."""
    reports = (
        NodeReport("one", frozenset({"dns"}), 9, "x", 100.0, 5.0, "a", detail={"broken_zones": ["bad.test"]}),
        NodeReport("two", frozenset({"dns"}), 9, "x", 10.0, 5.0, "b", detail={"broken_zones": ["old.test"]}),
    )
    found = values(node.families(node.Known("serve", make_snapshot(), 101.0, True, 100.5, 9, reports)))
    assert found["dnsvip_zone_broken", "one", "bad.test"] == 1
    assert ("dnsvip_zone_broken", "two", "old.test") not in found


def test_broken_objects() -> None:
    """So is any other object; a report that says something else than names is passed over."""
    names = ({"broken_objects": ["pool.fast"]}, {"broken_objects": 7, "broken_zones": [None, {}]})
    reports = tuple(
        NodeReport(f"n{n}", frozenset({"dns"}), 9, "x", 100.0, 5.0, detail=each) for n, each in enumerate(names)
    )
    found = values(node.families(node.Known("serve", make_snapshot(), 101.0, True, 100.5, 9, reports)))
    assert [key for key in found if "broken" in key[0]] == [("dnsvip_object_broken", "n0", "pool.fast")]


def test_a_part_that_fails() -> None:
    """What one part raises leaves the others, and what that part had said before, and names the part."""

    def failing() -> Iterator[Metric]:
        yield gauge("dnsvip_before", "Before.", 1)
        raise ZeroDivisionError

    found = values(collected(bad=failing, good=lambda: [gauge("dnsvip_good", "Good.", 2)]))
    assert found == {("dnsvip_before",): 1, ("dnsvip_good",): 2, ("dnsvip_metrics_failed", "bad"): 1}


def test_nodes_by_their_slowest_process() -> None:
    """A node lags as much as its slowest live process; a node that has stopped reporting is not live."""
    reports = (
        NodeReport("one", frozenset({"dns"}), 9, "x", 100.0, 5.0, "a"),
        NodeReport("one", frozenset({"dns"}), 7, "x", 100.0, 5.0, "b"),
        NodeReport("one", frozenset({"dns"}), 1, "x", 10.0, 5.0, "dead"),
        NodeReport("two", frozenset({"dispatch"}), 4, "x", 10.0, 5.0, "c"),
    )
    found = values(node.families(node.Known("serve", make_snapshot(), 101.0, True, 100.5, 9, reports)))
    assert found["dnsvip_nodes_lag_generations", "one", "dns"] == 2
    assert found["dnsvip_nodes_live", "one", "dns"] == 1
    assert found["dnsvip_nodes_live", "two", "dispatch"] == 0
    assert found["dnsvip_nodes_lag_generations", "two", "dispatch"] == 5
    assert found["dnsvip_nodes_seen_timestamp_seconds", "two", "dispatch"] == 10.0
    assert [found["dnsvip_live_nodes", role] for role in ("dns", "admin", "dispatch")] == [1, 0, 0]
    found = values(node.site_families(make_snapshot()))
    assert found["dnsvip_epochs", "web", "active"] == 1
    assert found["dnsvip_epochs", "web", "retiring"] == 0
    assert found["dnsvip_site_objects", "client"] == 2


def test_the_database_is_down() -> None:
    """Without the database its metrics are absent, and a gauge shows that it is down."""
    found = values(node.families(node.Known("dispatch", make_snapshot(), 1.0, False, 0.5)))
    assert found["dnsvip_database_up",] == 0
    assert ("dnsvip_store_generation",) not in found


def test_processes_are_added_up() -> None:
    """CPU time and memory sum the node and its live workers."""
    alone = values(process.families())
    argv, pipe = [sys.executable, "-c", "print(flush=True); input()"], subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe) as worker:
        assert worker.stdout
        worker.stdout.readline()
        both = values(process.families([worker.pid, 1 << 30]))
        worker.communicate(b"\n")
    assert both["dnsvip_processes",] == 2
    assert both["process_resident_memory_bytes",] > alone["process_resident_memory_bytes",]
    assert abs(alone["process_start_time_seconds",] - time.time()) < 3600 * 24
    assert alone["process_cpu_seconds_total",] >= sum(os.times()[:2]) - 1


def test_text_forms() -> None:
    """The Prometheus text format is the default; OpenMetrics is used when the scraper accepts it."""
    text, kind = render(dispatch.families(STATUS))
    assert kind.startswith("text/plain")
    assert b'dnsvip_dispatch_packets_total{action="drop",reason="bad-tag"} 7.0' in text
    text, kind = render(dispatch.families(STATUS), "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


def test_readiness() -> None:
    """Each reason against the process is told, and of each cluster whether it lacks servers; what is well is 0."""
    drained, servers = Reason(Code.DRAINED, "drained"), Reason(Code.SERVERS, "none")
    found = values(node.readiness([drained], {"web": [drained, servers], "mail": [drained]}))
    assert {key[1:] for key, value in found.items() if value} == {("", "drained"), ("web", "servers")}
    assert found["dnsvip_not_ready", "mail", "servers"] == found["dnsvip_not_ready", "", "stale"] == 0


def test_every_metric_is_documented() -> None:
    """README.md documents every family and no others."""
    more = {"held": 0, "gave_way": 0, "unseen": 0, "checks": {"probes": 1, "failures": 0}, "uses": {"damaged": 0}}
    more |= {"guesses_refused": 0, "labels_ignored": 0, "waiting": 0}
    more["buckets"] = {"clients": {"used": 2, "bound": 8, "shared": 1}}
    found = [
        *node.families(node.Known("serve", make_snapshot(), 1.0, True, 1.0, 1, ())),
        *node.site_families(make_snapshot()),
        *node.readiness((), {}),
        *collected(),
        *process.families(),
        *dns.families({}),
        *ApiCounts().families(),
        *dispatch.families(STATUS | more),
    ]
    names = {family.name + ("_total" if family.type == "counter" else "") for family in found}
    page = (Path(dns.__file__).parents[1] / "README.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == names


NO_VERSIONS = {
    "word": "x",
    "nothing": "",
    "short": "1",
    "word within": "1.x.0",
    "long": "9" * 5000,
    "no text": "1.0.0\udcff",
    "blank": "1.0.0 ",
    "other digits": "\u0661.0.0",
    "more": "1.0.0-rc",
    "negative": "-1.0.0",
}


@pytest.mark.parametrize("version", NO_VERSIONS.values(), ids=NO_VERSIONS)
@pytest.mark.parametrize("media", ["application/openmetrics-text", "text/plain"])
def test_versions_that_are_none(media: str, version: str) -> None:
    """A scraper that asks for a version in another form gets the oldest, and nothing of what it sent; one that there is
    is given."""
    body, kind = render([gauge("a", "b", 1)], f"{media};version={version},*/*;q=0.1")
    assert (b"a 1.0" in body, kind) == (True, render([], "")[1])
    assert "1.0.0" in render([], f"{media};version=1.0.0")[1]

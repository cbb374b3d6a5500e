"""Each alert on nodes, keys and DNS fires when a real node is in that state, and ends when its advice is followed."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import pytest
from prometheus_client.core import Metric

from dnsvip.site.epochs import NodeReport
from dnsvip.store import KeyEncryptionKey, Store
from dnsvip.telemetry.metrics import dispatch, dns
from dnsvip.telemetry.metrics import node as node_metrics
from dnsvip.telemetry.metrics.exposition import render
from tests.alerts import Scrape, Stage, fires, scraped
from tests.node.serving import NODE, node, within
from tests.node.test_health_endpoints import Watched
from tests.postgres import running
from tests.samples import make_snapshot

METRICS = '[metrics]\nlisten = "127.0.0.1:{metrics}"\n'
NOW = time.time()
Result = TypeVar("Result")
Counted: TypeAlias = dict[str, Any]
Families: TypeAlias = Callable[[Counted], Iterable[Metric]]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """One node for the tests of this file; each ends well."""
    with node(tmp_path_factory.mktemp("alerts")) as made:
        made.apply()
        found = Watched(made, NODE + METRICS)
        made.start("--token-file", "token")
        yield found


def look(watched: Watched) -> Scrape:
    return scraped(watched.get("/metrics")[1])


def still(watched: Watched) -> Stage:
    """A stage in which nothing is counted."""
    scrape = look(watched)
    return scrape, Scrape(scrape.text, scrape.at + 1)


def busy(watched: Watched, work: Callable[[], object]) -> Stage:
    """A stage in which that is done again and again."""
    before = look(watched)
    work()
    return before, look(watched)


def stored(watched: Watched, act: Callable[[Store], Awaitable[Result]]) -> Result:
    """Do something in the node's database, beside the node."""

    async def run() -> Result:
        kek = KeyEncryptionKey.load(watched.node.folder / "dnsvip.key", {})
        store = await Store.open(f"sqlite:///{watched.node.folder}/dnsvip.db", kek)
        try:
            return await act(store)
        finally:
            await store.close()

    return asyncio.run(run())


def report(name: str, *roles: str, instance: str = "a", age: float = 0.0, generation: int = 1 << 30) -> NodeReport:
    now = time.time()
    return NodeReport(
        name, frozenset(roles), generation, "x", now - age, 300.0 if not age else 5.0, instance, now - age
    )


def epochs(watched: Watched, state: str) -> float:
    return watched.value(f'dnsvip_epochs{{cluster="web",state="{state}"}}')


def edited(watched: Watched, *statements: str) -> None:
    """Edit the database while the node is stopped, as no operator can."""
    watched.node.stop()
    with sqlite3.connect(watched.node.folder / "dnsvip.db") as database:
        for statement in statements:
            database.execute(statement)
    database.close()
    watched.node.start("--token-file", "token")


def test_a_process_that_is_down(watched: Watched) -> None:
    """A process that cannot be scraped, until it is started again."""
    well = still(watched)
    watched.node.stop()
    down = scraped(None)
    watched.node.start("--token-file", "token")
    fires([well, (down, down), still(watched)], "DnsvipProcessDown", [False, True, False])


def test_nodes_that_are_gone_or_behind(watched: Watched) -> None:
    """A silent node until it is forgotten, a site without dispatcher until one starts, a laggard until its restart."""
    none = still(watched)
    stored(watched, lambda store: store.nodes.report(report("d1", "dispatch", generation=0)))
    within(30, lambda: watched.value('dnsvip_live_nodes{role="dispatch"}') == 1)
    behind = still(watched)
    listed = watched.node.noun("nodes", "list", "--role", "dispatch").stdout
    assert "d1" in listed
    stored(watched, lambda store: store.nodes.leave(report("d1", "dispatch")))
    stored(watched, lambda store: store.nodes.report(report("d1", "dispatch", instance="b")))
    restarted = still(watched)
    stages = [none, behind, restarted]
    fires(stages, "DnsvipNoDispatcher", [True, False, False])
    fires(stages, "DnsvipNodeBehind", [False, True, False])
    fires(stages, "DnsvipNodeSilent", [False, False, False])
    stored(watched, lambda store: store.nodes.report(report("d1", "dispatch", instance="b", age=60)))
    silent = still(watched)
    assert watched.node.noun("nodes", "forget", "d1").returncode == 0
    fires([restarted, silent, still(watched)], "DnsvipNodeSilent", [False, True, False])
    fires([restarted, silent, still(watched)], "DnsvipNoDispatcher", [False, True, True])


def test_a_node_that_is_drained(watched: Watched) -> None:
    """A drained node, until it is undrained."""
    well, host = still(watched), os.uname().nodename
    assert watched.node.noun("nodes", "drain", host).returncode == 0
    within(10, lambda: watched.value('dnsvip_not_ready{cluster="",reason="drained"}') == 1)
    drained = still(watched)
    assert watched.node.noun("nodes", "undrain", host).returncode == 0
    within(10, lambda: watched.value('dnsvip_not_ready{cluster="",reason="drained"}') == 0)
    fires([well, drained, still(watched)], "DnsvipNotReady", [False, True, False], 'reason="drained"')


def test_a_site_without_dns_servers() -> None:
    """As a dispatcher sees it: nobody answers the site's names, until a DNS server reports."""

    def stage(*reports: NodeReport) -> Stage:
        known = node_metrics.Known("dispatch", make_snapshot(), NOW, True, NOW, 1, reports)
        site = node_metrics.site_families(known.snapshot)
        text = render([*node_metrics.families(known), *site])[0].decode()
        return Scrape(text, NOW), Scrape(text, NOW + 1)

    dispatcher, server = report("d1", "dispatch"), report("n1", "dns", "admin")
    fires([stage(dispatcher), stage(dispatcher, server)], "DnsvipNoDnsServer", [True, False], job="dnsvip-dispatch")


def test_keys_that_wait_or_are_too_many(watched: Watched) -> None:
    """A key that waits for a dispatcher until that one stops; full slots until the oldest key retires. No schedule
    makes a key meanwhile, at whatever time the keys are looked at."""
    assert watched.node.noun("clusters", "set", "web", "rotate_every=never").returncode == 0
    well = still(watched)
    stored(watched, lambda store: store.nodes.report(report("d9", "dispatch", generation=0)))
    assert watched.node.noun("keys", "rotate", "web").returncode == 0
    within(30, lambda: epochs(watched, "published") == 1)
    waits = still(watched)
    assert "d9" in watched.node.noun("keys", "list", "web").stdout
    stored(watched, lambda store: store.nodes.leave(report("d9", "dispatch")))
    within(30, lambda: epochs(watched, "active") == 1 and epochs(watched, "published") == 0)
    fires([well, waits, still(watched)], "DnsvipRotationWaits", [False, True, False])
    for held in (3, 4):
        assert watched.node.noun("keys", "rotate", "web").returncode == 0
        within(30, lambda held=held: epochs(watched, "active") == 1 and epochs(watched, "retiring") == held - 1)
    full = still(watched)
    stored(watched, lambda store: store.keys.advance(time.time() + 1_000_000))
    within(30, lambda: epochs(watched, "retiring") == 0)
    fires([well, full, still(watched)], "DnsvipKeySlotsFull", [False, True, False])


def test_keys_that_are_old_or_missing(watched: Watched) -> None:
    """A key of 400 days that nobody rotates, and a cluster that has none: each until its keys are rotated."""
    assert watched.node.noun("clusters", "set", "web", "rotate_every=never").returncode == 0
    well = still(watched)
    edited(watched, "UPDATE epoch SET activated_at = activated_at - 401 * 86400 WHERE state = 'active'")
    old = still(watched)
    assert watched.node.noun("keys", "rotate", "web").returncode == 0
    activated = 'dnsvip_epoch_activated_timestamp_seconds{cluster="web"}'
    within(30, lambda: watched.value(activated) > time.time() - 86400)
    fires([well, old, still(watched)], "DnsvipKeyOld", [False, True, False])
    edited(watched, "DELETE FROM epoch")
    none = still(watched)
    assert watched.node.noun("keys", "rotate", "web").returncode == 0
    within(30, lambda: epochs(watched, "active") == 1)
    fires([well, none, still(watched)], "DnsvipNoActiveKey", [False, True, False])


def test_an_expiry_field_that_fills(watched: Watched) -> None:
    """A key that nobody rotates, when its expiry field is nearly full and when it is full: until it is rotated."""
    assert watched.node.noun("clusters", "set", "web", "rotate_every=never").returncode == 0
    well = still(watched)
    lasts = sum(
        sign * watched.value(f'dnsvip_epoch_{moment}_timestamp_seconds{{cluster="web"}}')
        for moment, sign in (("expiry_full", 1), ("activated", -1))
    )
    stages = [well]
    for left in (1200, -60):  # seconds; a stage takes fifteen minutes
        activated_at = int(time.time() - lasts + left)
        edited(watched, f"UPDATE epoch SET activated_at = {activated_at} WHERE state = 'active'")  # noqa: S608 - ours
        stages.append(still(watched))
    assert watched.node.noun("keys", "rotate", "web").returncode == 0
    full = watched.value('dnsvip_epoch_expiry_full_timestamp_seconds{cluster="web"}')
    within(30, lambda: watched.value('dnsvip_epoch_expiry_full_timestamp_seconds{cluster="web"}') > full)
    stages.append(still(watched))
    fires(stages, "DnsvipExpiryFieldNearEnd", [False, True, False, False])
    fires(stages, "DnsvipExpiryFieldFull", [False, False, True, False])


def test_a_zone_that_cannot_be_served(watched: Watched) -> None:
    """SERVFAIL, until the zone that `nodes list` names is put right."""

    def ask() -> None:
        for _ in range(5):
            watched.node.dig("MX", "example.test")

    good = (watched.node.folder / "example.test.zone").read_text()
    well = busy(watched, ask)
    edited(watched, "UPDATE zone SET spec = replace(spec, '\\n', '\\nm 60 TYPE41 \\\\# 0\\n')")
    broken = busy(watched, ask)
    assert "example.test" in watched.node.noun("nodes", "list").stdout
    assert watched.node.curl("PUT", "zones/example.test", {"text": good})[0] == 200
    within(30, lambda: watched.node.dig("MX", "example.test") != "")
    fires([well, broken, busy(watched, ask)], "DnsvipServfail", [False, True, False])


def test_a_database_that_is_away(tmp_path: Path) -> None:
    """Alerts of node and API, until the database is back."""
    with running() as server, node(tmp_path) as made:
        watched = Watched(made, NODE.replace("sqlite:///dnsvip.db", server.database()) + METRICS)
        made.apply()
        made.start("--token-file", "token")

        def ask() -> None:
            for _ in range(8):
                made.curl("GET", "clients")

        well = busy(watched, ask)
        server.stop()
        within(20, lambda: watched.value("dnsvip_database_up") == 0)
        away = busy(watched, ask)
        server.start()
        within(30, lambda: watched.value("dnsvip_database_up") == 1 and made.curl("GET", "clients")[0] == 200)
        stages = [well, away, busy(watched, ask)]
    fires(stages, "DnsvipDatabaseUnreachable", [False, True, False])
    fires(stages, "DnsvipApiFails", [False, True, False])


@pytest.mark.parametrize(
    ("alert", "families", "none", "counted"),
    [
        ("DnsvipMessageFailed", dns.families, {"outcomes": {"failed": 0}}, {"outcomes": {"failed": 1}}),
        ("DnsvipAnswersLost", dns.families, {"transport": {"udp_unsent": 0}}, {"transport": {"udp_unsent": 100}}),
        ("DnsvipSendFailures", dispatch.families, {"send_failed": 0}, {"send_failed": 100}),
    ],
)
def test_counters_of_faults(alert: str, families: Families, none: Counted, counted: Counted) -> None:
    """What no test can make a real node do: fires while it is counted, ends when it is counted no more."""
    before, after = (render(families(each))[0].decode() for each in (none, counted))
    stages = [
        (Scrape(first, NOW), Scrape(last, NOW + 10)) for first, last in ((before,) * 2, (before, after), (after,) * 2)
    ]
    fires(stages, alert, [False, True, False])

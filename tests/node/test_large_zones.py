"""Large zones are compiled apart: until then the version before is answered, and no other change waits."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from dnsvip.dns.zones.delta import zone_change
from dnsvip.node.large_zones import LARGE, Comparing, without_large
from dnsvip.node.updates import takes_no_time
from dnsvip.site import Transfer, Zone
from tests.node.serving import NAME, PLAIN, Node, node, within
from tests.samples import make_snapshot

HEAD = "$ORIGIN large.test.\n$TTL 60\n@ SOA ns h {} 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n"
GENERATED = "$GENERATE 1-10000 h$ A 192.0.2.1\n"


def test_only_large_zones_that_have_changed_come_later() -> None:
    """A changed large zone keeps its served text, a new one is left out, and what else has changed of it holds."""
    snapshot = make_snapshot()
    small = snapshot.site.zones["example.test"]
    old, new = Zone("large.test", ";" * LARGE + "1"), Zone("large.test", ";" * LARGE + "2", Transfer(tsig="acme-key"))
    with_new = replace(snapshot, site=replace(snapshot.site, zones={"example.test": small, "large.test": new}))
    assert without_large(snapshot, {}, {}) == (snapshot, {})
    now, later = without_large(with_new, {}, {})
    assert (dict(now.site.zones), later) == ({"example.test": small}, {"large.test": new})
    now, later = without_large(with_new, {"large.test": old}, {})
    assert now.site.zones["large.test"] == replace(new, text=old.text)
    assert later == {"large.test": new}
    assert without_large(with_new, {"large.test": old}, {"large.test": new}) == (with_new, {})
    assert without_large(with_new, {"large.test": new}, {}) == (with_new, {})


def until(true: Any) -> None:
    """Wait for a condition, and leave the processor to who works for it."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "never came true"
        time.sleep(0.2)


def put(served: Node, text: str) -> None:
    """Store the zone."""
    assert served.curl("PUT", "zones/large.test", {"text": text})[0] in (200, 201)


def test_a_change_does_not_wait_for_a_large_zone(tmp_path: Path) -> None:
    """While a large zone is compiled, revocations take effect, its version before is answered, and the node says so."""
    with node(tmp_path) as served:
        served.apply()
        served.start("--token-file", "token")
        asked = ("+subnet=198.51.100.7/32", *NAME)
        assert served.dig(*asked) != PLAIN
        put(served, HEAD.format(1) + "h1 A 192.0.2.9\n")
        within(5, lambda: served.dig("A", "h1.large.test") == "192.0.2.9")
        with ThreadPoolExecutor() as pool:
            storing = pool.submit(put, served, HEAD.format(2) + GENERATED)
            until(lambda: _warnings(served))
            assert served.dig("A", "h1.large.test") == "192.0.2.9"
            assert "zone.large.test is being compiled" in _warnings(served)[0]
            assert served.curl("PATCH", "clients/acme", {"state": "revoked"})[0] == 200
            within(2, lambda: served.dig(*asked) == PLAIN)
            storing.result()
            until(lambda: served.dig("A", "h1.large.test") == "192.0.2.1")
            until(lambda: not _warnings(served))
        stopped = time.monotonic()
        assert served.stop() == 0
        assert time.monotonic() - stopped < 5


def _warnings(served: Node) -> list[str]:
    (shown,) = served.curl("GET", "nodes")[1]["items"]
    warnings: list[str] = shown.get("warnings", [])
    return warnings


async def test_comparing_keeps_nobody_waiting() -> None:
    """What the journal needs of a large zone, however short its text, is found out by another process."""
    head = "$TTL 60\n@ SOA ns hostmaster {} 3600 600 86400 60\n@ NS ns.other.invalid.\n"
    some = [Zone("example.test", head.format(serial) + "$GENERATE 1-4000 h$ A 192.0.2.1\n") for serial in (1, 2)]
    comparing = Comparing()
    try:
        await comparing.change(some[0], some[1])  # starts the process
        before = time.process_time()
        change = await comparing.change(some[0], some[1])
        spent = time.process_time() - before
    finally:
        await comparing.close()
    assert change is not None
    assert (change.old_serial, change.new_serial) == (1, 2)
    before = time.process_time()
    assert zone_change(some[0], some[1]) == change
    assert spent < (time.process_time() - before) / 2


def test_large_updates_are_decided_apart() -> None:
    """Of a large zone, and large messages: a thread of the node keeps answers waiting, also for what is refused."""
    small, large = Zone("example.test", HEAD.format(1)), Zone("example.test", HEAD.format(1) + "; a remark\n" * 1000)
    assert takes_no_time(small, b"\0" * 500)
    assert not takes_no_time(large, b"\0" * 500)
    assert not takes_no_time(small, b"\0" * 10_000)

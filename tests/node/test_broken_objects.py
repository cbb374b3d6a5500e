"""A real node whose database holds a zone that does not load and a client that cannot be read: it starts, serves all
else, takes changes, and names both at its start, in its report, its metrics and to `dnsvip doctor`."""

from __future__ import annotations

import json
import sqlite3
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.serving import Node, node, within


@pytest.fixture
def broken(tmp_path: Path) -> Iterator[Node]:
    """The example site with a zone bad.test that has no SOA, and a client whose row is of another program."""
    with node(tmp_path) as one:
        one.apply()
        with sqlite3.connect(tmp_path / "dnsvip.db") as database:
            columns = [row[1] for row in database.execute("PRAGMA table_info(zone)") if row[1] not in ("name", "spec")]
            spec = json.dumps({"name": "bad.test", "text": "@ 60 A 192.0.2.1\n"})
            kept = ", ".join(columns)
            database.execute(
                f"INSERT INTO zone (name, spec, {kept}) SELECT 'bad.test', ?, {kept} FROM zone LIMIT 1",  # noqa: S608 - names of columns
                [spec],
            )
            database.execute("UPDATE client SET spec = '{\"future\": true}' WHERE name = 'acme'")
            database.execute("UPDATE pool SET spec = '{\"future\": true}' WHERE name = 'slow'")
        database.close()
        one.start("--token-file", "token")
        yield one


def test_broken_objects(broken: Node) -> None:
    """See above."""
    said = {(event["event"], event.get("where")) for event in broken.events()}
    assert ("an object cannot be served", "zone.bad.test") in said
    assert ("an object is left out", "client.acme") in said
    assert broken.dig("SOA", "example.test")
    assert "SERVFAIL" in broken.dig("SOA", "bad.test", "+noshort", "+comments")
    within(10, lambda: broken.curl("GET", "nodes")[1]["items"][0]["warnings"])
    warnings = "\n".join(broken.curl("GET", "nodes")[1]["items"][0]["warnings"])
    assert "zone.bad.test gets SERVFAIL: has no SOA record" in warnings
    assert "client.acme is left out" in warnings
    request = urllib.request.Request(f"http://127.0.0.1:{broken.api}/metrics")
    request.add_header("Authorization", f"Bearer {broken.token}")
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - http, to loopback
        text = answer.read().decode()
    assert 'zone="bad.test"' in text
    assert 'object="client.acme"' in text
    status, _ = broken.curl("PATCH", "clients/newsreader", {"state": "revoked"})
    assert status == 200

    def taken() -> bool:
        document = broken.curl("GET", "status")[1]
        return bool(document["generation"] == document["served_generation"] == document["nodes"][0]["generation"])

    within(10, taken)
    document = json.loads(broken.dnsvip("doctor", "node.toml", "--json").stdout)["findings"]
    told = "\n".join(each["what"] for each in document)
    assert "zone.bad.test gets SERVFAIL" in told
    assert "client.acme is left out" in told
    assert "the row of pool.slow cannot be read" in told
    broken.apply()
    assert broken.curl("GET", "pools/slow")[0] == broken.curl("GET", "clients/acme")[0] == 200

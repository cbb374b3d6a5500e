"""A node with secondary zones of BIND, Knot and NSD: transferred, followed by NOTIFY and timers, expired."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import pytest

from tests.dns.primaries import PRIMARIES, Primary
from tests.dns.world import SECRET
from tests.node.serving import Node, node, within

BODY = "".join(f"host-{n} AAAA 2001:db8::{n:x}\n" for n in range(300))


def text(zone: str, serial: int, more: str = "", timers: str = "3600 600 86400 60") -> str:
    """A zone."""
    return f"$ORIGIN {zone}.\n$TTL 60\n@ SOA ns hostmaster {serial} {timers}\n@ NS ns\nns A 192.0.2.1\n{BODY}{more}"


def declared(zone: str, port: int, more: str = "") -> str:
    """A secondary zone in the site file."""
    return f'[zone."{zone}"]\nprimaries = ["127.0.0.1:{port}"]\nprimaries_tsig = "transfer-key"\n{more}\n'


KEY = f'[tsig."transfer-key"]\nsecret = "{SECRET}"\n'


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Node]:
    """A node, not yet started."""
    (tmp_path / "node").mkdir()
    with node(tmp_path / "node") as one:
        yield one


def apply(made: Node, more: str) -> None:
    """Apply the example site with more tables."""
    site = made.folder / "site.toml"
    site.write_text(site.read_text() + more)
    done = made.dnsvip("apply", "site.toml", "--config", "node.toml")
    assert done.returncode == 0, done.stderr


def ways(made: Node, zone: str) -> list[tuple[str, int]]:
    """How a zone came, each time, by the log."""
    events = (event for event in made.events() if event["event"] == "a secondary zone was transferred")
    return [(event["way"], event["serial"]) for event in events if event["zone"] == zone]


def test_transferred_and_followed(made: Node, tmp_path: Path) -> None:
    """Each primary's zone is transferred whole, and on its NOTIFY by differences; a site file applied again, and a
    service in the zone, leave it as it is."""
    with ExitStack() as stack:
        peers: dict[str, Primary] = {}
        for name, kind in PRIMARIES.items():
            zone = f"{name}.test"
            peers[zone] = stack.enter_context(kind(tmp_path / name, zone, text(zone, 1, "old TXT a\n"), made.dns))
        services = "".join(f'[service."www.{zone}"]\ncluster = "web"\n' for zone in peers)
        apply(made, KEY + "".join(declared(zone, peer.port) for zone, peer in peers.items()) + services)
        made.start("--token-file", "token")
        for zone in peers:
            within(30, lambda zone=zone: made.dig("TXT", f"old.{zone}") == '"a"')
            assert made.dig("AAAA", f"host-299.{zone}") == "2001:db8::12b"
            assert made.dig("AAAA", f"www.{zone}") == "2001:db8:a:1::1"
        for zone, peer in peers.items():
            peer.change(text(zone, 2, "new TXT b\n"))
        for zone in peers:
            within(30, lambda zone=zone: made.dig("TXT", f"new.{zone}") == '"b"')
            assert made.dig("TXT", f"old.{zone}") == ""
        assert "nothing to change" in made.dnsvip("apply", "site.toml", "--config", "node.toml").stdout
    seen = {zone: ways(made, zone) for zone in peers}
    assert seen == {zone: [("AXFR", 1), ("IXFR", 2)] for zone in peers}


def test_it_is_served_until_it_expires(made: Node, tmp_path: Path) -> None:
    """A primary that is away costs nothing until the zone expires: then it gets SERVFAIL, and others are served. It
    comes back with the primary."""
    zone, other = "short.test", "long.test"
    kind = PRIMARIES["knot"]
    with kind(tmp_path / "other", other, text(other, 1), made.dns) as keeps:
        with kind(tmp_path / "first", zone, text(zone, 1, timers="2 1 5 60"), made.dns) as peer:
            apply(made, KEY + declared(zone, peer.port) + declared(other, keeps.port))
            made.start("--token-file", "token")
            within(30, lambda: made.dig("A", f"ns.{zone}") == "192.0.2.1" == made.dig("A", f"ns.{other}"))
            listed = made.curl("GET", "status")[1]["secondaries"]
            assert [one["zone"] for one in listed] == [other, zone]
            assert listed[1]["serial"] == 1
            assert listed[1]["expires_at"] == pytest.approx(listed[1]["checked_at"] + 5)
        port, files = peer.port, peer.files
        assert made.dig("A", f"ns.{zone}") == "192.0.2.1"
        query = dns.message.make_query(f"ns.{zone}", "A")
        within(30, lambda: dns.query.udp(query, "127.0.0.1", 5, made.dns).rcode() == dns.rcode.SERVFAIL)
        assert made.dig("A", f"ns.{other}") == "192.0.2.1"
        within(10, lambda: f"zone.{zone}" in str(made.curl("GET", "nodes")[1]))
        shown = made.noun("status").stdout
        assert f"{zone} " in shown
        assert "cannot be reached" in shown or "does not answer" in shown
        again = kind(tmp_path / "again", zone, text(zone, 7), made.dns)
        again.port, again.files = port, {zone: again.files[zone], **dict.fromkeys(files.keys() - {zone})}
        (again.folder / "conf").write_text(again.configuration())
        with again:
            within(30, lambda: made.dig("SOA", zone).split(" ")[2:3] == ["7"])


def test_who_may_notify(made: Node, tmp_path: Path) -> None:
    """NOTIFY counts from a primary's address with the zone's key; others are refused, and zones of ours have none."""
    apply(made, KEY + declared("far.test", 9) + '[zone."open.test"]\nprimaries = ["127.0.0.1:9"]\n')
    made.start("--token-file", "token")
    signed = ["-y", f"hmac-sha256:transfer-key:{SECRET}"]

    def rcode(zone: str, *options: str, source: str = "127.0.0.1") -> str:
        argv = ["kdig", "@127.0.0.1", "-p", str(made.dns), "-b", source, "-t", "NOTIFY=1", zone, *options]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
        return done.stdout.split("status: ")[1].split(";")[0]

    assert rcode("far.test", *signed) == "NOERROR"
    assert rcode("far.test") == "REFUSED"
    assert rcode("far.test", *signed, source="127.0.0.2") == "REFUSED"
    assert rcode("open.test") == "NOERROR"
    assert rcode("open.test", source="127.0.0.2") == "REFUSED"
    assert rcode("example.test") == "REFUSED"
    assert rcode("elsewhere.test") == "NOTAUTH"


def test_nobody_else_sets_its_records(made: Node) -> None:
    """API and command line refuse text for a secondary zone, and a site file a file; a zone of ours needs text."""
    apply(made, '[zone."far.test"]\nprimaries = ["127.0.0.1:9"]\n')
    made.start("--token-file", "token")
    refused = made.noun("zones", "set", "far.test", f"text={text('far.test', 1)}")
    assert refused.returncode == 2
    assert "transferred from its primaries" in refused.stderr
    assert made.curl("PUT", "zones/new.test", {})[0] == 422
    site = made.folder / "site.toml"
    site.write_text(site.read_text().replace("primaries =", 'file = "example.test.zone"\nprimaries ='))
    done = made.dnsvip("apply", "site.toml", "--config", "node.toml")
    assert done.returncode == 2
    assert "zone.far.test.file: leave it out" in done.stderr

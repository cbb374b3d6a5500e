"""Whole zones (RFC 5936): to whom they go, what is in them, and IXFR answered by them (RFC 1995)."""

from __future__ import annotations

import base64
import gc
import re
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.xfr
import dns.zone
import pytest

from dnsvip.dns import asked
from dnsvip.dns.engine import Engine
from dnsvip.dns.identity.arrival import Arrival
from dnsvip.dns.protocol.builder import finished
from dnsvip.errors import InvalidSite
from dnsvip.site import Snapshot, Transfer, Zone
from dnsvip.site.io.files import zone_files
from dnsvip.site.site_file import build_site
from tests.dns.differential.peers import Knot
from tests.dns.world import SECRET, ZONES, Running, site_tables
from tests.samples import snapshot_of

HOSTS = 6000
BIG = "$ORIGIN big.test.\n$TTL 60\n@ SOA ns hostmaster 7 3600 600 86400 60\n@ NS ns\nns A 192.0.2.1\n" + "".join(
    f"host-{n} AAAA 2001:db8::{n:x}\nhost-{n} MX 10 host-{n}\n" for n in range(HOSTS)
)
KEY = f"hmac-sha256:transfer-key:{SECRET}"
WRONG = "hmac-sha256:transfer-key:d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmch"


def tables() -> dict[str, Any]:
    """The test site with transfers: to an address, to a key, to both at once."""
    transferred = site_tables()
    transferred["tsig"]["transfer-key"] = {"secret": SECRET}
    zones = transferred["zone"]
    zones["example.test"]["transfer"] = {"to": ["127.0.0.1/32", "2001:db8::/32"]}
    zones["other.test"]["transfer"] = {"tsig": "transfer-key"}
    zones["child.example.test"]["transfer"] = {"to": ["192.0.2.0/24"], "tsig": "transfer-key"}
    return transferred


@pytest.fixture(scope="module")
def serving() -> Iterator[Running]:
    snapshot = snapshot_of(build_site(tables(), zone_files(ZONES)))
    big = Zone("big.test", BIG, Transfer(tsig="transfer-key"))
    site = replace(snapshot.site, zones={**snapshot.site.zones, "big.test": big})
    with Running(Snapshot(1, site, snapshot.keyrings, snapshot.masters)) as running:
        yield running


def records(text: str) -> list[str]:
    """dig's or kdig's lines without comments, single-spaced."""
    return [
        re.sub(r"\s+", " ", line)
        for line in text.splitlines()
        if line and line[0] != ";" and " TSIG " not in line.replace("\t", " ")
    ]


@pytest.mark.parametrize("program", ["dig", "kdig"])
def test_axfr(serving: Running, program: str) -> None:
    """dig and kdig get the zone, SOA first and last, every record of the zone file once between them."""
    lines = records(getattr(serving, program)("example.test", "AXFR").text)
    assert lines[0] == lines[-1]
    assert " SOA " in lines[0]
    assert len(set(lines)) == len(lines) - 1
    zone = dns.zone.from_file(str(ZONES / "example.test.zone"), "example.test", relativize=False)
    made = {"www", "hinted", "leaf.made", "*.each"}
    owners = {dns.name.from_text(f"{name}.example.test") for name in made}
    want = sum(
        len(rdataset)
        for name, rdataset in zone.iterate_rdatasets()
        if not (name in owners and rdataset.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA))
    )
    ours = [line for line in lines[:-1] if not made & {line.partition(".example.test. ")[0]} or " IN A" not in line]
    assert len(ours) == want


def test_services_are_plain(serving: Running) -> None:
    """A service name has the plain VIP and the plain IPv4 address, with the cluster's TTL."""
    lines = records(serving.dig("example.test", "AXFR").text)
    clusters = serving.snapshot.site.clusters
    plain, plain4 = clusters["web"], clusters["legacy"]
    for name in ("www", "leaf.made"):
        assert f"{name}.example.test. {plain.ttl} IN AAAA {plain.plain}" in lines
        assert f"{name}.example.test. {plain4.ttl} IN A {plain4.plain}" in lines
    assert f"*.each.example.test. {plain.ttl} IN AAAA {plain.plain}" in lines
    assert sum(line.startswith("www.example.test. ") and " AAAA " in line for line in lines) == 1


@pytest.mark.parametrize(
    ("name", "key", "allowed"),
    [
        ("example.test", None, True),
        ("example.test", KEY, True),
        ("other.test", KEY, True),
        ("other.test", None, False),
        ("other.test", WRONG, False),
        ("child.example.test", KEY, False),
        ("elsewhere.test", KEY, False),
        ("www.example.test", None, False),
    ],
)
def test_who_may(serving: Running, name: str, key: str | None, allowed: bool) -> None:
    """A transfer needs the right source, the right key, or both; a wrong key never gets one."""
    reply = serving.dig(name, "AXFR", *(["-y", key] if key else []))
    assert (" SOA " in reply.text.replace("\t", " ")) is allowed
    assert ("Transfer failed" in reply.text) is not allowed


def test_other_addresses_may_not(serving: Running) -> None:
    """An address outside the networks gets REFUSED, and what is no zone of ours NOTAUTH."""
    assert "REFUSED" in serving.kdig("example.test", "AXFR", listener=1).text
    assert "NOTAUTH" in serving.kdig("elsewhere.test", "AXFR").text


@pytest.mark.parametrize("program", ["dig", "kdig"])
def test_many_messages_signed(serving: Running, program: str) -> None:
    """A large zone goes in many messages, each signed over the one before, and all of it comes."""
    reply = getattr(serving, program)("big.test", "AXFR", "-y", KEY)
    assert sum(line.startswith("host-") for line in records(reply.text)) == 2 * HOSTS
    assert not re.search("failed|verify|invalid|WARNING|BADSIG", reply.text, re.IGNORECASE)


def test_dnspython_checks_every_message(serving: Running) -> None:
    """dnspython verifies the signatures of all messages and finds a whole zone."""
    key = dns.tsig.Key("transfer-key", base64.b64decode(SECRET), "hmac-sha256")
    zone = dns.zone.Zone("big.test", relativize=False)
    query, serial = dns.xfr.make_query(zone, serial=None, keyring={key.name: key}, keyname=key.name)
    dns.query.inbound_xfr("127.0.0.1", zone, query, serving.port, timeout=20)
    assert len(zone.nodes) == HOSTS + 2
    assert serial is None


@pytest.mark.parametrize(("serial", "whole"), [(6, True), (7, False), (8, False), (7 + (1 << 31), True)])
def test_ixfr(serving: Running, serial: int, whole: bool) -> None:
    """IXFR by TCP is the whole zone to who is behind, else the SOA alone; serials compare as RFC 1982 says."""
    lines = records(serving.dig("big.test", f"IXFR={serial}", "-y", KEY).text)
    assert len(lines) == (2 * HOSTS + 4 if whole else 1)
    assert " SOA " in lines[0]


def test_ixfr_by_udp(serving: Running) -> None:
    """By UDP an IXFR is answered with the SOA, whereupon the requester comes by TCP; AXFR by UDP is refused."""
    lines = records(serving.dig("big.test", "IXFR=1", "+notcp", "-y", KEY).text)
    assert len(lines) == 1
    query = dns.message.make_query("example.test", "AXFR")
    assert dns.query.udp(query, "127.0.0.1", 3, serving.port).rcode() == dns.rcode.REFUSED


def test_ixfr_without_a_serial(serving: Running) -> None:
    """IXFR without a SOA to compare with is FORMERR."""
    query = dns.message.make_query("example.test", "IXFR")
    assert dns.query.tcp(query, "127.0.0.1", 3, serving.port).rcode() == dns.rcode.FORMERR


def test_questions_after_a_transfer(serving: Running) -> None:
    """The connection of a transfer answers what is asked behind it, while the transfer goes on or after it."""
    first, second = dns.message.make_query("example.test", "AXFR"), dns.message.make_query("mail.example.test", "A")
    with socket.create_connection(("127.0.0.1", serving.port), 5) as stream:
        dns.query.send_tcp(stream, first)
        dns.query.send_tcp(stream, second)
        seen = set()
        while seen != {first.id, second.id}:
            seen.add(dns.query.receive_tcp(stream, ignore_trailing=True, one_rr_per_rrset=True)[0].id)


class Secondary(Knot):
    """Knot as a secondary of big.test."""

    primary = 0

    def configuration(self) -> str:
        key = f'key:\n  - id: transfer-key\n    algorithm: hmac-sha256\n    secret: "{SECRET}"\n'
        remote = f"remote:\n  - id: primary\n    address: 127.0.0.1@{self.primary}\n    key: transfer-key\n"
        zone = 'zone:\n  - domain: big.test\n    master: primary\n    file: "big.zone"\n'
        return super().configuration().replace("zone:\n", "").replace("template:", key + remote + "template:") + zone


def test_knot_as_secondary(serving: Running, tmp_path: Path) -> None:
    """Knot follows us as a secondary: it asks for the SOA, transfers with TSIG, and serves what it got."""
    Secondary.primary = serving.port
    with Secondary(tmp_path / "knot", {}) as knot:
        until = time.monotonic() + 15
        while time.monotonic() < until:
            reply = dns.query.udp(dns.message.make_query("host-5999.big.test", "AAAA"), "127.0.0.1", 3, knot.port)
            if reply.answer:
                break
            time.sleep(0.1)
    assert reply.answer[0][0].to_text() == f"2001:db8::{5999:x}"


@pytest.mark.parametrize(
    ("transfer", "problem"),
    [
        ({}, "say who may transfer the zone"),
        ({"tsig": "nobody"}, "is not a tsig of this site"),
        ({"to": ["192.0.2.1/24"]}, "host bits set"),
        ({"all": True}, "unknown key"),
    ],
)
def test_wrong_transfers(transfer: dict[str, object], problem: str) -> None:
    """A transfer key that cannot be meant so is refused with the zone's file."""
    tables_read = tables()
    tables_read["zone"]["example.test"]["transfer"] = transfer
    with pytest.raises(InvalidSite, match=problem):
        build_site(tables_read, zone_files(ZONES))


def test_what_is_given_up_is_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    """The garbage collector takes a transfer that is given up in its midst, whatever holds what it is made of."""

    class Held:
        """Records that hold their own answer."""

        answer: object = None

        def __iter__(self) -> Iterator[bytes]:
            return self

        def __next__(self) -> bytes:
            return b"a message"

    held = [Held()]

    def messages(*_: object) -> Iterator[bytes]:
        for message in held.pop():  # noqa: UP028 - no second generator that delegates
            yield message

    monkeypatch.setattr(asked, "messages", messages)
    engine = Engine(snapshot_of(build_site(tables(), zone_files(ZONES))))
    wire, first = dns.message.make_query("example.test", "AXFR").to_wire(), held[0]
    first.answer = reply = finished(engine.steps(wire, IPv4Address("127.0.0.1"), Arrival("main"), 0.0))
    assert reply.wire == b"a message"
    assert reply.more is not None
    del first, reply
    ignored: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda one: ignored.append(one.exc_value))
    gc.collect()
    assert ignored == []

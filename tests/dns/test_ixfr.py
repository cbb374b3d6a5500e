"""Incremental transfers (RFC 1995): what has changed, from the journal, and the whole zone where that is shorter."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from itertools import pairwise

import dns.dnssec
import dns.message
import dns.query
import dns.rdatatype
import dns.xfr
import dns.zone
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dnsvip.dns import transfer
from dnsvip.dns.engine import Engine
from dnsvip.dns.zones.delta import zone_change
from dnsvip.dns.zones.edit import Replacement, edited
from dnsvip.dns.zones.record import labels_of
from dnsvip.dns.zones.sets import read_sets
from dnsvip.site import Snapshot, Transfer, Zone
from dnsvip.site.io.files import zone_files
from dnsvip.site.site_file import build_site
from dnsvip.site.zone_changes import ZoneChange, chained, digest_of, is_newer, kept_of, since
from tests.dns.test_transfer import records, tables
from tests.dns.world import ZONES, Running
from tests.samples import snapshot_of

NAME = "many.test"
HEAD = "$ORIGIN many.test.\n$TTL 60\n@ SOA ns hostmaster {serial} 3600 600 86400 60\n@ NS ns\nns A 192.0.2.1\n"
BODY = "".join(f"host-{n} AAAA 2001:db8::{n:x}\n" for n in range(300))
VERSIONS = (
    HEAD.format(serial=4294967294) + BODY + "old TXT gone\nsame A 192.0.2.7\nlong 300 A 192.0.2.8\n",
    HEAD.format(serial=4294967295) + BODY + "same A 192.0.2.7\nlong 300 A 192.0.2.8\nnew MX 10 host-1\n",
    HEAD.format(serial=4294967295)
    + "; a remark\n"
    + BODY
    + "same A 192.0.2.7\nlong 300 A 192.0.2.8\nnew MX 10 host-1\n",
    HEAD.format(serial=5) + BODY + "same A 192.0.2.7\nlong 30 A 192.0.2.8\nlong 60 A 192.0.2.9\nNew MX 10 host-1\n",
)


def zone(text: str) -> Zone:
    """The zone, which loopback may transfer."""
    return Zone(NAME, text, Transfer(to=(ip_network("127.0.0.0/8"),)))


def journal(*texts: str) -> tuple[ZoneChange, ...]:
    """What the store keeps of a zone that had these texts one after the other."""
    changes = [zone_change(zone(one), zone(next_)) for one, next_ in pairwise(texts)]
    assert all(changes)
    return tuple(change for change in changes if change)


def snapshot(*texts: str) -> Snapshot:
    """A site with the last of these texts, and how it came about."""
    sample = snapshot_of(build_site(tables(), zone_files(ZONES)))
    site = replace(sample.site, zones={**sample.site.zones, NAME: zone(texts[-1])})
    return replace(sample, site=site, journals={NAME: journal(*texts)})


@pytest.fixture(scope="module")
def serving() -> Iterator[Running]:
    with Running(snapshot(*VERSIONS)) as running:
        yield running


def test_one_difference(serving: Running) -> None:
    """A secondary that lacks the last change gets that, between the newest SOA and as RFC 1995 section 4 orders it."""
    lines = records(serving.dig(NAME, "IXFR=4294967295").text)
    shown = [re.sub(r"^(\S+)\.many\.test\. ", r"\1 ", line).replace("many.test. ", "@ ", 1) for line in lines]
    soa = "@ 60 IN SOA ns.many.test. hostmaster.many.test. {} 3600 600 86400 60"
    assert shown[0] == shown[-1] == soa.format(5)
    assert shown[1] == soa.format(4294967295)
    middle = shown.index(soa.format(5), 1)
    assert set(shown[2:middle]) == {"long 300 IN A 192.0.2.8", "new 60 IN MX 10 host-1.many.test."}
    assert set(shown[middle + 1 : -1]) == {
        "long 30 IN A 192.0.2.8",
        "long 30 IN A 192.0.2.9",
        "New 60 IN MX 10 host-1.many.test.",
    }


@pytest.mark.parametrize(("serial", "number"), [(4294967294, 13), (4294967295, 9), (5, 1), (6, 1), (4294967293, 308)])
def test_how_much(serving: Running, serial: int, number: int) -> None:
    """Each further change adds its records; a serial from before the journal gets the whole zone."""
    assert len(records(serving.dig(NAME, f"IXFR={serial}").text)) == number


@pytest.mark.parametrize("at", [0, 1, 2])
def test_same_zone_by_both_ways(serving: Running, at: int) -> None:
    """dnspython comes to the same zone from an old version by differences as by a whole transfer."""
    old = dns.zone.from_text(VERSIONS[at], NAME, relativize=False)
    new = dns.zone.Zone(NAME, relativize=False)
    for one, serial in ((old, 0), (new, None)):
        query, _ = dns.xfr.make_query(one, serial=serial)
        dns.query.inbound_xfr("127.0.0.1", one, query, serving.port, timeout=20)
    assert old == new
    assert len(old.nodes) == 305


def test_services_are_hidden_in_differences() -> None:
    """What a zone says at a service's addresses is in no difference, as it is in no whole transfer."""
    head = HEAD.format(serial=1).replace("many.test", "example.test") + BODY
    before = Zone("example.test", head + "www AAAA 2001:db8::1\nwww TXT a\n")
    after = replace(before, text=head.replace(" 1 3600", " 2 3600") + "www AAAA 2001:db8::2\nwww TXT b\n")
    change = zone_change(before, after)
    assert change
    sample = snapshot_of(build_site(tables(), zone_files(ZONES)))
    allowed = replace(after, transfer=sample.site.zones["example.test"].transfer)
    site = replace(sample.site, zones={**sample.site.zones, "example.test": allowed})
    with Running(replace(sample, site=site, journals={"example.test": (change,)})) as running:
        lines = records(running.dig("example.test", "IXFR=1").text)
    assert [line.split(" ", 4)[3:] for line in lines if line.startswith("www.")] == [["TXT", '"a"'], ["TXT", '"b"']]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (VERSIONS[0], VERSIONS[0] + "more A 192.0.2.1\n"),
        (VERSIONS[1], VERSIONS[0]),
        (VERSIONS[0], ""),
        ("nonsense", VERSIONS[0]),
    ],
)
def test_what_no_secondary_could_follow(before: str, after: str) -> None:
    """A change without a higher serial, and one from or to what is no zone, has no place in a journal."""
    assert zone_change(zone(before), zone(after)) is None


def test_canonical_texts_are_compared_by_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of texts that the API writes only the lines that differ are read, with the same outcome."""
    first = read_sets(zone(VERSIONS[0]))
    wanted = [
        Replacement("same.many.test.", "A", 60, (("192.0.2.7", False), ("192.0.2.70", False))),
        Replacement("long.many.test.", "A", 60, (("192.0.2.8", False),)),
        Replacement("old.many.test.", "TXT", 0, ()),
        Replacement("a(b.many.test.", "TXT", 60, (('"a;b"', False),)),
    ]
    text = edited(first, wanted[:3]).zone
    canonical = edited(read_sets(text), wanted[:1]).zone
    again = edited(read_sets(canonical), [replace(wanted[0], records=(("192.0.2.71", False),))]).zone
    with monkeypatch.context() as patched:
        patched.setattr("dnsvip.dns.zones.delta.read_zone", None)
        by_lines = zone_change(canonical, again)
    spoiled = [replace(one, text=one.text + "\n \n") for one in (canonical, again)]
    by_reading = zone_change(*spoiled)
    assert by_lines
    assert by_reading
    assert (by_lines.removed, by_lines.added) == (by_reading.removed, by_reading.added)
    odd = edited(read_sets(again), wanted[3:]).zone
    change = zone_change(again, odd)
    assert change
    assert b"\x03a(b" in change.added


def signed(serial: int, more: str) -> str:
    """The text of a zone that was signed elsewhere."""
    made = dns.zone.from_text(HEAD.format(serial=serial) + BODY + more, NAME, relativize=False)
    secret = Ed25519PrivateKey.from_private_bytes(bytes(32))
    key = dns.dnssec.make_dnskey(secret.public_key(), dns.dnssec.Algorithm.ED25519, flags=257)
    dns.dnssec.sign_zone(made, keys=[(secret, key)], inception=1, expiration=4_000_000_000, add_dnskey=True)
    return made.to_text(relativize=False)


def test_signed_elsewhere() -> None:
    """Of a zone that was signed elsewhere differences lead to the same as a whole transfer, TTLs of signatures too."""
    texts = signed(1, "a 30 A 192.0.2.1\na 300 TXT b\n"), signed(2, "a 30 A 192.0.2.2\na 300 TXT b\n")
    with Running(snapshot(*texts)) as running:
        old, new = dns.zone.from_text(texts[0], NAME, relativize=False), dns.zone.Zone(NAME, relativize=False)
        for one, serial in ((old, 0), (new, None)):
            query, _ = dns.xfr.make_query(one, serial=serial)
            dns.query.inbound_xfr("127.0.0.1", one, query, running.port, timeout=20)
        lines = records(running.dig(NAME, "IXFR=1").text)
    assert len(lines) == 10  # of SOA and address with their signatures, before and after, between two SOA
    assert old == new
    ttls = {one.covers: one.ttl for one in old[f"a.{NAME}."] if one.rdtype == dns.rdatatype.RRSIG}
    assert (ttls[dns.rdatatype.A], ttls[dns.rdatatype.TXT]) == (30, 300)


def test_a_question_hashes_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the journal knows a text by is there when a zone is: hashing a large one keeps other questions waiting."""
    engine = Engine(snapshot(*VERSIONS))
    monkeypatch.setattr(transfer, "digest_of", None)
    found = engine._transfers._since(labels_of(NAME), 4294967295)
    assert found is not None
    assert len(found) == 1


def test_broken_chain() -> None:
    """Differences from another text than the one before are of no use: the chain ends there."""
    first, second, third = journal(*VERSIONS)
    digest = digest_of(VERSIONS[3])
    assert chained((first, second, third), digest) == (first, second, third)
    assert chained((first, third), digest) == (third,)
    assert chained((first, second), digest) == ()
    assert chained((first, second, third), digest_of(VERSIONS[1])) == (first,)
    assert since((first, second, third), 4294967294, 10_000) == (first, third)
    assert since((first, second, third), 4294967294, first.size) is None
    assert since((first, second, third), 7, 10_000) is None


def test_text_that_is_served_late(serving: Running) -> None:
    """A node that answers the version before the newest sends the differences up to that one."""
    late = snapshot(*VERSIONS)
    site = replace(late.site, zones={**late.site.zones, NAME: zone(VERSIONS[1])})
    serving.in_loop(lambda: serving.server.update(replace(late, site=site)))
    lines = records(serving.dig(NAME, "IXFR=4294967294").text)
    serving.in_loop(lambda: serving.server.update(late))
    assert len(lines) == 6
    assert " 4294967295 " in lines[0]


@pytest.mark.parametrize(
    ("serial", "than", "newer"),
    [
        (1, 0, True),
        (0, 1, False),
        (0, 0, False),
        (0, 4294967295, True),
        (4294967295, 0, False),
        (2147483647, 0, True),
        (2147483648, 0, False),
        (0, 2147483648, False),
    ],
)
def test_serial_arithmetic(serial: int, than: int, newer: bool) -> None:
    """Serials compare as RFC 1982 says; of two that are half the circle apart neither is newer."""
    assert is_newer(serial, than) is newer


def test_bounds() -> None:
    """The newest changes are kept, up to the size of the zone and to a number."""
    assert kept_of([10, 20, 30], 0) == 3
    assert kept_of([60_000, 5_000, 600, 1], 100) == 2
    assert kept_of([60_000, 5_000, 600, 1], 100_000) == 4
    assert kept_of([0] * 1001, 0) == 1000
    assert Engine(snapshot(*VERSIONS)).problems == []

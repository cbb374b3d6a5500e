"""Zones transferred with the signatures that are made here: BIND verifies them, and validators what secondaries say."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.rdatatype
import dns.zone
import pytest

from dnsvip.dns.dnssec.keys import SigningKey
from dnsvip.dns.zones.edit import with_higher_serial
from dnsvip.site import CatalogRole, Dnssec, DnssecDenial, Snapshot, Transfer, Zone
from dnsvip.site.io.files import zone_files
from dnsvip.site.rules import check_one
from dnsvip.site.site_file import build_site
from tests.dns.dnssec.generated import CHILD, PARENT, generated
from tests.dns.dnssec.signed import P256, signed
from tests.dns.dnssec.test_delv import delv_by
from tests.dns.dnssec.test_rollover import ALGORITHMS, keys_of
from tests.dns.secondaries import SECONDARIES
from tests.dns.test_transfer import tables
from tests.dns.world import ZONES, Running
from tests.long import long_or
from tests.samples import snapshot_of

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("dnssec-verify", "delv", "dig"))), reason="BIND's tools are not installed"
)

ZONE, APEX = "example.test", (b"example", b"test")
LOCAL = Transfer(to=(ip_network("127.0.0.0/8"),), signed=True)
BY_KEY = Transfer(tsig="transfer-key", signed=True)


def sending(snapshot: Snapshot, name: str, transfer: Transfer = LOCAL) -> Snapshot:
    """The snapshot with a zone that is transferred with its signatures."""
    zones = {**snapshot.site.zones, name: replace(snapshot.site.zones[name], transfer=transfer)}
    return replace(snapshot, site=replace(snapshot.site, zones=zones))


def world() -> Snapshot:
    """The world, with its first zone signed."""
    return signed(snapshot_of(build_site(tables(), zone_files(ZONES))), {ZONE: P256})


def verified(server: Running, folder: Path, name: str) -> str:
    """A transfer, which BIND verifies; raises AssertionError where it finds a fault."""
    asked = ["dig", "@127.0.0.1", "-p", str(server.port), "+onesoa", "+nocomments", "+nostats", name, "AXFR"]
    (folder / "got").write_text(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    verify = ["dnssec-verify", "-z", "-o", name, str(folder / "got")]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return (folder / "got").read_text()


@pytest.mark.parametrize("seed", range(long_or(3, long=180)))
def test_it_verifies(seed: int, tmp_path: Path) -> None:
    """Generated zones with services, wildcards, delegations and DNAME, one signed below another: each set and each gap
    has its signature, and nothing else has one; however the zone denies where it is answered here."""
    snapshot = sending(sending(generated(seed, [*DnssecDenial][seed % 3]), PARENT), CHILD)
    with Running(snapshot) as server:
        for name in (PARENT, CHILD):
            text = verified(server, tmp_path, name)
            assert "NSEC3" not in text
            assert "DNSKEY\t257 3" in text


def test_the_verifier_can_fail(tmp_path: Path) -> None:
    """The same zone, unsigned, is refused."""
    with Running(sending(world(), ZONE, replace(LOCAL, signed=False))) as server, pytest.raises(AssertionError):
        verified(server, tmp_path, ZONE)


@pytest.mark.parametrize("forms", [ALGORITHMS[name] for name in ("published", "the keys before only sign")])
def test_two_algorithms(forms: tuple[str, ...], tmp_path: Path) -> None:
    """While the algorithm is rolled a transfer has signatures by both."""
    snapshot = replace(sending(world(), ZONE), zone_keys={ZONE: keys_of(forms)})
    with Running(snapshot) as server:
        text = verified(server, tmp_path, ZONE)
    assert "RRSIG\tSOA 13 " in text
    assert "RRSIG\tSOA 15 " in text


def test_a_change_goes_as_a_whole() -> None:
    """IXFR has the SOA for whom is up to date, and for others the whole zone, as the journal has no signatures; the
    plain addresses of services are signed in it."""
    snapshot = sending(world(), ZONE)
    with Running(snapshot) as server:
        found = dns.zone.from_xfr(
            dns.query.xfr("127.0.0.1", ZONE, port=server.port, relativize=False), relativize=False
        )
        serial = found.get_soa().serial
        for asked, most in ((serial, 1), (serial - 1, 1 << 20)):
            query = dns.message.make_query(ZONE, "IXFR")
            query.authority.append(dns.rrset.from_text(f"{ZONE}.", 60, "IN", "SOA", f"a. b. {asked} 1 1 1 1"))
            answer = dns.query.tcp(query, "127.0.0.1", 10, server.port, one_rr_per_rrset=True)
            assert (len(answer.answer) > 1) is (most > 1)
    plain = snapshot.site.clusters["web"].plain
    name = dns.name.from_text("www.example.test.")
    assert found.get_rdataset(name, "AAAA")[0].address == str(plain)
    assert found.get_rdataset(name, "RRSIG", "AAAA") is not None


ANSWERS = [
    ("www.example.test", "AAAA", "; fully validated"),
    ("any.wild.example.test", "TXT", "; fully validated"),
    ("example.test", "DNSKEY", "; fully validated"),
    ("nothing.example.test", "A", "; negative response, fully validated"),
    ("www.example.test", "MX", "; negative response, fully validated"),
    ("bare.example.test", "DS", "; negative response, fully validated"),
]


@pytest.mark.parametrize("program", list(SECONDARIES))
def test_secondaries_serve_it(program: str, tmp_path: Path) -> None:
    """delv trusts what BIND, Knot and NSD answer by the zone's DS: data, a wildcard, denials, an insecure delegation.
    With a higher serial they get the signatures of the keys that are used then."""
    snapshot = sending(world(), ZONE, BY_KEY)
    eager = replace(snapshot.site.zones[ZONE], text=snapshot.site.zones[ZONE].text.replace("1 3600 900", "1 1 1"))
    snapshot = replace(snapshot, site=replace(snapshot.site, zones={**snapshot.site.zones, ZONE: eager}))
    ds = SigningKey.of(snapshot.zone_keys[ZONE][0]).ds(APEX)
    after = with_higher_serial(eager)
    rolled = replace(snapshot, site=replace(snapshot.site, zones={**snapshot.site.zones, ZONE: after}))
    rolled = replace(rolled, zone_keys={ZONE: keys_of(("ka", "Kp"))})
    with Running(snapshot) as server, SECONDARIES[program](tmp_path / program, ZONE, server.port) as peer:  # type: ignore[attr-defined]
        peer.follows(serial_of(eager))
        for name, rtype, wanted in ANSWERS:
            said = delv_by(peer, tmp_path, ds, name, rtype)
            assert wanted in said, said + peer.text()
        server.in_loop(lambda: server.server.update(rolled))
        peer.follows(serial_of(after))
        new = SigningKey.of(rolled.zone_keys[ZONE][1]).ds(APEX)
        assert "; fully validated" in delv_by(peer, tmp_path, new, "www.example.test", "AAAA")


def serial_of(zone: Zone) -> int:
    """The serial in a zone's text."""
    found = dns.zone.from_text(zone.text, origin=f"{zone.name}.", check_origin=False)
    return int(found.get_soa().serial)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"dnssec": None}, "set dnssec.enabled to true"),
        ({"dnssec": Dnssec(False)}, "set dnssec.enabled to true"),
        ({"primaries": ("192.0.2.1:53",), "text": ""}, "not for secondary zones"),
        ({"catalog": CatalogRole.PRODUCE, "text": ""}, "not for secondary zones and catalogs"),
        ({"zonemd": True}, "together with zonemd"),
    ],
)
def test_what_cannot_be(changes: dict[str, Any], why: str) -> None:
    """It is refused, with the reason, where the zone is not signed, or nobody could raise its serial."""
    snapshot = sending(world(), ZONE)
    zone = replace(snapshot.site.zones[ZONE], **changes)
    (problem,) = check_one("zone", ZONE, zone, snapshot.site)
    assert (problem.where, why in problem.message) == (f"zone.{ZONE}.transfer.signed", True)

"""delv, given the DS record of a zone, says of every sort of answer that it is fully validated."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dnsvip.site import Dnssec, DnssecDenial
from tests.dns.dnssec.signed import P256, anchor, signed_world
from tests.dns.world import Running

pytestmark = pytest.mark.skipif(not shutil.which("delv"), reason="delv is not installed")


@pytest.fixture(scope="module", params=DnssecDenial)
def server(request: pytest.FixtureRequest) -> Iterator[Running]:
    """The server, with each way to deny."""
    with Running(signed_world(request.param)) as running:
        yield running


def delv(server: Running, folder: Path, name: str, rtype: str, zone: str = "example.test", key: str = "") -> str:
    """What delv says of a name, trusting the server's zone by its key, or that of another zone."""
    tag, algorithm, digest_type, digest = anchor(server.snapshot, key or zone).partition(" IN DS ")[2].split()
    ds = int(tag).to_bytes(2, "big") + bytes((int(algorithm), int(digest_type))) + bytes.fromhex(digest)
    return delv_by(server, folder, ds, name, rtype, zone)


def delv_by(server: Running, folder: Path, ds: bytes, name: str, rtype: str, zone: str = "example.test") -> str:
    """What delv says of a name, trusting a zone by the data of a DS record."""
    tag = int.from_bytes(ds[:2], "big")
    anchors = folder / "anchors"
    anchors.write_text(f'trust-anchors {{ "{zone}." static-ds {tag} {ds[2]} {ds[3]} "{ds[4:].hex()}"; }};\n')
    where = ["@127.0.0.1", "-p", str(server.port), "-a", str(anchors), f"+root={zone}"]
    done = subprocess.run(["delv", *where, name, rtype], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


POSITIVE = [
    ("www.example.test", "AAAA"),
    ("WWW.Example.TEST", "AAAA"),
    ("www.example.test", "A"),
    ("www.example.test", "HTTPS"),
    ("any.each.example.test", "AAAA"),
    ("any.wild.example.test", "TXT"),
    ("*.wild.example.test", "A"),
    ("shop2.example.test", "AAAA"),
    ("any.walias.example.test", "A"),
    ("host.moved.example.test", "A"),
    ("mixed.example.test", "TXT"),
    ("example.test", "SOA"),
    ("example.test", "MX"),
    ("example.test", "DNSKEY"),
    ("example.test", "CDS"),
    ("example.test", "CDNSKEY"),
    ("big.example.test", "A"),
    ("sub.example.test", "DS"),
    ("www.example.test", "ANY"),
    ("dangling.example.test", "A"),
]

NEGATIVE = [
    ("nothing.example.test", "A"),
    ("a.b.c.nothing.example.test", "AAAA"),
    ("mail.example.test", "AAAA"),
    ("www.example.test", "MX"),
    ("hinted.example.test", "TXT"),
    ("empty.example.test", "A"),
    ("made.example.test", "AAAA"),
    ("any.wild.example.test", "MX"),
    ("bare.example.test", "DS"),
    ("child.example.test", "DS"),
]


@pytest.mark.parametrize(("name", "rtype"), POSITIVE)
def test_answers(server: Running, tmp_path: Path, name: str, rtype: str) -> None:
    """Addresses made for the requester, wildcards, aliases, the apex, and what is too large for a datagram."""
    said = delv(server, tmp_path, name, rtype)
    assert "; fully validated" in said, said


@pytest.mark.parametrize(("name", "rtype"), NEGATIVE)
def test_denials(server: Running, tmp_path: Path, name: str, rtype: str) -> None:
    """No such name, no such type, empty non-terminals, wildcards without the type, insecure delegations."""
    said = delv(server, tmp_path, name, rtype)
    assert "; negative response, fully validated" in said, said


def test_the_record_that_denies(server: Running, tmp_path: Path) -> None:
    """NSEC at the apex is data of the zone, and NSEC3PARAM instead, where that is how it denies."""
    hashed = server.snapshot.site.zones["example.test"].dnssec == Dnssec(True, P256, DnssecDenial.NSEC3)
    for rtype in ("NSEC", "NSEC3PARAM"):
        has = (rtype == "NSEC3PARAM") is hashed
        said = delv(server, tmp_path, "example.test", rtype)
        assert ("; fully validated" if has else "; negative response, fully validated") in said, said


def test_ed25519(server: Running, tmp_path: Path) -> None:
    """A zone with a key of the other algorithm, at whose apex is a service."""
    assert "; fully validated" in delv(server, tmp_path, "other.test", "AAAA", "other.test")
    assert "; negative response, fully validated" in delv(server, tmp_path, "no.other.test", "AAAA", "other.test")


def test_another_key(server: Running, tmp_path: Path) -> None:
    """With the DS of another zone's key nothing validates: the check can fail."""
    said = delv(server, tmp_path, "www.example.test", "AAAA", key="other.test")
    assert "validated" not in said
    assert "broken trust chain" in said or "no valid" in said

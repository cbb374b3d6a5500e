"""Zones that were signed elsewhere are served as they are: validators find every answer and denial authentic."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from dnsvip.dns.dnssec.presigned import Hashes, Hashing
from dnsvip.dns.protocol.message import RRset, Type
from dnsvip.dns.protocol.names import Labels
from dnsvip.dns.zones.zone import check_zone
from dnsvip.site import Dnssec, Snapshot, Zone
from dnsvip.site.site_file import build_site
from tests.dns.dnssec.generated import OTHER, PARENT, PLAIN, zone_text
from tests.dns.dnssec.test_validation import validated
from tests.dns.world import Running, site_tables
from tests.long import long_or
from tests.samples import snapshot_of

pytestmark = pytest.mark.skipif(
    not (shutil.which("dnssec-signzone") and shutil.which("unbound")),
    reason="BIND's tools or unbound are not installed",
)

WAYS = {"nsec": (), "nsec3": ("-3", "-"), "opt-out": ("-3", "ABCD", "-H", "5", "-A")}
SEEDS = range(long_or(1, long=12))


def signed_text(folder: Path, seed: int, options: Sequence[str]) -> tuple[str, str]:
    """A zone as BIND's tools sign it, and its DS record."""
    text = f"{zone_text(Random(seed), PARENT)}plain NS ns1.plain\nns1.plain A 127.0.0.1\n"
    (folder / "zone").write_text(text)
    make = ["dnssec-keygen", "-q", "-K", str(folder), "-a", "ECDSAP256SHA256", "-f", "KSK", PARENT]
    subprocess.run(make, check=True, capture_output=True)
    sign = ["dnssec-signzone", "-q", "-S", "-z", "-K", str(folder), "-d", str(folder), "-o", PARENT]
    done = subprocess.run(
        [*sign, *options, "-f", str(folder / "signed"), str(folder / "zone")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return (folder / "signed").read_text(), (folder / f"dsset-{PARENT}.").read_text().splitlines()[0]


def serving(text: str) -> Snapshot:
    """A site with the signed zone, an unsigned one below it, and one that aliases of both lead to: Unbound follows them
    also from a name above the one that is asked."""
    texts = {PARENT: text, PLAIN: zone_text(Random(9), PLAIN), OTHER: zone_text(Random(10), OTHER)}
    zones = {name: {"file": name, "transfer": {"to": ["127.0.0.0/8"]}} for name in texts}
    return snapshot_of(build_site(site_tables() | {"zone": zones, "service": {}}, texts.__getitem__))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", SEEDS)
def test_everything_is_secure(seed: int, way: str, tmp_path: Path) -> None:
    """Every name of a signed zone, names that it lacks or that wildcards cover, and insecure delegations, by NSEC and
    NSEC3, with opt-out too."""
    text, ds = signed_text(tmp_path, seed, WAYS[way])
    secure, insecure = validated(serving(text), [ds], seed, tmp_path, opt_out=way == "opt-out")
    assert secure > (20 if way == "opt-out" else 60)
    assert insecure > 5


@pytest.mark.parametrize("way", WAYS)
def test_a_transferred_zone_verifies(way: str, tmp_path: Path) -> None:
    """What a secondary gets is whole: BIND verifies it, signatures and chain."""
    text, _ = signed_text(tmp_path, 1, WAYS[way])
    with Running(serving(text)) as server:
        asked = ["dig", "@127.0.0.1", "-p", str(server.port), "+onesoa", "+nocomments", "+nostats", PARENT, "AXFR"]
        (tmp_path / "got").write_text(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    verify = ["dnssec-verify", "-z", "-o", PARENT, str(tmp_path / "got")]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_zone_that_lacks_a_signature_is_refused(tmp_path: Path) -> None:
    """A half-signed zone would be bogus, as would one that is signed twice; the problem names the line."""
    text, _ = signed_text(tmp_path, 1, ())
    assert check_zone(Zone(PARENT, text)) == []
    added = check_zone(Zone(PARENT, f"{text}new.{PARENT}. 300 IN A 192.0.2.1\n"))
    (problem,) = [str(one) for one in added]
    assert f"line {len(text.splitlines()) + 1}: new.{PARENT}. A" in problem
    assert "without an RRSIG record" in problem
    twice = check_zone(replace(Zone(PARENT, text), dnssec=Dnssec(True)))
    assert "is signed already" in str(twice[0])
    costly = text + f"{'0' * 32}.{PARENT}. 300 IN NSEC3 1 0 2000 - {'1' * 32} A\n"
    assert any("2000 further iterations" in str(one) for one in check_zone(Zone(PARENT, costly)))


class Counting(Hashing):
    """A hashing that keeps what it has hashed."""

    def __init__(self, *_: object) -> None:
        self.names: list[Labels] = []

    def hash(self, name: Labels) -> bytes:
        self.names.append(name)
        return super().hash(name)


def test_labels_of_a_question_cost_no_hashes() -> None:
    """However many labels a question has: each hash may have a hundred iterations, and no denial takes more than its
    three names and those of the zone."""
    apex: Labels = (b"example", b"test")
    hashing = Counting(100, b"")
    sets = {Hashing.hash(hashing, name): RRset(name, Type.NSEC3, 60, ()) for name in (apex, (b"*", *apex))}
    proofs, deep = Hashes(hashing, sets), (*(b"a" for _ in range(100)), *apex)
    for proof in (proofs.missing(deep, apex), proofs.lacking(deep, (b"*", *apex)), proofs.expanded(deep, apex)):
        hashing.names.clear()
        assert list(proof)
        assert len(hashing.names) <= 4

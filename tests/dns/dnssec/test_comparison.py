"""What is proven not to exist: the same as Knot and PowerDNS prove, who sign as they answer too."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import dns.message
import dns.name
import dns.query
import dns.rdatatype
import pytest

from dnsvip.dns.protocol.message import Type
from dnsvip.site import DnssecDenial, Site, Snapshot, Zone
from tests.dns.dnssec.generated import zone_text
from tests.dns.dnssec.peers import SigningKnot, SigningPowerDns
from tests.dns.dnssec.proofs import DATA, proven
from tests.dns.dnssec.signed import P256, signed
from tests.dns.world import Running
from tests.long import long_or

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("knotd", "pdns_server", "pdnsutil", "sqlite3"))), reason="needs Knot and PowerDNS"
)

ZONE, APEX = "example.test", dns.name.from_text("example.test")
TYPES = (Type.A, Type.AAAA, Type.TXT, Type.MX, Type.SRV, Type.HTTPS, Type.DS, Type.NS, Type.SOA, dns.rdatatype.CAA)
SEEDS = range(long_or(1, long=12))
CASES = long_or(120, long=840)
"""12 seeds times 840 questions are more than ten thousand cases; each is put to five servers. All of it takes a minute
and a half with DNSVIP_LONG."""


def questions(text: str, pick: Random) -> list[tuple[dns.name.Name, int]]:
    """Names of the zone, those above them, and new ones below, each with a type."""
    owners = [line.split()[0] for line in text.splitlines() if line and line[0] not in "$@;"]
    names = {dns.name.from_text(owner, APEX) for owner in owners} | {APEX}
    names |= {name.parent() for name in names if name != APEX}
    found = []
    for _ in range(CASES):
        name = pick.choice(sorted(names))
        if pick.random() < 0.5:
            name = dns.name.Name((pick.choice((b"new", b"a", b"zz", b"-", b"0")), *name.labels))
        found.append((name, int(pick.choice(TYPES))))
    return found


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_is_proven(seed: int, tmp_path: Path) -> None:
    """Of each name and type the server proves what PowerDNS proves: that there is data, no such type, or no such name;
    by each way to deny. Knot's records, which deny a name as if it had no type, tell data from none."""
    pick = Random(seed)
    text = zone_text(pick, ZONE)
    site = Site(zones={ZONE: Zone(ZONE, text)})
    snapshots = [signed(Snapshot(1, site, {}, {}), {ZONE: P256}, denial) for denial in DnssecDenial]
    seen = set()
    with (
        Running(snapshots[0]) as one,
        Running(snapshots[1]) as two,
        Running(snapshots[2]) as three,
        SigningKnot(tmp_path / "knot", {ZONE: text}) as knot,
        SigningPowerDns(tmp_path / "pdns", {ZONE: text}) as powerdns,
    ):
        for name, rtype in questions(text, pick):
            query = dns.message.make_query(name, rtype, want_dnssec=True)
            answers = [dns.query.tcp(query, "127.0.0.1", 30, at.port) for at in (one, two, three, knot, powerdns)]
            *ours, knots, theirs = [proven(answer, name, rtype) for answer in answers]
            asked = f"{name} {dns.rdatatype.to_text(rtype)}:\n" + "\n".join(map(str, answers))
            assert ours == [theirs] * 3, asked
            assert (knots == DATA) == (theirs == DATA), asked
            seen.add(theirs)
    assert len(seen) == 4  # data, both lacks, and what leads elsewhere

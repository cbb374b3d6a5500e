"""A validating Unbound in front: everything that signed zones answer is secure, whatever has been asked before.

It makes denials from NSEC records that it has (RFC 8198), so a type that a bitmap wrongly lacks would be denied.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import pytest

from dnsvip.dns.engine import Engine
from dnsvip.dns.protocol.message import IN, Query, Type
from dnsvip.dns.protocol.names import Labels
from dnsvip.dns.synthesis.synthesizer import RecordSynthesizer
from dnsvip.dns.zones.lookup import Resolution, resolve
from dnsvip.dns.zones.places import EndKind, LookupResult
from dnsvip.dns.zones.record import labels_of
from dnsvip.site import DnssecDenial, Snapshot
from tests.dns.dnssec.generated import OTHER, PARENT, generated
from tests.dns.dnssec.signed import anchor
from tests.dns.unbound import configuration, run_unbound
from tests.dns.world import Running
from tests.long import long_or
from tests.ports import free_port

pytestmark = pytest.mark.skipif(not shutil.which("unbound"), reason="unbound is not installed")

TYPES = (Type.A, Type.AAAA, Type.TXT, Type.MX, Type.HTTPS, Type.SRV, Type.DS, Type.SOA, Type.NS, Type.DNSKEY)
ANCHORED = (labels_of(PARENT), labels_of(OTHER))
SEEDS = range(long_or(2, long=12))


@contextmanager
def unbound(server: Running, folder: Path, anchors: Sequence[str]) -> Iterator[int]:
    """The port of an Unbound that trusts the server's zones by these records."""
    port = free_port()
    trusted = "".join(f'  trust-anchor: "{record}"\n' for record in anchors)
    settings = f"  aggressive-nsec: yes\n  val-log-level: 2\n  minimal-responses: no\n{trusted}"
    zones = server.snapshot.site.zones
    with run_unbound(
        folder,
        port,
        configuration(folder, port, server.port, "validator iterator", settings, zones),
        "example.test",
        "SOA",
    ):
        yield port


def ask(query: dns.message.Message, port: int, log: Path) -> dns.message.Message:
    """What Unbound answers, over TCP where that is long."""
    try:
        return dns.query.udp_with_fallback(query, "127.0.0.1", 60, port)[0]
    except dns.exception.Timeout:
        raise AssertionError(f"no answer to {query.question[0]}\n{log.read_text()[-2000:]}") from None


def found_of(engine: Engine, name: Labels, qtype: int) -> Resolution:
    """What the server's zones have, the addresses of services left out."""
    query = Query(0, 0, b"", name, tuple(label.lower() for label in name), qtype, IN)
    return resolve(engine.zones, query, RecordSynthesizer(engine.tables.services, lambda *_: None))


def names_of(engine: Engine, pick: Random) -> list[Labels]:
    """Every name of the zones and of the services, names that wildcards cover, and names that do not exist."""
    existing = sorted({name for zone in engine.zones.by_apex.values() if zone for name in zone.nodes})
    below = [
        (pick.choice((b"new", b"a", b"Mi\0ed")), *(name[1:] if name[:1] == (b"*",) else name)) for name in existing
    ]
    return [
        *existing,
        *below,
        *engine.zones.services,
        (b"x" * 63, b"y" * 63, b"z" * 63, b"w" * 48, b"example", b"test"),
    ]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("denial", DnssecDenial)
@pytest.mark.parametrize("seed", SEEDS)
def test_everything_is_secure(seed: int, denial: DnssecDenial, tmp_path: Path) -> None:
    """Every name of generated zones and names that they lack: what comes from signed zones alone is authentic, and what
    an unsigned zone has part in is answered too."""
    snapshot = generated(seed, denial)
    secure, insecure = validated(snapshot, [anchor(snapshot, PARENT), anchor(snapshot, OTHER)], seed, tmp_path)
    assert secure > 100
    assert insecure > 10


def validated(
    snapshot: Snapshot, anchors: Sequence[str], seed: int, folder: Path, *, opt_out: bool = False
) -> tuple[int, int]:
    """How many answers are authentic, and how many are not and need not be; with `opt_out` no denial needs to be."""
    engine, pick = Engine(snapshot), Random(seed)
    questions = [(name, qtype) for name in names_of(engine, pick) for qtype in pick.sample(TYPES, 2)]
    pick.shuffle(questions)
    secure = insecure = 0
    with Running(snapshot) as server, unbound(server, folder, anchors) as port:
        for name, qtype in questions:
            found = found_of(engine, name, qtype)
            above = qtype == Type.DS and name in ANCHORED
            if found.end is None or found.found is LookupResult.REFERRAL or above:
                continue  # what is behind it, or above it, is not ours
            query = dns.message.make_query(dns.name.Name((*name, b"")), int(qtype), want_dnssec=True)
            answer = ask(query, port, folder / "log")
            asked = f"{query.question[0]}: {answer}\n{(folder / 'log').read_text()[-2000:]}"
            assert answer.rcode() in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN), asked
            involved = [zone for zone in (*found.zones, found.end.zone) if zone is not None]
            expected = all(zone.is_signed for zone in involved)
            authentic = bool(answer.flags & dns.flags.AD)
            covered = opt_out and (found.found is not LookupResult.ANSWER or not authentic)
            assert authentic is expected or covered, asked
            secure, insecure = secure + authentic, insecure + (not authentic)
            _check_content(found, answer, qtype, engine)
    return secure, insecure


def _check_content(found: Resolution, answer: dns.message.Message, qtype: int, engine: Engine) -> None:
    """It has data of the type exactly where the server has."""
    end = found.end
    assert end is not None
    made = engine.tables.made_types(end.place.key) if end.place.kind is EndKind.NODE else None
    has = found.found is LookupResult.ANSWER or qtype in (made or ())
    assert any(int(rrset.rdtype) == qtype for rrset in answer.answer) is has, f"{answer}"
    if has or found.found is LookupResult.NODATA:
        assert answer.rcode() == dns.rcode.NOERROR, f"{answer}"

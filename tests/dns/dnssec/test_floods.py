"""Floods of names that do not exist below a signed zone: how many signatures they cost, and who answers them."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from dnsvip.dns.dnssec import signatures
from dnsvip.dns.engine import Engine
from dnsvip.dns.hotpath.fastpath import FastPath
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.dns.protocol.message import Rcode
from dnsvip.site import DnssecDenial
from tests.dns.dnssec.signed import P256, signed, signed_world
from tests.dns.hotpath.test_fastpath import ask, opt, question
from tests.dns.test_sessions import labels_of, world
from tests.samples import NOW

NAMES = 300
APEX, BASE = (b"example", b"test"), (b"s", b"example", b"test")
SOURCE = ip_address("127.0.0.1")


@pytest.mark.parametrize(
    ("denial", "most"),
    [(DnssecDenial.COMPACT, NAMES + 10), (DnssecDenial.NSEC, 10), (DnssecDenial.NSEC3, NAMES + 10)],
)
def test_signatures_of_a_flood(denial: DnssecDenial, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each name costs one signature at most, with the chain one for all names in a gap."""
    made = []
    monkeypatch.setattr(signatures, "rrsig", lambda *args, make=signatures.rrsig: made.append(args) or make(*args))
    engine = Engine(signed_world(denial))
    for number in range(NAMES):
        wire = question(f"x{number:05}.example.test", 1, opt(do=0x80))
        assert engine.decide(wire, SOURCE, Arrival("public", Transport.UDP), NOW).wire
    assert len(made) <= most
    assert denial is DnssecDenial.NSEC or len(made) >= NAMES


def test_the_chain_answers_from_the_fast_path() -> None:
    """From the third name in a gap on, in any case, and again an hour later; CO and little room are for the engine."""
    engine = Engine(signed_world(DnssecDenial.NSEC))
    fast = FastPath(engine)
    for number in range(NAMES):
        now = NOW + 3600 * (number // 100)
        name = f"x{number:05}.example.test"
        wire = question(name.upper() if number % 3 else name, 1, opt(do=0x80))
        [answer] = ask(fast, [wire], [SOURCE.packed], now=now)
        assert number % 100 < 2 or answer == engine.decide(wire, SOURCE, Arrival("public", Transport.UDP), now).wire
    long = f"{'z' * 60}.{'z' * 60}.{'z' * 60}"
    for name, edns in (("y", opt(do=0xC0)), (long, opt(do=0x80).replace(b"\x04\xd0", b"\x02\x00"))):
        for number in range(5):
            [answer] = ask(fast, [question(f"{number:05}.{name}.example.test", 1, edns)], [SOURCE.packed])
            assert answer is None


def test_names_of_sessions_are_not_denied_by_the_chain() -> None:
    """Below a service whose names name sessions, names exist that nobody can list: each is denied by itself, and so is
    what stands behind them in the chain."""
    engine = Engine(signed(world(), {"example.test": P256}, DnssecDenial.NSEC))
    zone = engine.zones.by_apex[APEX]
    assert zone is not None
    for label in (b"0" * 32, b"z"):
        assert engine.signer.denials.gaps(zone, BASE, (label, *BASE)) is None
        reply = engine.decide(
            question(f"{label.decode()}.s.example.test", 28, opt(do=0x80)),
            SOURCE,
            Arrival("public", Transport.UDP),
            NOW,
        )
        assert reply.rcode == Rcode.NOERROR  # compact
    assert engine.signer.denials.gaps(zone, APEX, (b"s-", *APEX)) is None
    assert engine.signer.denials.gaps(zone, APEX, (b"zzz", *APEX)) is not None
    name = ".".join(label.decode() for label in (labels_of(world()).make(5).encode(), *BASE))
    made = engine.decide(question(name, 28, opt(do=0x80)), SOURCE, Arrival("public", Transport.UDP), NOW)
    assert made.kind is not None

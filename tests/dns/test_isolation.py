"""One zone that makes any code raise costs its own names alone: the others are answered, changes are taken, a restart
works, and the zone is named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import cast

import dns.message
import dns.rcode
import pytest

from dnsvip import dns as package
from dnsvip.dns.engine import Engine
from dnsvip.dns.hotpath.keys import WIDTH, key_of
from dnsvip.dns.identity.arrival import Arrival
from dnsvip.dns.io.responder import Responder
from dnsvip.dns.protection.proxy import FrontEnds
from dnsvip.site import Snapshot
from dnsvip.site.site_file import build_site
from tests.dns.world import at_last
from tests.injection import inject, places
from tests.samples import TABLES, snapshot_of

BAD, GOOD = "bad.test", "good.test"
TEXT = "$TTL 60\n@ SOA ns h {serial} 2 3 4 5\n@ NS ns\nns A 192.0.2.1\nwww A {address}\nalias CNAME www\nsub NS ns\n"
SOURCE, HOST = IPv4Address("127.0.0.1"), "udp"

PARTS = ("zones", "hotpath", "synthesis", "transfer", "protocol.builder", "asked", "engine")
"""What lies between a snapshot and an answer and deals with one zone at a time."""

FUNCTIONS = [place for place in places(package, PARTS) if "." not in place[1] and place[1][0] != "_"]
"""The public ones."""
NAMELESS = {"read", "read_question"}
"""Those that run before it is known which zone a question is about: the engine answers in place of the fast path."""


def snapshot(serial: int, address: str = "192.0.2.7") -> Snapshot:
    """Two zones alike, one of which will make trouble."""
    text = TEXT.format(serial=serial, address=address)
    zones = {name: {"text": text, "transfer": {"to": ["127.0.0.0/8"]}} for name in (BAD, GOOD)}
    services = {f"vip.{name}": {"cluster": "web"} for name in (BAD, GOOD)}
    return snapshot_of(build_site({**TABLES, "zone": zones, "service": services}))


def about_bad(value: object, depth: int = 3) -> bool:
    """Whether an argument is about the bad zone: its name, labels, text, a record or question of it."""
    if isinstance(value, str):
        return BAD in value
    if isinstance(value, bytes):
        return b"\x03bad\x04test" in value
    if isinstance(value, tuple) and b"bad" in value:
        return True
    if isinstance(value, list | tuple) and depth:
        return any(about_bad(item, depth - 1) for item in value[:8])
    parts = ("name", "key", "owner", "apex", "qname", "answer", "text")
    return depth > 0 and any(about_bad(getattr(value, part, None), depth - 1) for part in parts)


def ask(responder: Responder, name: str, rtype: str) -> dns.message.Message:
    """The answer over UDP; the third time, the fast path has had every chance to learn."""
    answers: list[bytes | None] = []
    for _ in range(3):
        wire = dns.message.make_query(name, rtype, id=7).to_wire()
        answers = at_last(
            responder, *responder.datagrams([key_of(SOURCE.packed, wire)], bytearray(wire[:2]), "main", WIDTH[4])
        )
    return dns.message.from_wire(b"\0\7" + cast("bytes", answers[0]))


def transferred(responder: Responder, zone: str) -> list[bytes]:
    """The messages of a transfer, up to an error."""
    wire = dns.message.make_query(zone, "AXFR", id=7).to_wire()
    answer = responder.stream(wire, SOURCE, Arrival("main"))
    assert answer is not None
    try:
        return [answer] if isinstance(answer, bytes) else list(answer)
    except ZeroDivisionError:
        return []


def questions(zone: str) -> list[tuple[str, str]]:
    """Questions that go every way through the code."""
    names = [("", "SOA"), ("www.", "A"), ("alias.", "A"), ("vip.", "AAAA"), ("none.", "A"), ("x.sub.", "A")]
    return [(f"{prefix}{zone}", rtype) for prefix, rtype in names]


def check_good(responder: Responder, expected: Callable[[str, str], dns.message.Message]) -> None:
    """The good zone answers as it does where nothing is wrong."""
    for name, rtype in questions(GOOD):
        ours, right = ask(responder, name, rtype), expected(name, rtype)
        assert ours.rcode() == right.rcode(), (name, rtype)
        assert ours.answer == right.answer or rtype == "AAAA"
    assert len(transferred(responder, GOOD)) == 1


@pytest.mark.parametrize(("module", "name"), FUNCTIONS, ids=lambda value: value.removeprefix("dnsvip.dns."))
def test_injected(monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> None:
    """Whichever public function raises for one zone, that zone gets SERVFAIL and is named, and all else goes on."""
    first, second = snapshot(1), snapshot(2, "192.0.2.8")
    right = Responder(Engine(first), FrontEnds(()), _tally())
    raised = inject(monkeypatch, package, (module, name), about_bad)
    responder = Responder(Engine(first), FrontEnds(()), _tally())  # a restart
    check_good(responder, lambda *question: ask(right, *question))
    for question in questions(BAD):
        rcode = ask(responder, *question).rcode()
        assert rcode == ask(right, *question).rcode() or raised, question
    transferred(responder, BAD)
    engine = responder.fast.engine
    assert not raised or name in NAMELESS or f"zone.{BAD}" in {problem.where for problem in engine.problems}, raised[:3]
    responder.fast = type(responder.fast)(Engine(second, engine), responder.fast)  # a later change
    assert "192.0.2.8" in str(ask(responder, f"www.{GOOD}", "A").answer[0])


def _tally() -> Counter[str]:
    return Counter()

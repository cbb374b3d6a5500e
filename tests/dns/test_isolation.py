"""One zone that makes any code raise costs its own names alone: the others are answered, changes are taken, a restart
works, and the zone is named."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections import Counter
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from types import ModuleType
from typing import Any, cast

import dns.message
import dns.rcode
import pytest

from dnsvip import dns as package
from dnsvip.dns.engine import Engine
from dnsvip.dns.hotpath.keys import WIDTH, key_of
from dnsvip.dns.io.responder import Responder
from dnsvip.dns.protection.proxy import FrontEnds
from dnsvip.site import Snapshot
from dnsvip.site.site_file import build_site
from tests.samples import TABLES, snapshot_of

BAD, GOOD = "bad.test", "good.test"
TEXT = "$TTL 60\n@ SOA ns h {serial} 2 3 4 5\n@ NS ns\nns A 192.0.2.1\nwww A {address}\nalias CNAME www\nsub NS ns\n"
SOURCE, HOST = IPv4Address("127.0.0.1"), "udp"

PARTS = ("zones", "hotpath", "synthesis", "transfer", "protocol.builder", "engine")
"""What lies between a snapshot and an answer and deals with one zone at a time."""


def snapshot(serial: int, address: str = "192.0.2.7") -> Snapshot:
    """Two zones alike, one of which will make trouble."""
    text = TEXT.format(serial=serial, address=address)
    zones = {name: {"text": text, "transfer": {"to": ["127.0.0.0/8"]}} for name in (BAD, GOOD)}
    services = {f"vip.{name}": {"cluster": "web"} for name in (BAD, GOOD)}
    return snapshot_of(build_site({**TABLES, "zone": zones, "service": services}))


def modules() -> list[ModuleType]:
    """All modules of `dnsvip.dns`."""
    walked = pkgutil.walk_packages(package.__path__, "dnsvip.dns.")
    return [importlib.import_module(module.name) for module in walked if ".io" not in module.name]


def functions() -> Iterator[tuple[str, str]]:
    """The public functions of those parts, by module and name."""
    for module in modules():
        if module.__name__.removeprefix("dnsvip.dns.").startswith(PARTS):
            for name, function in vars(module).items():
                if inspect.isfunction(function) and function.__module__ == module.__name__ and name[0] != "_":
                    yield module.__name__, name


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


def inject(monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> list[str]:
    """Have a function raise for everything about the bad zone, wherever it has been imported; the calls that did."""
    real, raised = getattr(importlib.import_module(module), name), list[str]()

    def failing(*args: Any, **kwargs: Any) -> Any:
        if any(about_bad(value) for value in (*args, *kwargs.values())):
            raised.append(name)
            raise ZeroDivisionError("injected")
        return real(*args, **kwargs)

    for each in modules():
        for known, value in list(vars(each).items()):
            if value is real:
                monkeypatch.setattr(each, known, failing)
            elif isinstance(value, dict) and real in value.values():
                for key in [key for key, item in value.items() if item is real]:
                    monkeypatch.setitem(value, key, failing)
    return raised


def ask(responder: Responder, name: str, rtype: str) -> dns.message.Message:
    """The answer over UDP; the third time, the fast path has had every chance to learn."""
    answers: list[bytes | None] = []
    for _ in range(3):
        wire = dns.message.make_query(name, rtype, id=7).to_wire()
        answers = responder.datagrams([key_of(SOURCE.packed, wire)], bytearray(wire[:2]), "main", WIDTH[4])
    return dns.message.from_wire(b"\0\7" + cast("bytes", answers[0]))


def transferred(responder: Responder, zone: str) -> list[bytes]:
    """The messages of a transfer, up to an error."""
    wire = dns.message.make_query(zone, "AXFR", id=7).to_wire()
    answer = responder.stream(wire, SOURCE, "main")
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


@pytest.mark.parametrize(("module", "name"), list(functions()), ids=lambda value: value.removeprefix("dnsvip.dns."))
def test_injected(monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> None:
    """Whichever public function raises for one zone, that zone gets SERVFAIL and is named, and all else goes on."""
    first, second = snapshot(1), snapshot(2, "192.0.2.8")
    right = Responder(Engine(first), FrontEnds(()), _tally())
    raised = inject(monkeypatch, module, name)
    responder = Responder(Engine(first), FrontEnds(()), _tally())  # a restart
    check_good(responder, lambda *question: ask(right, *question))
    for question in questions(BAD):
        rcode = ask(responder, *question).rcode()
        assert rcode == ask(right, *question).rcode() or raised, question
    transferred(responder, BAD)
    engine = responder.fast.engine
    assert not raised or f"zone.{BAD}" in {problem.where for problem in engine.problems}, raised[:3]
    responder.fast = type(responder.fast)(Engine(second, engine), responder.fast)  # a later change
    assert "192.0.2.8" in str(ask(responder, f"www.{GOOD}", "A").answer[0])


def _tally() -> Counter[str]:
    return Counter()

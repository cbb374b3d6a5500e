"""One client, cluster, tier, service or key that makes any code raise costs its own answers alone, and is named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any, cast

import dns.message
import dns.rcode
import dns.tsigkeyring
import pytest

from dnsvip import dns as package
from dnsvip.dns.engine import Engine
from dnsvip.dns.hotpath.keys import WIDTH, key_of
from dnsvip.dns.identity.arrival import Arrival
from dnsvip.dns.io.responder import Responder
from dnsvip.dns.protection.proxy import FrontEnds
from dnsvip.site import ClientState, Snapshot
from dnsvip.site.site_file import build_site
from tests.dns.world import at_last
from tests.injection import inject, places
from tests.samples import NOW, TABLES, snapshot_of

TEXT = "$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\nwww A 192.0.2.7\n"
BAD, GOOD = IPv4Address("203.0.113.9"), IPv4Address("198.51.100.9")
SECRET = "c2VjcmV0LXNlY3JldA=="
HOTPATH = ("hotpath.fastpath", "hotpath.recognize", "hotpath.opts")
PARTS = ("identity", "synthesis", "protocol.tsig", *HOTPATH, "site_tables", "control")
"""What deals with one client, cluster or key at a time."""

WEB: Mapping[str, Any] = TABLES["cluster"]["web"]
SITE: Mapping[str, Any] = {
    "cluster": {"web": WEB, "bad": {**WEB, "prefix": "2001:db8:b:1::/64", "plain": "2001:db8:b:1::1"}},
    "tier": {**TABLES["tier"], "bad": {"code": 9, "pool": "slow"}},
    "pool": TABLES["pool"],
    "zone": {"example.test": {"text": TEXT}},
    "service": {"good.example.test": {"cluster": "web"}, "bad.example.test": {"cluster": "bad"}},
    "tsig": {"bad": {"secret": SECRET}, "good": {"secret": SECRET}},
    "client": {
        "bad": {"id": 7, "tier": "bad", "match": [{"source": "203.0.113.0/24"}, {"tsig": "bad"}]},
        "good": {"id": 8, "tier": "gold", "match": [{"source": "198.51.100.0/24"}, {"tsig": "good"}]},
    },
}
NUMBERS = frozenset(int(IPv4Address(address)) for address in ("203.0.113.0", "203.0.113.9"))


def snapshot() -> Snapshot:
    """Of each kind a good object, and a bad one that will make trouble."""
    return snapshot_of(build_site(SITE))


def about_bad(value: object, depth: int = 3) -> bool:
    """Whether an argument is about a bad object: its name or address, the object itself, a requester that it is."""
    if isinstance(value, str):
        return value == "bad" or value.startswith(("203.0.113.", "bad.example"))
    if isinstance(value, bytes):
        return b"\x03bad" in value or BAD.packed in value
    if isinstance(value, int):
        return value in NUMBERS
    if isinstance(value, IPv4Address):
        return value == BAD
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return depth > 0 and any(about_bad(item, depth - 1) for item in value[:8])
    parts = ("name", "source", "requester", "client", "value", "key_name", "cluster")
    return depth > 0 and any(about_bad(getattr(value, part, None), depth - 1) for part in parts)


def answer(responder: Responder, name: str, source: IPv4Address, key: str = "") -> dns.message.Message:
    """The answer over UDP, the third time, when the fast path has had every chance to learn; or signed, over TCP."""
    query = dns.message.make_query(name, "AAAA", id=7)
    if key:
        query.use_tsig(dns.tsigkeyring.from_text({key: SECRET}), keyname=dns.name.from_text(key))
        wire = cast("bytes", responder.stream(query.to_wire(), source, Arrival("main")))
        return dns.message.from_wire(wire, keyring=query.keyring, request_mac=query.mac)
    wire, answers = query.to_wire(), list[bytes | None]()
    for _ in range(3):
        answers = at_last(
            responder, *responder.datagrams([key_of(source.packed, wire)], bytearray(wire[:2]), "main", WIDTH[4])
        )
    return dns.message.from_wire(b"\0\7" + cast("bytes", answers[0]))


def vip(message: dns.message.Message) -> IPv6Address | None:
    """The address in an answer."""
    return IPv6Address(str(next(iter(message.answer[0])))) if message.answer else None


@pytest.mark.parametrize(
    ("module", "name"), list(places(package, PARTS)), ids=lambda value: value.removeprefix("dnsvip.dns.")
)
def test_injected(monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> None:
    """Whichever function raises for the bad objects, the good ones are answered as ever, the bad ones are named or
    SERVFAIL, and a revocation of another is taken."""
    monkeypatch.setattr("time.time", lambda: NOW)
    first = snapshot()
    right = Responder(Engine(first), FrontEnds(()), Counter())
    expected = vip(answer(right, "good.example.test", GOOD))
    raised = inject(monkeypatch, package, (module, name), about_bad)
    responder = Responder(Engine(first), FrontEnds(()), Counter())  # a restart
    assert vip(answer(responder, "good.example.test", GOOD)) == expected
    assert vip(answer(responder, "good.example.test", GOOD, "good")) == expected
    replies = [
        _reply(responder, "good.example.test", BAD, ""),
        _reply(responder, "bad.example.test", GOOD, ""),
        _reply(responder, "good.example.test", GOOD, "bad"),
    ]
    assert raised or replies == [_reply(right, *question) for question in _BAD_QUESTIONS]
    named = {problem.where for problem in responder.fast.engine.problems}
    assert not raised or named or all(isinstance(reply, IPv6Address) for reply in replies)
    clients = {**first.site.clients, "good": replace(first.site.clients["good"], state=ClientState.DISABLED)}
    revoked = replace(first, generation=2, site=replace(first.site, clients=clients))
    engine = Engine(revoked, responder.fast.engine)
    responder.fast = type(responder.fast)(engine, responder.fast)
    assert str(vip(answer(responder, "good.example.test", GOOD))) == "2001:db8:a:1::1"


_BAD_QUESTIONS = (("good.example.test", BAD, ""), ("bad.example.test", GOOD, ""), ("good.example.test", GOOD, "bad"))


def _reply(responder: Responder, name: str, source: IPv4Address, key: str) -> IPv6Address | str | None:
    try:
        message = answer(responder, name, source, key)
    except Exception as error:  # noqa: BLE001 - an unsigned answer to a signed query, which dnspython refuses
        return type(error).__name__
    return vip(message) or dns.rcode.to_text(message.rcode())


@pytest.mark.parametrize(
    ("kind", "name", "broken"),
    [
        ("clients", "bad", {"match": 7}),
        ("clients", "bad", {"state": None, "match": (None,)}),
        ("clusters", "bad", {"plain": None}),
        ("tsig_keys", "bad", {"secret": "x"}),
        ("services", "bad.example.test", {"cluster": "none"}),
    ],
    ids=str,
)
def test_broken_records(kind: str, name: str, broken: dict[str, Any]) -> None:
    """A record of any kind with a value that no rule would have let in is named, all else is answered, and once it is
    mended nothing is left of it."""
    good = snapshot()
    objects: Mapping[str, Any] = getattr(good.site, kind)
    bad = replace(good, site=replace(good.site, **{kind: {**objects, name: replace(objects[name], **broken)}}))
    for engine in (Engine(bad), Engine(bad, Engine(good))):
        responder = Responder(engine, FrontEnds(()), Counter())
        for question in _BAD_QUESTIONS:
            _reply(responder, *question)
        assert vip(answer(responder, "good.example.test", GOOD)) is not None
        assert {problem.where.partition(".")[2].partition(".")[0] for problem in engine.problems} == {"bad"}
        mended = Engine(good, engine)
        assert not mended.problems
        assert answer(Responder(mended, FrontEnds(()), Counter()), "bad.example.test", BAD).answer

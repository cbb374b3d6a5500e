"""Rate limiting: what is alike, what is dropped, who is exempt, and that it stays bounded."""

from __future__ import annotations

import base64
import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

import dns.edns
import dns.message
import dns.tsig
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsvip.dns.engine import Engine
from dnsvip.dns.identity.arrival import Arrival, Transport
from dnsvip.dns.protection import rrl
from dnsvip.dns.protection.cookies import Cookies
from dnsvip.dns.protection.rrl import Limiter, LimitVerdict, slipped
from dnsvip.dns.reply import DnsOutcome, Reply
from dnsvip.site.node_dns import DnsSettings, Listener, RateLimit
from tests.dns.world import KEY, Running, world_snapshot
from tests.samples import NOW

SECRETS = (bytes(range(16)),)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(replace(world_snapshot(), cookie_secrets=SECRETS))


def ask(engine: Engine, name: str, qtype: str = "A", peer: str = "203.0.113.9", **kw: object) -> Reply:
    """The engine's reply to a question by UDP."""
    wire = dns.message.make_query(name, qtype, **kw).to_wire()
    return engine.decide(wire, ip_address(peer), Arrival("public", Transport.UDP), NOW)


def judge(limiter: Limiter, engine: Engine, name: str, qtype: str = "A", peer: str = "203.0.113.9", at: float = NOW):
    return limiter.judge(ask(engine, name, qtype, peer), ip_address(peer).packed, at)


@pytest.mark.parametrize(
    ("name", "qtype", "other", "other_type", "alike"),
    [
        ("mail.example.test", "A", "MAIL.example.test", "A", True),
        ("mail.example.test", "A", "big.example.test", "A", False),
        ("mail.example.test", "A", "mail.example.test", "ANY", False),
        ("x1.example.test", "A", "a.b.x2.example.test", "TXT", True),
        ("x1.example.test", "A", "x1.other.test", "A", False),
        ("x1.example.test", "A", "mail.example.test", "LOC", False),
        ("mail.example.test", "LOC", "example.test", "LOC", True),
        ("no.such.zone", "A", "neither.that.one", "AAAA", True),
        ("r1.each.example.test", "AAAA", "r2.each.example.test", "AAAA", True),
        ("r1.each.example.test", "AAAA", "www.example.test", "AAAA", False),
        ("away.example.test", "A", "away.example.test", "TXT", True),
        ("dangling.example.test", "A", "dangling.example.test", "TYPE731", True),
        ("a1.example.test", "TXT", "a1.example.test", "LOC", True),
        ("a1.example.test", "A", "a1.example.test", "LOC", False),
        ("x1.far.example.test", "A", "x2.far.example.test", "MX", True),
        ("into.example.test", "A", "into.example.test", "MX", True),
    ],
)
def test_what_is_alike(engine: Engine, name: str, qtype: str, other: str, other_type: str, alike: bool) -> None:
    """Data of one name (or of one wildcard) and type share an account, as do all names a zone does not have, all that
    is NODATA in it, all types for which an alias leads to no data, and all errors."""
    limiter = Limiter(1, 0)
    assert judge(limiter, engine, name, qtype) is LimitVerdict.SEND
    assert judge(limiter, engine, other, other_type) is (LimitVerdict.DROP if alike else LimitVerdict.SEND)


@pytest.mark.parametrize(
    ("peer", "other", "alike"),
    [
        ("203.0.113.9", "203.0.113.200", True),
        ("203.0.113.9", "203.0.112.9", False),
        ("2001:db8:5:aa00::1", "2001:db8:5:aaff::1", True),
        ("2001:db8:5:aa00::1", "2001:db8:5:ab00::1", False),
    ],
)
def test_prefixes(engine: Engine, peer: str, other: str, alike: bool) -> None:
    """Requesters of one /24 or /56 share their accounts."""
    limiter = Limiter(1, 0)
    assert judge(limiter, engine, "mail.example.test", peer=peer) is LimitVerdict.SEND
    verdict = judge(limiter, engine, "mail.example.test", peer=other)
    assert verdict is (LimitVerdict.DROP if alike else LimitVerdict.SEND)


@given(
    st.integers(1, 50), st.integers(0, 5), st.lists(st.floats(0, 3, allow_nan=False), max_size=200), st.integers(0, 9)
)
def test_rate_is_kept(rate: int, slip: int, pauses: list[float], back: int) -> None:
    """Over any time no more is sent than the rate allows and one second's worth, also when the clock is set back; and
    of what goes beyond exactly each slip-th slips."""
    limiter, now, seen = Limiter(rate, slip), NOW, Counter[LimitVerdict]()
    for number, pause in enumerate(pauses):
        now += pause
        seen[limiter._spend(b"key", int((now - (1000 if number == back else 0)) * 1e9))] += 1
    beyond = len(pauses) - seen[LimitVerdict.SEND]
    waited = sum(pauses) + (1000 if back < len(pauses) else 0)
    assert seen[LimitVerdict.SEND] <= rate + rate * waited + 1e-6
    assert seen[LimitVerdict.SLIP] == (beyond // slip if slip else 0)


def test_steady_requesters_are_served(engine: Engine) -> None:
    """A requester no faster than the rate always gets the answer."""
    limiter = Limiter(10, 2)
    assert {judge(limiter, engine, "www.example.test", "AAAA", at=NOW + n / 9.9) for n in range(100)} == {
        LimitVerdict.SEND
    }


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
    """However many prefixes and names there are, only so many accounts are kept."""
    monkeypatch.setattr(rrl, "ACCOUNTS", 16)
    limiter = Limiter(1, 2)
    for n in range(200):
        judge(limiter, engine, f"n{n}.each.example.test", "AAAA", peer=f"10.0.{n}.1")
    assert len(limiter._accounts) <= 32


@pytest.mark.parametrize("name", ["mail.example.test", "nope.example.test", "no.zone", "nul\\000label.example.test"])
@pytest.mark.parametrize("edns", [-1, 0])
def test_slipped_answers(engine: Engine, name: str, edns: int) -> None:
    """A slipped answer is the question with TC, and the OPT record where the answer had one."""
    reply = ask(engine, name, use_edns=edns)
    assert slipped(reply).truncated
    before, after = dns.message.from_wire(reply.wire), dns.message.from_wire(slipped(reply).wire)
    assert (after.id, after.question, after.rcode()) == (before.id, before.question, before.rcode())
    assert after.flags == before.flags | dns.flags.TC
    assert (after.answer, after.authority, after.additional) == ([], [], [])
    assert (after.edns, after.options) == (before.edns, before.options)


def test_malformed_are_errors(engine: Engine) -> None:
    """Answers to what is no question have one account, and slip as a bare header."""
    wire = b"ab\0\0\0\7\0\0\0\0\0\0"
    reply = engine.decide(wire, ip_address("192.0.2.1"), Arrival("public", Transport.UDP), NOW)
    assert reply.wire
    limiter = Limiter(1, 1)
    verdicts = [limiter.judge(reply, bytes(4), NOW) for _ in range(2)]
    assert verdicts == [LimitVerdict.SEND, LimitVerdict.SLIP]
    assert slipped(reply).wire == reply.wire[:2] + b"\x82\1" + bytes(8)


def test_who_is_exempt(engine: Engine) -> None:
    """A valid cookie or a verified signature exempts a reply; a signature that is wrong does not, nor does TC."""
    peer = "203.0.113.9"
    cookie = Cookies(SECRETS).check(bytes(8), ip_address(peer).packed, NOW).answer
    good = ask(engine, "mail.example.test", options=[dns.edns.GenericOption(dns.edns.OptionType.COOKIE, cookie)])
    forged = dns.message.make_query("mail.example.test", "A")
    forged.use_tsig(dns.tsig.Key("acme-key", base64.b64encode(b"not the secret"), dns.tsig.HMAC_SHA256))
    bad = engine.decide(forged.to_wire(), ip_address(peer), Arrival("public", Transport.UDP), NOW)
    assert (good.cookie_valid, bad.signature_verified, bad.outcome) == (True, False, DnsOutcome.TSIG_SIGNATURE)
    cases = [
        (good, LimitVerdict.SEND),
        (bad, LimitVerdict.DROP),
        (good._replace(cookie_valid=False), LimitVerdict.DROP),
    ]
    cases += [
        (bad._replace(signature_verified=True), LimitVerdict.SEND),
        (bad._replace(truncated=True), LimitVerdict.DROP),
    ]
    for reply, second in cases:
        limiter = Limiter(1, 0)
        verdicts = [limiter.judge(reply, ip_address(peer).packed, NOW) for _ in range(2)]
        assert verdicts == [LimitVerdict.SEND, second]


@pytest.fixture(scope="module")
def limited() -> Iterator[Running]:
    """A server that sends two answers of a kind a second."""
    with Running(
        replace(world_snapshot(), cookie_secrets=SECRETS),
        settings=DnsSettings(listen=(Listener("127.0.0.1:0", "public"),), rate_limit=RateLimit(2, 2)),
    ) as running:
        yield running


def flood(server: Running, wire: bytes, times: int = 40) -> list[bytes]:
    """The answers to a message sent many times at once."""
    answers = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(times):
            sock.sendto(wire, ("127.0.0.1", server.port))
        sock.settimeout(0.5)
        while True:
            try:
                answers.append(sock.recv(65535))
            except TimeoutError:
                return answers


def test_flood_over_sockets(limited: Running) -> None:
    """Of forty questions at once few are answered, about half of the others slip, and both are counted; dig then
    gets its answer over TCP, or at once by a cookie or a signature."""
    for name, qtype in (("www.example.test", "AAAA"), ("random.example.test", "A")):
        before = dict(limited.server.counters()["transport"])
        wire = dns.message.make_query(name, qtype).to_wire()
        answers = flood(limited, wire)
        short = [answer for answer in answers if answer[2] & 2]
        after = limited.server.counters()["transport"]
        dropped = after["udp_dropped"] - before.get("udp_dropped", 0)
        assert after["udp_slipped"] - before.get("udp_slipped", 0) == len(short)
        assert len(answers) + dropped == 40
        assert abs(len(short) - dropped) <= 1
        assert 2 <= len(answers) - len(short) <= 6
        assert all(len(answer) == len(wire) for answer in short)
    wire = dns.message.make_query("www.example.test", "AAAA").to_wire()
    flood(limited, wire, 20)
    learned = limited.dig("www.example.test", "AAAA", "+tcp", "+cookie=0102030405060708").text
    cookie = learned.partition("COOKIE: ")[2].split()[0]
    flood(limited, wire, 20)
    for _ in range(6):
        assert limited.dig("www.example.test", "AAAA", f"+cookie={cookie}", "+ignore").answer
        assert limited.dig("www.example.test", "AAAA", "-y", KEY, "+nocookie", "+ignore").answer

"""Cookies as dig and kdig use them, over sockets, and what is answered to cookies that are wrong."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace

import dns.edns
import dns.message
import pytest

from dnsvip.dns.engine import Engine
from dnsvip.dns.reply import DnsOutcome
from tests.dns.world import Running, world_snapshot

SECRETS = (bytes(range(16)), bytes(16))
CLIENT = "0102030405060708"


@pytest.fixture(scope="module")
def jar() -> Iterator[Running]:
    """A server whose site has secrets."""
    with Running(replace(world_snapshot(), cookie_secrets=SECRETS)) as running:
        yield running


@pytest.fixture(scope="module")
def strict() -> Iterator[Running]:
    """One that wants cookies by UDP."""
    with Running(replace(world_snapshot(), cookie_secrets=SECRETS)) as running:
        running.server.engine = Engine(running.snapshot, running.server.engine, require_cookies=True)
        running.server.update(replace(running.snapshot, generation=2))  # which keeps it so
        yield running


def asked(server: Running, *cookies: bytes, name: str = "mail.example.test", **kw: int) -> dns.message.Message:
    """The answer by UDP to a query with these COOKIE options."""
    options = [dns.edns.GenericOption(10, cookie) for cookie in cookies]
    query = dns.message.make_query(name, "A", use_edns=0, options=options, **kw)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(3)
        sock.sendto(query.to_wire(), ("127.0.0.1", server.port))
        answer = dns.message.from_wire(sock.recv(65535))
    assert answer.id == query.id
    return answer


def cookie_of(answer: dns.message.Message) -> bytes:
    """The whole COOKIE option of an answer, empty where it has none."""
    cookies = [option.to_wire() for option in answer.options if option.otype == 10]
    assert len(cookies) <= 1
    return cookies[0] if cookies else b""


@pytest.mark.parametrize("name", ["mail.example.test", "www.example.test", "no.such.example.test"])
@pytest.mark.parametrize("more", [[], ["+subnet=198.51.100.0/24", "+nsid"], ["+tcp"]])
def test_dig_learns_and_keeps_a_cookie(jar: Running, name: str, more: list[str]) -> None:
    """dig finds the cookie of an answer good, and what it learned is taken and given back as it is."""
    for _ in range(4):  # the first ones by the general path, the later ones by the fast one
        text = jar.dig(name, "AAAA", f"+cookie={CLIENT}", *more).text
        [learned] = re.findall(rf"COOKIE: ({CLIENT}01000000[0-9a-f]{{24}}) \(good\)", text)
        assert f"COOKIE: {learned} (good)" in jar.dig(name, "AAAA", f"+cookie={learned}", *more).text


def test_kdig_takes_the_cookie(jar: Running) -> None:
    """kdig shows client and server cookie, over UDP and TCP."""
    for transport in ("+notcp", "+tcp"):
        text = jar.kdig("www.example.test", "AAAA", f"+cookie={CLIENT}", transport).text
        assert re.search(rf"COOKIE: {CLIENT}01000000[0-9A-Fa-f]{{24}}", text), text


def test_no_cookie_unasked(jar: Running, server: Running) -> None:
    """Without a cookie in the query, or without secrets, there is none in the answer."""
    assert "COOKIE" not in jar.dig("www.example.test", "AAAA", "+nocookie").text
    assert cookie_of(asked(server, bytes(8))) == b""


@pytest.mark.parametrize("length", [0, 1, 7, 9, 15, 41, 60])
def test_impossible_lengths(jar: Running, server: Running, length: int) -> None:
    """A COOKIE option of an impossible length is FORMERR, with or without secrets, and counted."""
    for running in (jar, server):
        before = running.server.engine.counters.outcomes[DnsOutcome.BAD_COOKIE]
        answer = asked(running, bytes(length))
        assert (answer.rcode(), answer.answer, cookie_of(answer)) == (dns.rcode.FORMERR, [], b"")
        assert running.server.engine.counters.outcomes[DnsOutcome.BAD_COOKIE] == before + 1


@pytest.mark.parametrize("length", [16, 23, 24, 25, 40])
def test_others_cookies_are_replaced(jar: Running, length: int) -> None:
    """A server cookie that is none of ours gets the answer and one of ours."""
    answer = asked(jar, bytes(length))
    assert len(answer.answer) == 1
    assert cookie_of(answer)[:12] == bytes(8) + b"\1\0\0\0"


def test_only_the_first_counts(jar: Running) -> None:
    """Of several COOKIE options the others are ignored, whatever they are."""
    assert cookie_of(asked(jar, b"first---", b"second--", b"x"))[:8] == b"first---"


def test_room_for_the_cookie(jar: Running) -> None:
    """The cookie counts when an answer is cut to the requester's size."""
    answer = asked(jar, bytes(8), name="big.example.test", payload=512)
    assert (answer.flags & dns.flags.TC, answer.answer, len(cookie_of(answer))) == (dns.flags.TC, [], 24)


def test_secrets_are_rolled(jar: Running) -> None:
    """After a roll cookies of before are taken and replaced."""
    now = 1_700_000_000.0
    old = Engine(replace(world_snapshot(), cookie_secrets=(b"a" * 16, b"b" * 16, b"c" * 16)))
    new = Engine(replace(world_snapshot(), cookie_secrets=(b"b" * 16, b"d" * 16, b"a" * 16)), old)
    assert old.cookies
    assert new.cookies
    given = old.cookies.check(bytes(8), bytes(4), now).answer
    valid, renewed = new.cookies.check(given, bytes(4), now)
    assert valid
    assert renewed != given
    assert old.cookies.check(renewed, bytes(4), now).valid  # on a node that has not heard of the roll yet


def test_required(strict: Running) -> None:
    """Where cookies are required, dig gets BADCOOKIE and retries with the right one, over UDP; TCP and queries
    without any cookie are answered, and a cookie once learned is enough."""
    first = strict.dig("www.example.test", "AAAA", f"+cookie={CLIENT}", "+nobadcookie")
    assert (first.status, first.answer) == ("BADCOOKIE", [])
    [learned] = re.findall(r"COOKIE: ([0-9a-f]{48}) \(good\)", first.text)
    for _ in range(3):
        assert strict.dig("www.example.test", "AAAA", f"+cookie={learned}", "+nobadcookie").status == "NOERROR"
    for _ in range(3):
        retried = strict.dig("www.example.test", "AAAA", f"+cookie={CLIENT}")
        assert retried.status == "NOERROR"
        assert "BADCOOKIE, retrying" in retried.text
    assert strict.dig("www.example.test", "AAAA", f"+cookie={CLIENT}", "+tcp").status == "NOERROR"
    assert strict.dig("www.example.test", "AAAA", "+nocookie").status == "NOERROR"
    assert strict.server.counters()["rcodes"]["BADCOOKIE"] == 4


def requesters() -> list[Callable[[Running], str]]:
    """Ways to ask for what is most common."""
    return [
        lambda server: server.dig("www.example.test", "AAAA").text,
        lambda server: server.kdig("www.example.test", "AAAA").text,
    ]


@pytest.mark.parametrize("ask", requesters(), ids=["dig", "kdig"])
def test_defaults_of_the_tools(jar: Running, ask: Callable[[Running], str]) -> None:
    """What the tools send by themselves gets an answer that they find nothing wrong with."""
    text = ask(jar)
    assert "status: NOERROR" in text
    assert "WARNING" not in text


def bare(*cookies: bytes, edns: bool = True) -> bytes:
    """A query without a question."""
    options = b"".join(b"\0\x0a" + len(cookie).to_bytes(2, "big") + cookie for cookie in cookies)
    opt = b"\0\0\x29\x04\xd0\0\0\0\0" + len(options).to_bytes(2, "big") + options if edns else b""
    return b"\x12\x34\1\0" + bytes(7) + bytes([bool(opt)]) + opt


def exchanged(server: Running, wire: bytes) -> dns.message.Message:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(3)
        sock.sendto(wire, ("127.0.0.1", server.port))
        return dns.message.from_wire(sock.recv(65535))


def test_a_cookie_without_a_question(jar: Running, server: Running) -> None:
    """A query for a cookie alone gets it (RFC 7873 section 5.4): NOERROR, BADCOOKIE where its server cookie is not
    ours; FORMERR without a cookie, or where the server has no secret."""
    first = exchanged(jar, bare(bytes(8)))
    assert (first.id, first.rcode(), first.question, first.answer) == (0x1234, dns.rcode.NOERROR, [], [])
    cookie = cookie_of(first)
    assert (cookie[:12], len(cookie)) == (bytes(8) + b"\1\0\0\0", 24)
    again = exchanged(jar, bare(cookie))
    assert (again.rcode(), cookie_of(again)) == (dns.rcode.NOERROR, cookie)
    other = exchanged(jar, bare(bytes(24)))
    assert (other.rcode(), len(cookie_of(other))) == (dns.rcode.BADCOOKIE, 24)
    for running, wire in ((jar, bare()), (jar, bare(edns=False)), (server, bare(bytes(8)))):
        assert exchanged(running, wire).rcode() == dns.rcode.FORMERR
    assert jar.server.engine.counters.outcomes[DnsOutcome.COOKIE] == 2
    assert exchanged(jar, bare(bytes(7))).rcode() == dns.rcode.FORMERR

"""Where a request comes from: its peer, or what trusted proxies in front say, and nothing that others say."""

from __future__ import annotations

import contextlib
import time
from ipaddress import ip_network

import pytest

from dnsvip.admin.http.auth import ATTEMPTS
from dnsvip.admin.http.source import MOST_BYTES, PROXIES, Proxies
from tests.admin.conftest import Api
from tests.admin.test_refusals import check
from tests.admin.test_tokens import made

TRUSTED = (ip_network("127.0.0.1/32"), ip_network("192.0.2.0/24"), ip_network("2001:db8:ff::/48"))

SOURCES: list[tuple[str, list[str], str]] = [
    ("198.51.100.1", ["203.0.113.9"], "198.51.100.1"),  # no proxy of ours: its word is nothing
    ("198.51.100.1", ["nonsense"], "198.51.100.1"),
    ("192.0.2.1", [], "192.0.2.1"),
    ("192.0.2.1", [" , "], "192.0.2.1"),
    ("192.0.2.1", ["203.0.113.9"], "203.0.113.9"),
    ("192.0.2.1", ["10.0.0.1, 203.0.113.9"], "203.0.113.9"),  # what stands before it is the client's own word
    ("192.0.2.1", ["10.0.0.1", "203.0.113.9, 192.0.2.7"], "203.0.113.9"),
    ("192.0.2.1", ["nonsense, 203.0.113.9,192.0.2.7"], "203.0.113.9"),
    ("192.0.2.1", ["192.0.2.9, 192.0.2.7"], "192.0.2.9"),  # a client that is one of the proxies
    ("2001:db8:ff::1", ["2001:db8::9"], "2001:db8::9"),
    ("2001:db8:ff::1", ["[2001:db8::9]:4711"], "2001:db8::9"),
    ("2001:db8:ff::1", ["203.0.113.9:4711"], "203.0.113.9"),
    ("::ffff:192.0.2.1", ["::ffff:203.0.113.9"], "203.0.113.9"),
    ("fe80::1%eth0", ["203.0.113.9"], "fe80::1"),
    ("", ["203.0.113.9"], "203.0.113.9"),  # at a Unix socket, which is this machine
    ("", [], ""),
]


@pytest.mark.parametrize(("peer", "lines", "source"), SOURCES)
def test_the_rightmost_hop_that_is_not_ours(peer: str, lines: list[str], source: str) -> None:
    """Of the hops, only those that trusted proxies appended count."""
    assert Proxies(TRUSTED).source(peer, lines) == source
    assert Proxies().source(peer, lines) == Proxies(TRUSTED).source(peer, [])


FORWARDED: list[tuple[str, str]] = [
    ("for=203.0.113.9", "203.0.113.9"),
    ('For="[2001:db8::9]:4711";proto=https;by=192.0.2.1', "2001:db8::9"),
    ('for=10.0.0.1, proto=http;for="203.0.113.9:80" ;host="a,b;for=10.0.0.2", for=192.0.2.7', "203.0.113.9"),
    ('for="10.0.0.1, for=10.0.0.2", for=203.0.113.9', "203.0.113.9"),
    ('for="10.0.0.1, for=203.0.113.9', "203.0.113.9"),  # a quote that a client left open hides nothing
    ('for=10.0.0.1, by="a\\"b\\\\";for="203\\.0.113.9";host="c;for=10.0.0.2\\\\"', "203.0.113.9"),
]


@pytest.mark.parametrize(("line", "source"), FORWARDED)
def test_forwarded(line: str, source: str) -> None:
    """The header of RFC 7239 is read with its quotes."""
    assert Proxies(TRUSTED, "Forwarded").source("192.0.2.1", [line]) == source


@pytest.mark.parametrize(
    ("header", "line"),
    [
        ("X-Forwarded-For", "10.0.0.1, unknown"),
        ("X-Forwarded-For", "203.0.113.9%eth0"),
        ("X-Forwarded-For", "fe80::1%1"),
        ("Forwarded", "for=_hidden"),
        ("Forwarded", "for=10.0.0.1, proto=https"),
        ("Forwarded", 'for="203.0.113.9'),
    ],
)
def test_a_hop_without_an_address(header: str, line: str) -> None:
    """A trusted proxy that does not say for whom it asks is refused: nobody passes for the proxy itself."""
    with pytest.raises(ValueError, match="is no address; a trusted proxy must append"):
        Proxies(TRUSTED, header).source("192.0.2.1", [line])


HOSTILE = {
    "Forwarded": [
        '"' + '\\"' * 4000,
        "for=a" + " " * 8000,
        "a" * 8000,
        '"\\' * 4000,
        "for=192.0.2.7," * 560,
        "\\" * 8000 + '"',
    ],
    "X-Forwarded-For": ["192.0.2.7," * 800, "1." * 4000, ":" * 8000, " " * 8000, "," * 8000],
}


@pytest.mark.parametrize(("header", "line"), [(name, line) for name, lines in HOSTILE.items() for line in lines])
@pytest.mark.parametrize("times", [1, 40])
def test_what_a_stranger_sends_costs_nothing(header: str, line: str, times: int) -> None:
    """However long and odd the header is, it takes some milliseconds: this comes before any token is known."""
    proxies, begun = Proxies(TRUSTED, header), time.process_time()
    for lines in ([line[:MOST_BYTES]], [line] * times, [line + ",for=203.0.113.9"]):
        with contextlib.suppress(ValueError):
            proxies.source("192.0.2.1", lines)
    assert time.process_time() - begun < 0.05


def test_a_header_without_end() -> None:
    """What no chain of proxies says is refused unread."""
    line = "for=10.0.0.1, " * 200 + "for=203.0.113.9"
    with pytest.raises(ValueError, match="has more than 2048 characters"):
        Proxies(TRUSTED, "Forwarded").source("192.0.2.1", [line])
    assert Proxies(TRUSTED, "Forwarded").source("192.0.2.1", [line[-MOST_BYTES:]]) == "203.0.113.9"


async def test_requesters_behind_a_proxy(api: Api) -> None:
    """Lockouts and the networks of tokens go by the client behind a trusted proxy, and by the one header it sets."""

    def behind(source: str, token: str = api.token, header: str = "X-Forwarded-For") -> dict[str, str]:
        return {"Authorization": f"Bearer {token}", header: f"10.0.0.1, {source}"}

    app = api.client.server.app  # type: ignore[attr-defined]  # a TestServer of an application
    elsewhere = (await made(api, networks=["203.0.113.0/24"]))["Authorization"].removeprefix("Bearer ")
    assert (await api("GET", "status", headers=behind("203.0.113.9", elsewhere))).status == 403
    app._state[PROXIES] = Proxies(TRUSTED)
    assert (await api("GET", "status", headers=behind("203.0.113.9", elsewhere))).status == 200
    assert (await api("GET", "status", headers=behind("198.51.100.9", elsewhere))).status == 403
    spoofed = behind("203.0.113.9", elsewhere, "Forwarded")
    assert (await api("GET", "status", headers=spoofed)).status == 403
    check(await api("GET", "status", headers=behind("unknown")), "bad-request")
    for number in range(ATTEMPTS):
        check(await api("GET", "status", headers=behind("198.51.100.9", f"wrong{number}")), "unauthorized")
    check(await api("GET", "status", headers=behind("198.51.100.9", "wrong")), "too-many-attempts")
    check(await api("GET", "status", headers=behind("198.51.100.10", "wrong")), "unauthorized")
    assert (await api("GET", "status", headers=behind("198.51.100.10"))).status == 200

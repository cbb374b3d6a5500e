"""Responses over HTTPS: how long, and for whom."""

import dns.message
import dns.rrset
import pytest

from dnsvip.dns.doh.request import UNKNOWN_TOKEN
from dnsvip.dns.doh.response import answered, freshness, refused


def _answer(*records: str, authority: tuple[str, ...] = (), rcode: int = 0) -> bytes:
    message = dns.message.make_response(dns.message.make_query("www.example.test.", "AAAA", id=0))
    message.set_rcode(rcode)
    for section, lines in ((message.answer, records), (message.authority, authority)):
        for line in lines:
            name, ttl, kind, data = line.split(" ", 3)
            section.append(dns.rrset.from_text(name, int(ttl), "IN", kind, data))
    return message.to_wire()


SOA = "example.test. 300 SOA ns.example.test. admin.example.test. 1 2 3 4 60"


@pytest.mark.parametrize(
    ("wire", "seconds"),
    [
        (_answer("www.example.test. 60 AAAA 2001:db8::1"), 60),
        (_answer("www.example.test. 600 CNAME a.example.org.", "a.example.org. 30 AAAA 2001:db8::1"), 30),
        (_answer("www.example.test. 0 AAAA 2001:db8::1", authority=(SOA,)), 0),
        (_answer(authority=("example.test. 20 NS ns.example.test.", SOA)), 300),
        (_answer(authority=(SOA,), rcode=3), 300),
        (_answer(authority=("example.test. 20 NS ns.example.org.",)), None),
        (_answer(rcode=5), None),
        (_answer("www.example.test. 60 AAAA 2001:db8::1", rcode=2), None),
    ],
)
def test_freshness(wire: bytes, seconds: int | None) -> None:
    """The least TTL of the answers, or of the SOA of a negative one; nothing for the rest."""
    assert freshness(wire) == seconds


def test_cache_control() -> None:
    """Only what is made for nobody is public, and what has no lifetime is not stored."""
    wire = _answer("www.example.test. 60 AAAA 2001:db8::1")
    assert dict(answered(wire, private=False).fields)[b"cache-control"] == b"max-age=60"
    assert dict(answered(wire, private=True).fields)[b"cache-control"] == b"private, max-age=60"
    assert dict(answered(_answer(rcode=5), private=True).fields)[b"cache-control"] == b"no-store"


def test_problems_are_told() -> None:
    """A problem is a line of text, with the fields that its status needs, for no cache."""
    response = refused(UNKNOWN_TOKEN)
    assert response.status == 401
    assert dict(response.fields)[b"www-authenticate"] == b'Bearer realm="dns"'
    assert dict(response.fields)[b"cache-control"] == b"no-store"
    assert response.body == b"this token is unknown\n"

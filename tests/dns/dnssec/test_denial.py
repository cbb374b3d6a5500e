"""Compact denial of existence: names right behind others, and what NSEC says of a name."""

from __future__ import annotations

import random

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest

from dnsvip.dns.dnssec.denial import bitmap, compact, successor
from dnsvip.dns.protocol.names import Labels, name_length

APEX = (b"example", b"test")
LONG = (b"b" * 63, b"c" * 63, b"d" * 48, *APEX)
"""With a label of 63 octets in front it has the 255 octets that a name may have."""


@pytest.mark.parametrize(
    ("name", "following"),
    [
        ((b"www", *APEX), (b"\0", b"www", *APEX)),
        (APEX, (b"\0", *APEX)),
        ((b"a" * 63, *LONG), (b"a" * 62 + b"b", *LONG)),
        ((b"a" * 62, *LONG), (b"a" * 62 + b"\0", *LONG)),
        ((b"a" * 62 + b"@", *LONG), (b"a" * 62 + b"[", *LONG)),
        ((b"\xff" * 63, *LONG), (b"b" * 62 + b"c", *LONG[1:])),
        ((b"\xff" * 63, b"\xff" * 63, b"\xff" * 63, b"\xff" * 48, *APEX), (b"\xff" * 48 + b"\0", *APEX)),
    ],
)
def test_the_name_behind(name: Labels, following: Labels) -> None:
    """It has a zero octet in front, or where that is too long as little as possible more than the name."""
    assert successor(name, APEX) == following


def test_it_is_behind_and_legal() -> None:
    """The name behind any name of a zone is a legal one, and comes after it in canonical order, or is the apex."""
    pick = random.Random(3)
    for _ in range(3000):
        name: Labels = APEX
        while pick.random() < 0.9 and (room := 255 - name_length(name) - 1) > 0:
            octet = pick.choice((b"\xff", b"@", b"z", b"a", b"\0"))
            name = (octet * min(room, pick.choice((1, 62, 63))), *name)
        following = successor(name, APEX)
        assert name_length(following) <= 255
        assert following == APEX or dns.name.Name((*following, b"")) > dns.name.Name((*name, b""))


def test_types() -> None:
    """The bitmap has exactly the types, in windows of 256."""
    types = {1, 2, 6, 28, 46, 47, 48, 128, 255, 256, 257, 65280}
    wire = b"\0" + bitmap(types)
    text = dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.NSEC, wire, 0, len(wire)).to_text()
    assert {int(dns.rdatatype.from_text(word)) for word in text.split()[1:]} == types
    assert bitmap(()) == b""


def test_compact() -> None:
    """The record is at the name as it was asked for; the name behind is in lower case, so one signature serves all."""
    record = compact((b"WwW", *APEX), APEX, {46, 47, 128}, 60)
    assert record.owner == (b"WwW", *APEX)
    wire = b"".join(piece for piece in record.rdatas[0] if isinstance(piece, bytes))
    text = dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.NSEC, wire, 0, len(wire)).to_text()
    assert text.split()[:3] == ["\\000.www.example.test.", "RRSIG", "NSEC"]

"""Zone files: what is refused and how it is said, what is compiled from the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsvip.dns.protocol.message import Type
from dnsvip.dns.zones.zone import check_zone, compile_zone
from dnsvip.errors import InvalidSite, ZoneError
from dnsvip.site import Zone
from tests.dns.world import ZONES

HEAD = "$TTL 300\n@ SOA ns hostmaster 1 3600 900 1209600 120\n@ NS ns\nns A 192.0.2.1\n"
BAD = {
    "": ["has no SOA record at example.test.; a zone begins with one", "has no NS record at example.test."],
    "@ 60 SOA ns h 1 2 3 4 5\n": ["has no NS record at example.test."],
    HEAD + "@ SOA ns h 2 2 3 4 5\n": ["has 2 SOA records"],
    HEAD + "sub SOA ns h 1 2 3 4 5\n": ["line 5: SOA at sub.example.test.: only example.test. can have one"],
    HEAD + "\n\nother.test. A 192.0.2.9\n": ["line 7: other.test. is outside the zone example.test."],
    HEAD + "x CNAME y\nx A 192.0.2.9\n": ["line 6: x.example.test. has a CNAME beside other data (A)"],
    HEAD + "x CNAME y\nx CNAME z\n": ["line 6: x.example.test. has 2 CNAME records"],
    HEAD + "x DNAME y\nx DNAME z\n": ["line 6: x.example.test. has 2 DNAME records"],
    HEAD + "x DNAME y\na.x A 192.0.2.9\n": ["line 6: a.x.example.test. lies below the DNAME of x.example.test."],
    HEAD + "x DNAME y\nx NS ns\n": ["has a DNAME beside NS"],
    HEAD + "*.x NS ns\n": ["NS and DNAME records of a wildcard mean nothing"],
    HEAD + "sub NS ns.sub\n": ["line 5: ns.sub.example.test. lies below this delegation and needs an A or AAAA record"],
    HEAD + "x A 192.0.2.300\n": ["line 5: 'x A 192.0.2.300' cannot be read"],
    HEAD + "x BLAH y\n": ["line 5: 'x BLAH y' cannot be read: unknown rdatatype 'BLAH'"],
    HEAD + "x (\nA 192.0.2.1\n": ["line 5: 'x (' cannot be read: unbalanced parentheses"],
    HEAD + "$INCLUDE /etc/hostname\n": ["line 5: '$INCLUDE /etc/hostname' cannot be read: $INCLUDE is not a directive"],
    HEAD + "x CH A 192.0.2.1\n": ["line 5: 'x CH A 192.0.2.1' cannot be read: is of another class than IN"],
    "x A 192.0.2.1\n": ["line 1: 'x A 192.0.2.1' cannot be read: has no TTL; write $TTL before it"],
}


@pytest.mark.parametrize("text", BAD, ids=[problems[0][:50] for problems in BAD.values()])
def test_bad_zones(text: str) -> None:
    """Each fault is named, with the zone and the line, and the zone cannot be compiled."""
    zone = Zone("example.test", text)
    problems = check_zone(zone)
    assert {problem.where for problem in problems} == {"zone.example.test"}
    for expected in BAD[text]:
        assert any(expected in problem.message for problem in problems), problems
    with pytest.raises(ZoneError) as caught:
        compile_zone(zone)
    assert caught.value.problems == problems
    assert isinstance(caught.value, InvalidSite)


def test_every_fault_is_found() -> None:
    """All faults of a zone are reported at once."""
    text = HEAD + "a CNAME b\na TXT c\nother.test. A 192.0.2.1\nsub NS ns.sub\n"
    assert len(check_zone(Zone("example.test", text))) == 3


@pytest.mark.parametrize("path", sorted(ZONES.glob("*.zone")), ids=lambda path: path.stem)
def test_good_zones(path: Path) -> None:
    """The tests' own zones have no problem."""
    assert check_zone(Zone(path.stem, path.read_text())) == []


@given(st.text(alphabet='ax. \n\t()"\\;$@*019ANSMTORIGL/#', max_size=60))
def test_any_text(text: str) -> None:
    """Whatever stands in a zone file, the result is a zone or problems."""
    zone = Zone("example.test", HEAD + text)
    if not check_zone(zone):
        assert compile_zone(zone).apex == (b"example", b"test")


def test_compiled() -> None:
    """Names in lower case, empty non-terminals, one TTL per set (the least), each record once, the negative TTL."""
    text = HEAD + "A.b.C 200 A 192.0.2.9\nA.b.c 100 A 192.0.2.8\na.B.c 100 A 192.0.2.8\n"
    zone = compile_zone(Zone("example.test", text))
    apex = (b"example", b"test")
    assert zone.nodes.keys() == {apex, (b"ns", *apex), (b"a", b"b", b"c", *apex), (b"b", b"c", *apex), (b"c", *apex)}
    assert zone.nodes[(b"b", b"c", *apex)] == {}
    rrset = zone.nodes[(b"a", b"b", b"c", *apex)][Type.A]
    assert rrset.ttl == 100
    assert rrset.rdatas == ((bytes([192, 0, 2, 9]),), (bytes([192, 0, 2, 8]),))
    assert zone.negative.ttl == 120


def test_root_zone() -> None:
    """The root can be a zone like any other."""
    text = "$TTL 60\n. SOA ns. h. 1 2 3 4 5\n. NS ns.\nns. A 192.0.2.1\ntest. NS ns.test.\nns.test. A 192.0.2.2\n"
    zone = compile_zone(Zone(".", text))
    assert zone.apex == ()
    assert zone.nodes.keys() == {(), (b"ns",), (b"test",), (b"ns", b"test")}

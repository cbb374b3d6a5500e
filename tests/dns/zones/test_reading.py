"""Zone files as BIND reads them: octets, TTLs, directives, types, and what is refused with its line."""

from __future__ import annotations

import pytest

from dnsvip.dns.protocol.message import Type
from dnsvip.dns.protocol.names import Labels
from dnsvip.dns.zones import zonefile
from dnsvip.dns.zones.zone import CompiledZone, check_zone, compile_zone
from dnsvip.errors import ZoneError
from dnsvip.site import Zone
from dnsvip.site.io.files import zone_text

APEX = (b"example", b"test")
SOA = "@ 3600 SOA ns hostmaster 1 3600 900 1209600 300\n"
HEAD = f"$TTL 300\n{SOA}@ NS ns\nns A 192.0.2.1\n"


def compiled(text: str) -> CompiledZone:
    """The zone with these lines."""
    return compile_zone(Zone("example.test", text))


def below(*labels: bytes) -> Labels:
    """A name in the zone."""
    return (*labels, *APEX)


def refused(text: str) -> list[str]:
    """What is wrong with a zone."""
    return [problem.message for problem in check_zone(Zone("example.test", text))]


def test_the_same_soa_again() -> None:
    """A zone file that ends with its SOA, as transfers do, is one zone; two different ones are refused."""
    assert compiled(HEAD + SOA).nodes.keys() == compiled(HEAD).nodes.keys()
    assert "has 2 SOA records (lines 2, 5); there must be one" in refused(HEAD + SOA.replace(" 1 ", " 2 "))


def test_octets_beyond_ascii() -> None:
    """Names and strings keep the octets that the file has, whether written as they are or escaped."""
    umlaut = "ü".encode()
    zone = compiled(HEAD + "Drucker\\032im\\032Büro._ipp._tcp SRV 0 0 631 ns1\n" + 'ü TXT "ü" \\252 ü\\ü\nz CNAME ü\n')
    name = below(b"drucker im b" + umlaut + b"ro", b"_ipp", b"_tcp")
    assert zone.nodes[name][Type.SRV].owner[0] == b"Drucker im B" + umlaut + b"ro"
    assert zone.nodes[below(umlaut)][Type.TXT].rdatas == ((b"\x02" + umlaut + b"\x01\xfc" + b"\x04" + umlaut * 2,),)
    assert zone.nodes[below(b"z")][Type.CNAME].targets == (below(umlaut),)


def test_octets_that_are_no_text() -> None:
    """A remark in Latin-1 does no harm; elsewhere the octet is kept."""
    zone = compiled(zone_text(HEAD.encode() + b'; \xfcber\nm TXT "\xfc" ; \xfc\n'))
    assert zone.nodes[below(b"m")][Type.TXT].rdatas == ((b"\x01\xfc",),)


def test_byte_order_mark() -> None:
    """A byte order mark is refused plainly."""
    assert refused("\ufeff" + HEAD) == ["line 1: begins with a byte order mark (U+FEFF); save the zone file without it"]


def test_unknown_directive() -> None:
    """A directive that is not taken is refused with its line, and those taken are named."""
    expected = (
        "line 5: '$UNICODE 2008' cannot be read: $UNICODE is not a directive taken here; those are $ORIGIN, $TTL,"
    )
    assert refused(HEAD + "$UNICODE 2008\n")[0].startswith(expected)


def test_generate() -> None:
    """$GENERATE takes data in quotes, makes every type, and its counter has an offset, a width and a base."""
    zone = compiled(
        HEAD + '$GENERATE 1-3 host-$ MX "0 ."\n$GENERATE 15-16 h${1,4,x} A 192.0.2.$\n$GENERATE 1-1 $$ TXT a\n'
    )
    names = [below(b"host-1"), below(b"host-2"), below(b"host-3"), below(b"h0010"), below(b"h0011"), below(b"$")]
    assert [name for name in zone.nodes if name not in (APEX, below(b"ns"))] == names
    assert zone.nodes[names[0]][Type.MX].rdatas == ((b"\0\0", ()),)


@pytest.mark.parametrize("text", ["$GENERATE 1-4000000 h$ A 192.0.2.1\n", "$GENERATE 1-40000 h$ A 192.0.2.1\n" * 2])
def test_generate_is_bounded(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many records are refused before the line that asks for them makes one."""
    made: list[int] = []
    real = zonefile.substituted
    monkeypatch.setattr(zonefile, "substituted", lambda *args: made.append(1) or real(*args))
    problems = refused(HEAD + text)
    assert len(problems) == 1
    assert "65536 is the most in a zone" in problems[0]
    assert len(made) in (0, 80_000)


def test_generated_characters_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading stops where a short $GENERATE line makes too much, however few its records are."""
    monkeypatch.setattr(zonefile, "MOST_GENERATED_CHARACTERS", 3000)
    made: list[int] = []
    real = zonefile.substituted
    monkeypatch.setattr(zonefile, "substituted", lambda *args: made.append(1) or real(*args))
    (problem,) = refused(HEAD + f'$GENERATE 1-60000 h$ TXT "{"${0,127,d} " * 9}"\n')
    assert problem == "line 5: $GENERATE lines make more than 3000 characters, the most in a zone"
    assert len(made) == 2 * 3


def test_records_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A zone has a greatest number of records, and reading stops there."""
    monkeypatch.setattr(zonefile, "MOST_RECORDS", 5)
    assert refused(HEAD + "a A 192.0.2.1\n" * 9) == ["line 7: is one of more than 5 records, the most in a zone"]


def test_problems_are_bounded() -> None:
    """A text that is no zone at all gets a list that can be read."""
    problems = refused("x\n" * 10_000)
    assert len(problems) == zonefile.MOST_PROBLEMS + 1
    assert problems[-1] == f"and {10_000 - zonefile.MOST_PROBLEMS} more problems"


def test_every_unreadable_line() -> None:
    """Reading goes on after a line that cannot be read, and conflicts among the others are reported too."""
    problems = refused(HEAD + "a A 1\nb BLAH x\nc (\n A 192.0.2.1 ) )\nd CNAME e\nd TXT f\n$TTL x\ng A 2\n")
    assert [problem.partition(":")[0] for problem in problems] == [f"line {n}" for n in (5, 6, 7, 11, 12, 10)]
    assert all("owner" not in problem for problem in problems)


@pytest.mark.parametrize(
    ("text", "ttl"),
    [
        ("@ SOA ns h 1 2 3 4 300\n@ NS ns\nb 60 A 192.0.2.1\nc A 192.0.2.2\n", 300),
        (SOA + "@ 90 NS ns\nb 60 A 192.0.2.1\nc A 192.0.2.2\n", 60),
        ("$TTL 1h30m\n" + SOA + "@ NS ns\nb 60 A 192.0.2.1\nc A 192.0.2.2\n", 5400),
        (HEAD + "c 4294967295 A 192.0.2.2\n", 0),
        (HEAD + "$TTL 2147483648\nc A 192.0.2.2\n", 0),
        (HEAD + "c IN 1w2d3h4m5s A 192.0.2.2\n", 788_645),
    ],
)
def test_ttl(text: str, ttl: int) -> None:
    """A TTL that is not given is that of $TTL, else of an SOA without one its minimum, else of the record before; one
    with its highest bit set counts as 0."""
    assert compiled(text).nodes[below(b"c")][Type.A].ttl == ttl


def test_equal_records() -> None:
    """Records that differ in the case of names in their data are one, also where there can be only one."""
    zone = compiled(
        HEAD + "a PTR x.example.\na PTR X.example.\nc CNAME d\nc CNAME D\nm MX 1 y\nm MX 1 Y\nt TXT a\nt TXT A\n"
    )
    assert zone.nodes[below(b"a")][Type.PTR].rdatas == (((b"x", b"example"),),)
    assert len(zone.nodes[below(b"c")][Type.CNAME].rdatas) == len(zone.nodes[below(b"m")][Type.MX].rdatas) == 1
    assert len(zone.nodes[below(b"t")][Type.TXT].rdatas) == 2


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        ("MB x.example.", b"\x01x\x07example\0"),
        ("MG x.example.", b"\x01x\x07example\0"),
        ("MR x.example.", b"\x01x\x07example\0"),
        ("MINFO x. y.", b"\x01x\0\x01y\0"),
        ("NXT x. A MX", b"\x01x\0\x40\x01"),
        ("NID 10 14:4fff:ff20:ee64", b"\0\x0a\x00\x14\x4f\xff\xff\x20\xee\x64"),
        ("L64 10 1:2:3:4", b"\0\x0a\0\1\0\2\0\3\0\4"),
        ("ZONEMD 1 0 0 " + "ab" * 48, b"\0\0\0\1\0\0" + b"\xab" * 48),
        ("LOC 0 N 0 E 42849672.95m", b"\0\x12\x16\x13\x80\0\0\0\x80\0\0\0\xff\xff\xff\xff"),
        ("LOC 0 N 0 E 0.29m", b"\0\x12\x16\x13\x80\0\0\0\x80\0\0\0\0\x98\x96\x9d"),
    ],
)
def test_rare_types(text: str, wire: bytes) -> None:
    """Types that dnspython lacks or reads otherwise are read as BIND reads them."""
    (rrset,) = compiled(HEAD + f"x {text}\n").nodes[below(b"x")].values()
    assert rrset.rdatas == ((wire,),)


@pytest.mark.parametrize("text", ["TYPE0 \\# 0", "TYPE41 \\# 0", "OPT \\# 0", "TSIG \\# 0", "TYPE128 \\# 0", "AXFR"])
def test_pseudo_types(text: str) -> None:
    """A type that is none of data is refused with its line."""
    (problem,) = refused(HEAD + f"m {text}\n")
    assert problem.startswith("line 5: ")
    assert "is a pseudo-record type, which no zone has" in problem


@pytest.mark.parametrize("text", ["MD ns", "MF ns"])
def test_obsolete_types(text: str) -> None:
    """Types that BIND refuses as obsolete are refused."""
    assert "is obsolete; use MX" in refused(HEAD + f"m {text}\n")[0]


_LONG = '"' + "a" * 255 + '" '
TOO_LONG = {
    "TXT": _LONG * 256,
    "TXT, almost": _LONG * 255,
    "URI": '1 1 "' + "a" * 65_532 + '"',
    "CAA": '0 issue "' + "a" * 65_530 + '"',
    "OPENPGPKEY": "AAAA" * 22_000,
    "TYPE731": f"\\# 65535 {'ab' * 65_535}",
}


@pytest.mark.parametrize("name", TOO_LONG)
def test_records_that_fit_no_message(name: str) -> None:
    """A record that does not fit a message with its owner and a TSIG is refused with its line."""
    (problem,) = refused(HEAD + f"m {name.partition(',')[0]} {TOO_LONG[name]}\n")
    assert problem.startswith("line 5: ")
    assert len(problem) < 300


def test_record_sets_that_fit_no_message() -> None:
    """So is a record set, and a delegation with its glue."""
    many = "".join(f"m TXT {n} {_LONG}\n" for n in range(300))
    assert refused(HEAD + many) == [
        "line 5: m.example.test.: its 300 TXT records have 81490 bytes together; 63487 fit a message"
    ]
    cut = "".join(f"sub NS {'n' * 50}{n}.sub\n{'n' * 50}{n}.sub A 192.0.2.1\n" for n in range(500))
    assert "sub.example.test.: delegation and glue have" in refused(HEAD + cut)[0]


def test_signed_zone() -> None:
    """Records of a signed zone without its signatures are refused, one line for each type."""
    text = "a NSEC b A\n" * 1 + "b NSEC a A\n@ DNSKEY 256 3 8 AAAA\n@ NSEC3PARAM 1 0 0 -\n"
    problems = refused(HEAD + text)
    assert [problem[:30].split(" records")[0] for problem in problems] == [
        "line 5: NSEC",
        "line 7: DNSKEY",
        "line 8: NSEC3PARAM",
    ]
    assert all("the zone is not signed" in problem for problem in problems)


def test_ds_at_the_apex() -> None:
    """A DS belongs into the parent zone."""
    assert "DS record at the apex" in refused(HEAD + f"@ DS 1 8 2 {'ab' * 32}\n")[0]


def test_refusals_are_zone_errors() -> None:
    """Whatever is refused here is an InvalidSite, as every fault of a site."""
    with pytest.raises(ZoneError):
        compiled("$UNICODE 2008\n")


def test_deep_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names between a record and the apex exist too, and take memory: their labels are bounded, however short the text.
    Names that share them cost nothing more."""
    monkeypatch.setattr("dnsvip.dns.zones.rules.MOST_LABELS", 20_000)
    deep = "".join(f"{n:x}.{'a.' * 60}b A 192.0.2.1\n" for n in range(100))
    assert refused(HEAD + deep) == []
    apart = "".join(f"{'a.' * 60}{n:x} A 192.0.2.1\n" for n in range(100))
    assert refused(HEAD + apart) == [
        "line 14: up to here its names, and those above them, have more than 20,000 labels together; delegate a part of"
        " the zone"
    ]

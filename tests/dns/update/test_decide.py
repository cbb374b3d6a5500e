"""Updates decided: RFC 2136 section 3 as a table, what a key may change, and what nobody may."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest
from dns.name import from_text

from dnsvip.dns.protocol.message import Rcode
from dnsvip.dns.update.decide import Decided, decide
from dnsvip.dns.update.permission import permission_of
from dnsvip.dns.zones.sets import Entry, RecordSet, ZoneSets, read_sets
from dnsvip.site import Dnssec, Service, UpdateRule, Zone

TEXT = """\
$TTL 300
@ SOA ns1 host 10 7200 3600 1209600 300
@ NS ns1
@ NS ns2
@ MX 10 mail
ns1 A 192.0.2.1
ns2 A 192.0.2.2
mail A 192.0.2.3
mail A 192.0.2.4
mail TXT "text"
alias CNAME mail
text TXT "Mixed Case" "two"
www HTTPS 1 . alpn=h2
"""
ZONE = Zone("example.test", TEXT, update=(UpdateRule("key"),))
SERVICES = (Service("www.example.test", "web"), Service("both.example.test", "web", "legacy"))
IN, NONE, ANY = "IN", "NONE", "ANY"
Row = tuple[str, str, str, str]
"""Name (relative; absolute with a dot at its end), class, type, data; an added record has TTL 60."""


def message(prerequisites: Sequence[Row], updates: Sequence[Row], zone: str = "example.test.") -> bytes:
    """An UPDATE with these sections."""
    counts = [1, len(prerequisites), len(updates), 0]
    head = bytes((0, 1, 0x28, 0)) + b"".join(number.to_bytes(2, "big") for number in counts)
    question = wire_name(zone) + bytes((0, 6, 0, 1))
    return (
        head + question + b"".join([*(record(row, 0) for row in prerequisites), *(record(row, 60) for row in updates)])
    )


def record(row: Row, ttl: int) -> bytes:
    """A record; data that begins with `#` is hexadecimal, `+` before a class gives a TTL where none belongs."""
    name, rclass, rtype, text = row
    ttl = 7 if rclass[0] == "+" else ttl if rclass == IN else 0
    kind, number = dns.rdatatype.from_text(rtype), dns.rdataclass.from_text(rclass.lstrip("+"))
    data = b"" if not text else bytes.fromhex(text[1:]) if text[0] == "#" else rdata(rtype, text)
    fixed = kind.to_bytes(2, "big") + number.to_bytes(2, "big") + ttl.to_bytes(4, "big")
    return wire_name(name) + fixed + len(data).to_bytes(2, "big") + data


def rdata(rtype: str, text: str) -> bytes:
    """Data on the wire."""
    return dns.rdata.from_text("IN", rtype, text, from_text("example.test."), relativize=False).to_wire() or b""


def wire_name(name: str) -> bytes:
    """A name on the wire."""
    return from_text(name, from_text("example.test.")).to_wire() or b""


def outcome(prerequisites: Sequence[Row], updates: Sequence[Row], zone: Zone = ZONE, key: str = "key") -> Decided:
    """What becomes of an update of the zone."""
    permission = permission_of(zone, key, SERVICES)
    assert permission is not None
    return decide(read_sets(zone), message(prerequisites, updates), permission)


def lines(sets: ZoneSets | None) -> set[str]:
    """The records of a zone, one a line."""
    assert sets is not None
    return {
        f"{dns.name.Name(each.owner[:-2]).to_text()} {entry.ttl} {each.type_name} {entry.content}"
        for each in sets.sets.values()
        for entry in each.served
    }


X = [("x", IN, "A", "192.0.2.9")]
"""An update that is right, to see what becomes of the prerequisites."""

PREREQUISITES: dict[str, tuple[list[Row], Rcode]] = {
    "a name in use": ([("mail", ANY, "ANY", "")], Rcode.NOERROR),
    "a name in use, in other case": ([("MAIL", ANY, "ANY", "")], Rcode.NOERROR),
    "a name not in use": ([("gone", ANY, "ANY", "")], Rcode.NXDOMAIN),
    "a set": ([("mail", ANY, "TXT", "")], Rcode.NOERROR),
    "a set that is not": ([("mail", ANY, "AAAA", "")], Rcode.NXRRSET),
    "no name": ([("gone", NONE, "ANY", "")], Rcode.NOERROR),
    "no name, but it is": ([("mail", NONE, "ANY", "")], Rcode.YXDOMAIN),
    "no set": ([("mail", NONE, "AAAA", "")], Rcode.NOERROR),
    "no set, but it is": ([("mail", NONE, "A", "")], Rcode.YXRRSET),
    "a set by value, in another order": (
        [("mail", IN, "A", "192.0.2.4"), ("mail", IN, "A", "192.0.2.3")],
        Rcode.NOERROR,
    ),
    "a part of a set by value": ([("mail", IN, "A", "192.0.2.4")], Rcode.NXRRSET),
    "more than a set by value": ([("text", IN, "TXT", '"Mixed Case" "two"'), ("text", IN, "TXT", "x")], Rcode.NXRRSET),
    "names in values have no case": ([("alias", IN, "CNAME", "MAIL")], Rcode.NOERROR),
    "strings in values have": ([("text", IN, "TXT", '"mixed case" "two"')], Rcode.NXRRSET),
    "a name that only a service has": ([("both", ANY, "ANY", "")], Rcode.NOERROR),
    "an address that is made": ([("both", NONE, "A", "")], Rcode.YXRRSET),
    "values come last": ([("mail", IN, "A", "192.0.2.4"), ("gone", ANY, "ANY", "")], Rcode.NXDOMAIN),
    "outside the zone": ([("mail.other.test.", ANY, "ANY", "")], Rcode.NOTZONE),
    "a TTL": ([("mail", "+ANY", "ANY", "")], Rcode.FORMERR),
    "a TTL of a value": ([("mail", "+IN", "A", "192.0.2.4")], Rcode.FORMERR),
    "data of a name": ([("mail", ANY, "ANY", "#00")], Rcode.FORMERR),
    "data of a set": ([("mail", ANY, "A", "192.0.2.4")], Rcode.FORMERR),
    "data of no set": ([("mail", NONE, "A", "192.0.2.4")], Rcode.FORMERR),
    "no data of a value": ([("mail", IN, "A", "")], Rcode.FORMERR),
    "a value of a meta-type": ([("mail", IN, "ANY", "#00")], Rcode.FORMERR),
    "a meta-type": ([("mail", ANY, "AXFR", "")], Rcode.FORMERR),
    "another class": ([("mail", "CH", "A", "")], Rcode.FORMERR),
    "data that is none": ([("mail", IN, "A", "#0102")], Rcode.FORMERR),
}


@pytest.mark.parametrize("case", PREREQUISITES)
def test_prerequisites(case: str) -> None:
    """Section 3.2: each kind of prerequisite holds, or the update is not made and the rcode says which kind."""
    prerequisites, rcode = PREREQUISITES[case]
    decided = outcome(prerequisites, X)
    assert decided.rcode == rcode
    assert (decided.zone is not None) is (rcode == Rcode.NOERROR)


SOA11 = "ns1 host 11 7200 3600 1209600 300"
UPDATES: dict[str, tuple[list[Row], set[str], set[str]]] = {
    "add a set": (X, set(), {"x 60 A 192.0.2.9"}),
    "add to a set, whose TTL is that of the last": (
        [("mail", IN, "A", "192.0.2.9")],
        {"mail 300 A 192.0.2.3", "mail 300 A 192.0.2.4"},
        {"mail 60 A 192.0.2.3", "mail 60 A 192.0.2.4", "mail 60 A 192.0.2.9"},
    ),
    "add what there is": (
        [("text", IN, "TXT", '"Mixed Case" "two"')],
        {'text 300 TXT "Mixed Case" "two"'},
        {'text 60 TXT "Mixed Case" "two"'},
    ),
    "add a CNAME in place of one": (
        [("alias", IN, "CNAME", "ns1")],
        {"alias 300 CNAME mail.example.test."},
        {"alias 60 CNAME ns1.example.test."},
    ),
    "add a CNAME beside other data": ([("mail", IN, "CNAME", "ns1")], set(), set()),
    "add other data beside a CNAME": ([("alias", IN, "A", "192.0.2.9")], set(), set()),
    "add an SOA that is newer": (
        [("@", IN, "SOA", SOA11)],
        {"@ 300 SOA ns1.example.test. host.example.test. 10 7200 3600 1209600 300"},
        {"@ 60 SOA ns1.example.test. host.example.test. 11 7200 3600 1209600 300"},
    ),
    "add an SOA that is not": ([("@", IN, "SOA", SOA11.replace("11", "10"))], set(), set()),
    "add an SOA that is older, by RFC 1982": ([("@", IN, "SOA", SOA11.replace("11", "2147483658"))], set(), set()),
    "add an SOA elsewhere": ([("x", IN, "SOA", SOA11)], set(), set()),
    "delete a set": ([("mail", ANY, "A", "")], {"mail 300 A 192.0.2.3", "mail 300 A 192.0.2.4"}, set()),
    "delete a set that is not": ([("mail", ANY, "AAAA", "")], set(), set()),
    "delete a name": (
        [("mail", ANY, "ANY", "")],
        {"mail 300 A 192.0.2.3", "mail 300 A 192.0.2.4", 'mail 300 TXT "text"'},
        set(),
    ),
    "delete the apex but SOA and NS": ([("@", ANY, "ANY", "")], {"@ 300 MX 10 mail.example.test."}, set()),
    "delete the SOA": ([("@", ANY, "SOA", "")], set(), set()),
    "delete the SOA by value": ([("@", NONE, "SOA", SOA11.replace("11", "10"))], set(), set()),
    "delete the NS of the apex": ([("@", ANY, "NS", "")], set(), set()),
    "delete an NS of the apex": ([("@", NONE, "NS", "ns1")], {"@ 300 NS ns1.example.test."}, set()),
    "delete all NS of the apex one by one": (
        [("@", NONE, "NS", "NS2"), ("@", NONE, "NS", "ns1")],
        {"@ 300 NS ns2.example.test."},
        set(),
    ),
    "delete a record": ([("mail", NONE, "A", "192.0.2.3")], {"mail 300 A 192.0.2.3"}, set()),
    "delete a record that is not": ([("mail", NONE, "A", "192.0.2.9")], set(), set()),
    "in their order": (
        [("alias", ANY, "CNAME", ""), ("alias", IN, "A", "192.0.2.9"), ("alias", IN, "CNAME", "ns1")],
        {"alias 300 CNAME mail.example.test."},
        {"alias 60 A 192.0.2.9"},
    ),
    "a type that nobody knows": ([("x", IN, "TYPE65280", "\\# 2 abcd")], set(), {"x 60 TYPE65280 \\# 2 abcd"}),
    "beside the address of a service": (
        [("www", IN, "A", "192.0.2.9"), ("www", IN, "TXT", "x")],
        set(),
        {"www 60 A 192.0.2.9", 'www 60 TXT "x"'},
    ),
}


@pytest.mark.parametrize("case", UPDATES)
def test_updates(case: str) -> None:
    """Section 3.4.2: what is added and deleted, and what stays; the serial rises by one where anything changes."""
    updates, gone, new = UPDATES[case]
    decided = outcome([], updates)
    assert decided.rcode == Rcode.NOERROR
    before, after = lines(read_sets(ZONE)), lines(decided.zone)
    assert {line for line in before - after if " SOA " not in line or any(row[2] == "SOA" for row in updates)} == gone
    assert {line for line in after - before if " SOA " not in line or any(row[2] == "SOA" for row in updates)} == new
    assert any(" host.example.test. 11 " in line for line in after) is bool(gone or new)


WRONG: dict[str, tuple[list[Row], Rcode]] = {
    "outside the zone": ([("x.other.test.", IN, "A", "192.0.2.9")], Rcode.NOTZONE),
    "a meta-type": ([("x", IN, "ANY", "#00")], Rcode.FORMERR),
    "a meta-type to delete": ([("x", NONE, "ANY", "#00")], Rcode.FORMERR),
    "another meta-type to delete": ([("x", ANY, "AXFR", "")], Rcode.FORMERR),
    "a TTL of a set to delete": ([("mail", "+ANY", "A", "")], Rcode.FORMERR),
    "a TTL of a record to delete": ([("mail", "+NONE", "A", "192.0.2.3")], Rcode.FORMERR),
    "data of a set to delete": ([("mail", ANY, "A", "192.0.2.3")], Rcode.FORMERR),
    "no data to add": ([("x", IN, "A", "")], Rcode.FORMERR),
    "data that is none": ([("x", IN, "MX", "#00")], Rcode.FORMERR),
    "another class": ([("x", "CH", "TXT", "x")], Rcode.FORMERR),
    "an address of a service": ([("WWW", IN, "AAAA", "2001:db8::9")], Rcode.REFUSED),
    "an address of a service to delete": ([("both", ANY, "A", "")], Rcode.REFUSED),
    "a service": ([("www", ANY, "ANY", "")], Rcode.REFUSED),
    "a signature": ([("x", IN, "NSEC", "x A")], Rcode.REFUSED),
    "what no zone can have": ([("sub", IN, "NS", "ns.sub")], Rcode.REFUSED),
    "below a DNAME": ([("mail", IN, "DNAME", "x."), ("a.mail", IN, "A", "192.0.2.9")], Rcode.REFUSED),
}


@pytest.mark.parametrize("case", WRONG)
def test_nothing_is_made_of_what_is_wrong(case: str) -> None:
    """Sections 3.4.1 and 3.3: one record that is wrong, and nothing is changed."""
    updates, rcode = WRONG[case]
    for rows in ([*X, *updates], [*updates, *X]):
        decided = outcome([], rows)
        assert (decided.rcode, decided.zone) == (rcode, None)
        assert decided.why


RULES = (
    UpdateRule("certbot", ("_acme-challenge.*",), ("TXT",)),
    UpdateRule("dyn", ("*.dyn.example.test",), ("A", "AAAA")),
    UpdateRule("dyn", ("mail.example.test",), ()),
)
GRANTS: dict[str, tuple[str, list[Row], Rcode]] = {
    "a challenge": ("certbot", [("_acme-challenge.www", IN, "TXT", "x")], Rcode.NOERROR),
    "a challenge of the apex, in other case": ("certbot", [("_ACME-challenge", IN, "TXT", "x")], Rcode.NOERROR),
    "another type there": ("certbot", [("_acme-challenge.www", IN, "CNAME", "x")], Rcode.REFUSED),
    "another name": ("certbot", [("www", IN, "TXT", "x")], Rcode.REFUSED),
    "a name with a dot in its label": ("certbot", [("_acme-challenge\\.www", IN, "TXT", "x")], Rcode.REFUSED),
    "all of a challenge": ("certbot", [("_acme-challenge.www", ANY, "ANY", "")], Rcode.NOERROR),
    "all of another name": ("certbot", [("mail", ANY, "ANY", "")], Rcode.REFUSED),
    "below a name": ("dyn", [("a.b.dyn", IN, "AAAA", "2001:db8::1")], Rcode.NOERROR),
    "the name itself": ("dyn", [("dyn", IN, "AAAA", "2001:db8::1")], Rcode.REFUSED),
    "a name that ends alike": ("dyn", [("a.xdyn", IN, "AAAA", "2001:db8::1")], Rcode.REFUSED),
    "a label that ends alike": ("dyn", [("a\\.dyn", IN, "AAAA", "2001:db8::1")], Rcode.REFUSED),
    "by another rule": ("dyn", [("mail", ANY, "ANY", "")], Rcode.NOERROR),
    "one of two": ("dyn", [("a.dyn", IN, "A", "192.0.2.1"), ("a.dyn", IN, "TXT", "x")], Rcode.REFUSED),
}


@pytest.mark.parametrize("case", GRANTS)
def test_a_key_changes_what_its_rules_say(case: str) -> None:
    """A rule gives types at names; rules of a key add up, and a name whose sets are not all the key's stays whole."""
    key, updates, rcode = GRANTS[case]
    decided = outcome([], updates, replace(ZONE, update=RULES), key)
    assert decided.rcode == rcode
    assert permission_of(replace(ZONE, update=RULES), "other", ()) is None


def test_permission_comes_before_prerequisites() -> None:
    """Who may not make an update does not learn by prerequisites what the zone has."""
    zone = replace(ZONE, update=RULES)
    assert outcome([("gone", ANY, "ANY", "")], [("www", IN, "TXT", "x")], zone, "certbot").rcode == Rcode.REFUSED


@pytest.mark.parametrize("rtype", ["CDS", "DNSKEY", "NSEC3PARAM"])
def test_a_signed_zone_makes_its_own_records(rtype: str) -> None:
    """Records that a signed zone has made are neither added nor deleted."""
    signed = replace(ZONE, dnssec=Dnssec(enabled=True))
    assert outcome([], [("@", ANY, rtype, "")], signed).rcode == Rcode.REFUSED
    digested = replace(ZONE, zonemd=True)
    assert outcome([], [("@", ANY, "ZONEMD", "")], digested).rcode == Rcode.REFUSED
    assert outcome([], [("@", ANY, "ZONEMD", "")]).rcode == Rcode.NOERROR
    if rtype == "CDS":
        assert outcome([], [("@", IN, rtype, "0 0 0 00")]).rcode == Rcode.NOERROR


def test_a_zone_that_is_signed_elsewhere() -> None:
    """A zone that is served with the signatures it came with is not updated."""
    permission = permission_of(ZONE, "key", ())
    assert permission is not None
    signature = dns.rdata.from_text("IN", "RRSIG", "SOA 13 2 300 20400101000000 20200101000000 1 example.test. AAAA")
    before = read_sets(ZONE)
    name = (b"example", b"test")
    signed = {**before.sets, (name, int(dns.rdatatype.RRSIG)): RecordSet(name, 46, (Entry(300, signature),))}
    decided = decide(ZoneSets(ZONE, signed), message([], X), permission)
    assert (decided.rcode, decided.why.partition(",")[0]) == (Rcode.REFUSED, "the zone is signed elsewhere")


def test_an_update_that_changes_nothing_leaves_the_zone() -> None:
    """The zone is the same object, and its serial stays."""
    before, permission = read_sets(ZONE), permission_of(ZONE, "key", ())
    assert permission is not None
    wire = message([], [("gone", ANY, "ANY", ""), ("mail", NONE, "A", "192.0.2.9")])
    assert decide(before, wire, permission).zone is before


def test_what_is_not_served_stays() -> None:
    """Disabled records and comments of a set outlive its deletion, and are no data to a prerequisite."""
    remarks = (
        ';dnsvip-disabled off 60 IN A 192.0.2.7\n;dnsvip-comment mail A {"content":"c","account":"","modified_at":1}\n'
    )
    zone = replace(ZONE, text=TEXT + remarks)
    decided = outcome([("off", NONE, "ANY", "")], [("off", IN, "CNAME", "x"), ("mail", ANY, "ANY", "")], zone)
    assert decided.zone is not None
    assert all(
        line.strip() in decided.zone.zone.text.replace('": ', '":').replace(', "', ',"')
        for line in remarks.splitlines()
    )


def test_every_cut_is_malformed() -> None:
    """A message that ends early is FORMERR wherever that is, or names a record that is not there."""
    wire = message([("mail", ANY, "ANY", "")], [("x", IN, "MX", "10 mail"), ("mail", ANY, "A", "")])
    permission = permission_of(ZONE, "key", ())
    assert permission is not None
    before = read_sets(ZONE)
    for end in range(12, len(wire)):
        assert decide(before, wire[:end], permission).rcode == Rcode.FORMERR


def test_many_records_of_one_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each record of a message is compared with one of its set, not with all: a message of 32 KiB took 20 seconds, for
    which all other updates waited."""
    compared = 0
    plain: Callable[[Any, object], bool] = dns.rdata.Rdata.__eq__

    def counted(one: dns.rdata.Rdata, other: object) -> bool:
        nonlocal compared
        compared += 1
        return plain(one, other)

    monkeypatch.setattr(dns.rdata.Rdata, "__eq__", counted)
    added: list[Row] = [("x", IN, "A", f"192.0.2.{n}") for n in range(200)]
    gone: list[Row] = [("x", NONE, "A", f"192.0.2.{n}") for n in range(1, 200)]
    decided = outcome([], [*added, *added, *gone])
    assert decided.rcode == Rcode.NOERROR, decided.why
    assert {line for line in lines(decided.zone) if line.startswith("x ")} == {"x 60 A 192.0.2.0"}
    assert compared < 2000

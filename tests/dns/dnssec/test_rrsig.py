"""Keys and signatures, judged by dnspython's own DNSSEC."""

from __future__ import annotations

import dns.dnssec
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest

from dnsvip.dns.dnssec.keys import SEP, SigningKey, ZoneKeys, ds_text
from dnsvip.dns.dnssec.rrsig import rrsig
from dnsvip.dns.dnssec.signatures import LEAST, LONGEST, SHORTEST, Part, Signatures, validity
from dnsvip.dns.protocol.message import RRset, Type
from dnsvip.dns.protocol.names import Labels, flat_name, lowered
from dnsvip.dns.zones.zone import compile_zone
from dnsvip.site import DnssecAlgorithm, Zone
from tests.dns.dnssec.signed import ED25519, P256, key_of
from tests.samples import NOW

APEX = (b"example", b"test")

ZONE = r"""
@ 300 SOA Ns1 HostMaster 1 3600 900 1209600 120
@ 300 NS Ns1
@ 300 NS NS2.Other.TEST.
Ns1 60 A 192.0.2.2
Ns1 60 A 192.0.2.1
ns2 60 A 192.0.2.3
Mixed 60 TXT "CaSe" "b"
Mixed 60 MX 10 MAIL
Mixed 60 SRV 0 0 53 NS1.Example.Test.
Mixed 60 NAPTR 1 2 "S" "SIP+D2U" "" _Sip._UDP.Example.TEST.
Mixed 60 RP Host.Master TXT.Mixed
Mixed 60 AFSDB 1 Afs.Example.test.
Mixed 60 KX 1 KX.Example.test.
Mixed 60 PX 1 Map822.Test. MapX400.TEST.
Mixed 60 RT 1 Relay.Test.
Mixed 60 HTTPS 1 Target.Test. alpn=h2
Mixed 60 SSHFP 1 1 0123456789abcdef0123456789abcdef01234567
Mixed 60 CAA 0 issue "Letsencrypt.org"
Mixed 60 HINFO "PC" "Linux"
Mixed 60 TYPE65280 \# 3 0A0B0C
alias 60 CNAME Mixed
Moved 60 DNAME New.Place
ptr 60 PTR Mixed
*.wild 60 TXT "wild"
"""


@pytest.fixture(params=[P256, ED25519])
def keys(request: pytest.FixtureRequest) -> ZoneKeys:
    return ZoneKeys.of(APEX, [key_of(request.param)])


def name(labels: Labels) -> dns.name.Name:
    return dns.name.Name((*labels, b""))


def parsed(rrset: RRset) -> dns.rrset.RRset:
    """A set as dnspython has it."""
    wires = [b"".join(p if isinstance(p, bytes) else flat_name(p) for p in rdata) for rdata in rrset.rdatas]
    rtype = dns.rdatatype.RdataType.make(rrset.rtype)
    rdatas = [dns.rdata.from_wire(dns.rdataclass.IN, rtype, wire, 0, len(wire)) for wire in wires]
    return dns.rrset.from_rdata_list(name(rrset.owner), rrset.ttl, rdatas)


def check(rrset: RRset, signature: RRset, keys: ZoneKeys, now: float = NOW) -> None:
    """Raise ValidationFailure where a validator would."""
    anchors = {name(keys.apex): parsed(keys.sets[Type.DNSKEY])}
    dns.dnssec.validate(parsed(rrset), parsed(signature), anchors, now=now)


def test_every_set_of_a_zone_validates(keys: ZoneKeys) -> None:
    """Sets of every form, with capital letters in owners and data, at their owners and at one that a wildcard gives."""
    zone = compile_zone(Zone("example.test", ZONE))
    sets = [rrset for node in zone.nodes.values() for rrset in node.values()] + list(keys.sets.values())
    assert len(sets) > 20
    for rrset in sets:
        for owner in (rrset.owner, tuple(label.upper() for label in rrset.owner)):
            same = rrset._replace(owner=owner)
            signature = rrsig(same, keys, int(NOW) - 10, int(NOW) + 10)
            check(same, signature, keys)
            assert parsed(signature)[0].labels == len(owner) - (owner[0] == b"*")
    expanded = zone.nodes[b"*", b"wild", *APEX][Type.TXT]._replace(owner=(b"Any", b"wild", *APEX))
    check(expanded, rrsig(expanded, keys, int(NOW) - 10, int(NOW) + 10), keys)


def test_a_changed_set_does_not_validate(keys: ZoneKeys) -> None:
    """The check of these tests can fail: for other data, another owner, and outside of the validity."""
    rrset = RRset((b"www", *APEX), Type.A, 60, ((b"\1\2\3\4",),))
    signature = rrsig(rrset, keys, int(NOW) - 10, int(NOW) + 10)
    check(rrset, signature, keys)
    other = rrset._replace(owner=(b"ftp", *APEX))
    changes = [
        (rrset._replace(rdatas=((b"\1\2\3\5",),)), signature, NOW),
        (other, signature._replace(owner=other.owner), NOW),
        (rrset, signature, NOW + 20),
        (rrset, signature, NOW - 20),
    ]
    for changed, by, now in changes:
        with pytest.raises(dns.dnssec.ValidationFailure):
            check(changed, by, keys, now)


@pytest.mark.parametrize("algorithm", [P256, ED25519])
def test_key_records(algorithm: DnssecAlgorithm) -> None:
    """DNSKEY, key tag, DS, CDS and CDNSKEY are those that dnspython makes of the key."""
    held = key_of(algorithm)
    key, keys = SigningKey.of(held), ZoneKeys.of(APEX, [held])
    dnskey = parsed(keys.sets[Type.DNSKEY])[0]
    assert dnskey.flags == SEP
    assert dns.dnssec.key_id(dnskey) == key.tag
    right = dns.dnssec.make_ds(name(APEX), dnskey, "SHA256")
    assert ds_text("example.test", key.ds(APEX)).split(" IN DS ")[1].lower() == right.to_text()
    assert parsed(keys.sets[Type.CDS])[0].to_text() == right.to_text()
    assert parsed(keys.sets[Type.CDNSKEY])[0].to_text() == dnskey.to_text()
    assert not any(form in repr((held, key, keys)) for form in (held.secret.hex(), repr(held.secret)))


def test_signatures_are_kept_and_renewed() -> None:
    """A signature is made once, whatever the case of its owner, and anew while a week of it is left."""
    keys, signatures = ZoneKeys.of(APEX, [key_of()]), Signatures()
    rrset = RRset((b"www", *APEX), Type.A, 60, ((b"\1\2\3\4",),))
    first = signatures.of(rrset, keys, Part.STATIC, NOW)
    for now in (NOW, NOW + 86400, NOW - 600):
        assert signatures.of(rrset, keys, Part.STATIC, now) is first
    shouted = signatures.of(rrset._replace(owner=(b"WWW", *APEX)), keys, Part.STATIC, NOW)
    assert (shouted.owner[0], shouted.rdatas) == (b"WWW", first.rdatas)
    for other in (rrset._replace(ttl=61), rrset._replace(rdatas=((b"\1\2\3\5",),)), rrset._replace(rtype=28)):
        assert signatures.of(other, keys, Part.STATIC, NOW).rdatas != first.rdatas
    end = validity(rrset.owner, NOW)[1]
    assert signatures.of(rrset, keys, Part.STATIC, end - LEAST - 1) is first
    again = signatures.of(rrset, keys, Part.STATIC, end - LEAST)
    assert again.rdatas != first.rdatas
    check(rrset, again, keys, end - LEAST)
    check(rrset, first, keys, end - LEAST)


def test_ends_are_spread() -> None:
    """Signatures made at once end over three days, those of one owner at the same time."""
    ends = {validity(lowered((b"n%d" % n, *APEX)), NOW)[1] - int(NOW) for n in range(500)}
    assert SHORTEST < min(ends) < SHORTEST + 86400
    assert LONGEST - 86400 < max(ends) <= LONGEST
    assert len(ends) > 400

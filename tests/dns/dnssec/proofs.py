"""What an answer of a signed zone proves, read from its NSEC or NSEC3 as validators do (RFC 4035 section 5.4, RFC
5155 section 8, RFC 9824). Signatures are for others to check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import dns.dnssec
import dns.message
import dns.name
import dns.rdatatype
from dns.rdtypes.util import Bitmap

from dnsvip.dns.protocol.message import Type

DATA, NO_TYPE, NO_NAME = "data", "no such type", "no such name"

Records = Mapping[dns.name.Name, Any]


def proven(answer: dns.message.Message, name: dns.name.Name, rtype: int) -> str | None:
    """Whether a name has a type, as the answer proves; None where it leads elsewhere. Raises AssertionError where it
    has no data and proves nothing, or proves what it contradicts."""
    for rrset in answer.answer:
        if rrset.rdtype in (dns.rdatatype.CNAME, dns.rdatatype.DNAME) and rrset.rdtype != rtype:
            return None
        if rrset.rdtype == rtype and rrset.name == name:
            return DATA
    soa = [rrset.name for rrset in answer.authority if rrset.rdtype == dns.rdatatype.SOA]
    if not soa:
        return None  # a referral
    nsec, nsec3 = (_records(answer, kind) for kind in (dns.rdatatype.NSEC, dns.rdatatype.NSEC3))
    assert nsec or nsec3, f"no proof in\n{answer}"
    return _by_nsec3(nsec3, soa[0], name, rtype) if nsec3 else _by_nsec(nsec, soa[0], name, rtype)


def _records(answer: dns.message.Message, kind: int) -> Records:
    return {rrset.name: rrset[0] for rrset in answer.authority if rrset.rdtype == kind}


def _by_nsec(nsec: Records, apex: dns.name.Name, name: dns.name.Name, rtype: int) -> str:
    if name in nsec:
        return _lacks(nsec[name], rtype)
    around = _around(nsec, apex, name)
    assert around is not None, f"{name} is in no gap of {nsec}"
    owner, following = around
    if following.is_subdomain(name):
        return NO_TYPE  # an empty non-terminal
    encloser = max((_common(name, owner), _common(name, following)), key=len)
    wild = dns.name.Name((b"*", *encloser.labels))
    if wild in nsec:
        return _lacks(nsec[wild], rtype)
    assert _around(nsec, apex, wild) is not None, f"{wild} is in no gap of {nsec}"
    return NO_NAME


def _around(nsec: Records, apex: dns.name.Name, name: dns.name.Name) -> tuple[dns.name.Name, dns.name.Name] | None:
    for owner, rdata in nsec.items():
        if owner < name and (name < rdata.next or rdata.next == apex):
            return owner, rdata.next
    return None


def _common(one: dns.name.Name, other: dns.name.Name) -> dns.name.Name:
    return one.split(one.fullcompare(other)[2])[1]


def _by_nsec3(nsec3: Records, apex: dns.name.Name, name: dns.name.Name, rtype: int) -> str:
    hashes = {owner.labels[0].decode().upper(): rdata for owner, rdata in nsec3.items()}
    if (own := hashes.get(_hashed(name))) is not None:
        return _lacks(own, rtype)
    closer = name
    for encloser in _ancestors(name, apex):
        if _hashed(encloser) in hashes:
            assert _covered(hashes, closer), f"{closer} is in no gap of {hashes}"
            wild = dns.name.Name((b"*", *encloser.labels))
            if (own := hashes.get(_hashed(wild))) is not None:
                return _lacks(own, rtype)
            assert _covered(hashes, wild), f"{wild} is in no gap of {hashes}"
            return NO_NAME
        closer = encloser
    raise AssertionError(f"no closest encloser of {name} in {hashes}")


def _ancestors(name: dns.name.Name, apex: dns.name.Name) -> Iterator[dns.name.Name]:
    while name != apex:
        name = name.parent()
        yield name


def _hashed(name: dns.name.Name) -> str:
    return dns.dnssec.nsec3_hash(name, b"", 0, "SHA1")


def _covered(hashes: Mapping[str, Any], name: dns.name.Name) -> bool:
    wanted = _hashed(name)
    for owner, rdata in hashes.items():
        following = rdata.next_name().labels[0].decode().upper()
        if owner < wanted < following or (following <= owner and (wanted > owner or wanted < following)):
            return True
    return False


def _lacks(rdata: Any, rtype: int) -> str:
    """What the record at the very name says; its bitmap must not have what is denied, nor an alias."""
    types = {int(dns.rdatatype.from_text(word)) for word in Bitmap(rdata.windows).to_text().split()}
    if Type.NXNAME in types:
        return NO_NAME
    assert rtype not in types, f"the type is denied, and {rdata} has it"
    assert Type.CNAME not in types, f"data is denied, and {rdata} has an alias"
    return NO_TYPE

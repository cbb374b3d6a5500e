"""Signatures over record sets in canonical form (RFC 4034 sections 3 and 6)."""

from __future__ import annotations

from struct import Struct

import dns.rdata
import dns.rdataclass
import dns.rdatatype

from dnsvip.dns.dnssec.keys import SigningKey, ZoneKeys
from dnsvip.dns.protocol.message import IN, Rdata, RRset, Type
from dnsvip.dns.protocol.names import flat_name, lowered

WITH_NAMES = frozenset(
    {
        Type.SRV, Type.DNAME, dns.rdatatype.RP, dns.rdatatype.AFSDB, dns.rdatatype.RT, dns.rdatatype.PX,
        dns.rdatatype.NAPTR, dns.rdatatype.KX, dns.rdatatype.MINFO, dns.rdatatype.MB, dns.rdatatype.MG,
        dns.rdatatype.MR, dns.rdatatype.SIG, dns.rdatatype.NXT,
    }
)  # fmt: skip
"""Types whose data is kept as bytes and has names that count in lower case (RFC 4034 section 6.2, RFC 6840 section
5.1). Names that are pieces of data count so in any type that has them."""

_HEAD = Struct("!HBBIIIH")
_RECORD = Struct("!HHIH")


def rrsig(rrset: RRset, keys: ZoneKeys, inception: int, expiration: int) -> RRset:
    """The signatures of a set, one of each key for its type, valid between two times in unix seconds. A set that a
    wildcard gave is signed as one of the name that was asked for, so that nothing else needs to be proven."""
    labels = len(rrset.owner) - (rrset.owner[:1] == (b"*",))  # RFC 4034 section 3.1.3
    owner = flat_name(lowered(rrset.owner))
    fixed = owner + _RECORD.pack(rrset.rtype, IN, rrset.ttl, 0)[:-2]
    records = b"".join([fixed + len(data).to_bytes(2, "big") + data for data in canonical(rrset)])
    signed = []
    for key in keys.signers(rrset.rtype):
        head = _head(rrset, key, labels, inception, expiration) + keys.signer
        signed.append((head + key.sign(head + records),))
    return RRset(rrset.owner, Type.RRSIG, rrset.ttl, tuple(signed))


def canonical(rrset: RRset) -> list[bytes]:
    """The data of a set in canonical form and order, each once (RFC 4034 sections 6.2 and 6.3)."""
    if len(rrset.rdatas) == 1:
        return [_canonical(rrset.rtype, rrset.rdatas[0])]
    return sorted({_canonical(rrset.rtype, rdata) for rdata in rrset.rdatas})


def _canonical(rtype: int, rdata: Rdata) -> bytes:
    wire = b"".join([piece if isinstance(piece, bytes) else flat_name(lowered(piece)) for piece in rdata])
    if rtype not in WITH_NAMES:
        return wire
    parsed = dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.RdataType.make(rtype), wire, 0, len(wire))
    return bytes(parsed.to_digestable())


def _head(rrset: RRset, key: SigningKey, labels: int, inception: int, expiration: int) -> bytes:
    """The data of an RRSIG up to the signer's name (RFC 4034 section 3.1); times are modulo 2^32."""
    begin, end = inception & 0xFFFFFFFF, expiration & 0xFFFFFFFF
    return _HEAD.pack(rrset.rtype, key.algorithm, labels, rrset.ttl, end, begin, key.tag)

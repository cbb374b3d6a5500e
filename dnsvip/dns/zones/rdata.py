"""The data of one record, from its text: every type that BIND reads, and never one that cannot be served.

dnspython reads most types; what it lacks or reads otherwise than BIND stands here. A record that `read_rdata` returns
fits a message with any owner and a TSIG.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import dns.immutable
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.DS
import dns.rdtypes.ANY.RP
import dns.rdtypes.ANY.ZONEMD
import dns.rdtypes.nsbase
import dns.rdtypes.txtbase
import dns.tokenizer
import dns.wire

from dnsvip.dns.protocol.message import MAX_SIZE, Type
from dnsvip.dns.zones.lexer import octets

MESSAGE_ROOM = MAX_SIZE - 2048
"""Bytes of a message that one record set may take: the rest is for header, question, owner, OPT and TSIG, each as long
as it can be."""

LONGEST_REASON = 200
"""Characters of a problem; the library's may quote the whole record."""

MALFORMED = "Text input is malformed"
"""All that the library says of many a fault."""

_FORMS: Mapping[int, str] = {
    Type.A: "not an IPv4 address, such as 192.0.2.1",
    Type.AAAA: "not an IPv6 address, such as 2001:db8::1",
}

SIGNING = frozenset(
    {
        dns.rdatatype.RRSIG,
        dns.rdatatype.NSEC,
        dns.rdatatype.NSEC3,
        dns.rdatatype.NSEC3PARAM,
        dns.rdatatype.DNSKEY,
    }
)
"""Types that signed zones have (RFC 4034, RFC 5155)."""

_IN = dns.rdataclass.IN
_GENERIC: Any = dns.rdata.GenericRdata
_OBSOLETE = frozenset({dns.rdatatype.MD, dns.rdatatype.MF})
Read: TypeAlias = Callable[[str, dns.name.Name], dns.rdata.Rdata]


def read_type(text: str) -> int:
    """The type of a mnemonic or "TYPE1234"; raises ValueError where it is unknown or no type of data."""
    try:
        rtype = int(dns.rdatatype.from_text(text))
    except (dns.rdatatype.UnknownRdatatype, ValueError):
        raise ValueError(f"unknown rdatatype {text!r}") from None
    if rtype in (0, Type.OPT) or 128 <= rtype <= 255:
        raise ValueError(f"{text} is a pseudo-record type, which no zone has (RFC 6895 section 3.1)")
    if rtype in _OBSOLETE:
        raise ValueError(f"{text} is obsolete; use MX (RFC 973 section 3.1)")
    return rtype


def read_rdata(rtype: int, text: str, origin: dns.name.Name) -> dns.rdata.Rdata:
    """The data of a record of a type that `read_type` gave; raises ValueError, with what is wrong, for any text."""
    return read_data(rtype, text, origin)[0]


def read_data(rtype: int, text: str, origin: dns.name.Name) -> tuple[dns.rdata.Rdata, bytes]:
    """As `read_rdata`, and the data as it stands in a message."""
    text = octets(text)
    try:
        generic = text.lstrip(" \t").startswith("\\#")
        read = None if generic else _READ.get(rtype)
        rdata = read(text, origin) if read else _plain(rtype, text, origin)
        wire = wire_of(rdata)
    except Exception as error:  # whatever the library raises is a fault of this record, not of its zone
        raise ValueError(_reason(error, rtype)) from error
    if len(wire) > MESSAGE_ROOM:
        raise ValueError(f"its data has {len(wire)} bytes; {MESSAGE_ROOM} fit a message with the owner and a TSIG")
    return rdata, wire


def wire_of(rdata: dns.rdata.Rdata) -> bytes:
    """The data as it stands in a message, its names uncompressed."""
    wire = rdata.to_wire()
    assert wire is not None  # noqa: S101 - for mypy; it is None only where a file is given
    return wire


def _reason(error: Exception, rtype: int) -> str:
    text = re.sub(r"^<?\w+>?:\d+: ", "", str(error)).rstrip(".") or type(error).__name__
    if text == MALFORMED:
        return _FORMS.get(
            rtype, f"not in the form of {dns.rdatatype.to_text(dns.rdatatype.RdataType.make(rtype))} data"
        )
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."


def _plain(rtype: int, text: str, origin: dns.name.Name) -> dns.rdata.Rdata:
    """As dnspython reads it; classes of ours for types that it lacks."""
    kind = dns.rdatatype.RdataType.make(rtype)
    cls: Any = _CLASSES.get(rtype)
    if cls is None:
        return dns.rdata.from_text(_IN, kind, text, origin, relativize=False)
    tokens = dns.tokenizer.Tokenizer(text)
    if not text.lstrip(" \t").startswith("\\#"):
        rdata: dns.rdata.Rdata = cls.from_text(_IN, kind, tokens, origin, False)
        tokens.get_eol_as_token()
        return rdata
    generic: Any = _GENERIC.from_text(_IN, kind, tokens, origin, False)
    parser = dns.wire.Parser(generic.data)
    with parser.restrict_to(len(generic.data)):
        parsed: dns.rdata.Rdata = cls.from_wire_parser(_IN, kind, parser)
    return parsed


@dns.immutable.immutable
class _AnyZonemd(dns.rdtypes.ANY.ZONEMD.ZONEMD):
    """A ZONEMD with reserved numbers too: they mean nothing, and BIND serves them (RFC 8976 section 5)."""

    def __init__(self, rdclass: Any, rdtype: Any, serial: int, scheme: int, algorithm: int, digest: bytes) -> None:
        dns.rdata.Rdata.__init__(self, rdclass, rdtype)
        self.serial, self.digest = serial, digest
        self.scheme: Any = scheme
        self.hash_algorithm: Any = algorithm


_CLASSES: Mapping[int, Any] = {
    **dict.fromkeys(map(dns.rdatatype.from_text, ("MB", "MG", "MR")), dns.rdtypes.nsbase.NSBase),
    dns.rdatatype.MINFO: dns.rdtypes.ANY.RP.RP,
    dns.rdatatype.NINFO: dns.rdtypes.txtbase.TXTBase,
    dns.rdatatype.TA: dns.rdtypes.ANY.DS.DS,
    dns.rdatatype.ZONEMD: _AnyZonemd,
}


def _loc(text: str, origin: dns.name.Name) -> dns.rdata.Rdata:
    """Metres as whole centimetres: dnspython multiplies floats, which may end just below (RFC 1876 section 3)."""
    rdata: Any = _plain(dns.rdatatype.LOC, text, origin)
    names = ("altitude", "size", "horizontal_precision", "vertical_precision")
    metres = [float(round(getattr(rdata, name))) for name in names]
    exact: dns.rdata.Rdata = type(rdata)(_IN, dns.rdatatype.LOC, rdata.latitude, rdata.longitude, *metres)
    return exact


def _locator(rtype: int) -> Read:
    """NID and L64 with groups of fewer than four digits (RFC 6742 section 2.1.2)."""

    def read(text: str, origin: dns.name.Name) -> dns.rdata.Rdata:
        groups = re.compile(r"[0-9a-fA-F]{1,4}(?::[0-9a-fA-F]{1,4}){3}")
        return _plain(rtype, groups.sub(lambda m: ":".join(g.zfill(4) for g in m[0].split(":")), text), origin)

    return read


def _nxt(text: str, origin: dns.name.Name) -> dns.rdata.Rdata:
    """A name, and the types that exist there as a bitmap (RFC 2535 section 5.2)."""
    name, *types = text.split()
    bitmap = bytearray(16)
    numbers = [int(dns.rdatatype.from_text(rtype)) for rtype in types]
    for number in numbers:
        if number >= 8 * len(bitmap):
            raise ValueError(f"type {number} does not fit an NXT record")
        bitmap[number // 8] |= 0x80 >> number % 8
    wire = dns.name.from_text(name, origin).to_wire()
    used = max(numbers, default=-8) // 8 + 1
    nxt: dns.rdata.Rdata = _GENERIC(_IN, dns.rdatatype.NXT, (wire or b"") + bytes(bitmap[:used]))
    return nxt


_READ: Mapping[int, Read] = {
    dns.rdatatype.LOC: _loc,
    dns.rdatatype.NID: _locator(dns.rdatatype.NID),
    dns.rdatatype.L64: _locator(dns.rdatatype.L64),
    dns.rdatatype.NXT: _nxt,
}

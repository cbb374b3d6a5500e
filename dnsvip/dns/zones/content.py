"""Lossless conversion between rdata and record contents as PowerDNS's API writes them.

PowerDNS accepts a content only in its canonical form, so that nothing after a `;`, a line break or a missing quote is
silently dropped; `read_content` does the same. The form is that of zone files (RFC 1035 section 5.1) with absolute
names, but strings are quoted and of any length, LOC (RFC 1876) has all twelve fields, and base64 and hexadecimal data
contain no spaces. This module knows nothing about zones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tokenizer
from dns.rdtypes.ANY.TXT import TXT

from dnsvip.dns.zones.rdata import MESSAGE_ROOM, read_rdata, wire_of

IN = dns.rdataclass.IN
T = dns.rdatatype
UNREADABLE = (dns.exception.DNSException, ValueError, TypeError, IndexError, OverflowError)
"""What dnspython raises for a text that is no record of its type."""

LONGEST_STRING = 255
"""Bytes of a character-string (RFC 1035 section 3.3); a longer one is split."""

_QUOTED = r'"(?:[^"\\\r\n]|\\[^\r\n])*"'
_WORD = re.compile(rf'((?:[^\s"\\]|\\[^\s])*)({_QUOTED})?')
_HOSTNAME = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+|\.", re.IGNORECASE)
SHOWN = 80
"""Characters of a content that a message repeats."""

Shape: TypeAlias = list[tuple[str, bytes | None]]
"""The words of a content, each with its quoted part as bytes (None: no quotes); case and escapes make no difference."""


def read_content(rtype: int, text: str) -> dns.rdata.Rdata:
    """The record that a content stands for; raises ValueError where it is not written as `content_of` writes it."""
    rdata = _strings(rtype, _shape(text)) if rtype in (T.TXT, T.SPF) else _parsed(rtype, text)
    if len(wire_of(rdata)) > MESSAGE_ROOM:
        raise ValueError(f"has more than the {MESSAGE_ROOM} bytes that fit a message with the owner and a TSIG")
    if rtype in _HOSTS and not _HOSTNAME.fullmatch(host := text.rpartition(" ")[2]):
        raise ValueError(f"{host!r} is not a hostname")
    return rdata


def content_of(rdata: dns.rdata.Rdata) -> str:
    """A record as PowerDNS's API shows it."""
    special = _FORMS.get(rdata.rdtype)
    return special(rdata) if special else rdata.to_text(chunksize=0).rstrip(" ")  # one of no data ends in a space


def _parsed(rtype: int, text: str) -> dns.rdata.Rdata:
    try:
        rdata = read_rdata(rtype, text, dns.name.root)
    except UNREADABLE as error:
        raise ValueError(f"{text[:SHOWN]!r} is not a record of this type: {error}") from None
    expected = content_of(rdata)
    if text.lower() != expected.lower() and not _means(rdata, _shape(text), expected):
        raise ValueError(f"is not in the form expected here, which is {expected!r}")
    return rdata


def _means(rdata: dns.rdata.Rdata, shape: Shape, expected: str) -> bool:
    """Whether a content that is not the expected one differs only where it may.

    An IPv6 address has many forms; zone files have parameters of SVCB and HTTPS in quotes (RFC 9460 section 2.1).
    """
    if rdata.rdtype == T.AAAA:
        return len(shape) == 1
    return shape == _shape(expected) or (rdata.rdtype in (T.SVCB, T.HTTPS) and shape == _shape(rdata.to_text()))


def _shape(text: str) -> Shape:
    """The words of a content, one space between each; raises ValueError for anything else."""
    shape: Shape = []
    at = 0
    while True:
        word = _WORD.match(text, at)
        if word is None or word.end() == at:
            raise ValueError("is neither words with one space between them nor strings in quotes")
        bare, quoted = word.groups()
        shape.append((bare.lower(), None if quoted is None else _bytes(quoted[1:-1])))
        at = word.end()
        if at == len(text):
            return shape
        if text[at] != " ":
            raise ValueError(f"goes on behind a word without a space: {text[at : at + 20]!r}")
        at += 1


def _bytes(escaped: str) -> bytes:
    token = dns.tokenizer.Token(dns.tokenizer.QUOTED_STRING, escaped)
    try:
        return cast("bytes", token.unescape_to_bytes().value)
    except dns.exception.DNSException:
        raise ValueError(f"has an escape that is none in {escaped[:40]!r}") from None


def _strings(rtype: int, shape: Shape) -> dns.rdata.Rdata:
    pieces: list[bytes] = []
    for bare, quoted in shape:
        if bare or quoted is None:
            raise ValueError('must be strings in quotes, such as "text"')
        starts = range(0, max(len(quoted), 1), LONGEST_STRING)
        pieces += [quoted[at : at + LONGEST_STRING] for at in starts]
    return TXT(IN, T.RdataType.make(rtype), pieces)


def _loc(loc: Any) -> str:
    sizes = (loc.altitude, loc.size, loc.horizontal_precision, loc.vertical_precision)
    angles = (*_angle(loc.latitude, "NS"), *_angle(loc.longitude, "EW"))
    return " ".join([*angles, *(f"{round(centimetres) / 100:.2f}m" for centimetres in sizes)])


def _angle(angle: Any, letters: str) -> tuple[str, ...]:
    degrees, minutes, seconds, milliseconds, sign = angle
    return f"{degrees}", f"{minutes}", f"{seconds}.{milliseconds:03}", letters[sign < 0]


def _service(rdata: dns.rdata.Rdata) -> str:
    """SVCB and HTTPS, whose known parameters PowerDNS leaves without quotes."""
    return re.sub(r' (mandatory|alpn|port|ipv4hint|ipv6hint)="([^"\\ ]*)"', r" \1=\2", rdata.to_text())


def _certificate(cert: Any) -> str:
    """CERT (RFC 4398) with its type and algorithm as numbers."""
    numbers = f"{int(cert.certificate_type)} {cert.key_tag} {int(cert.algorithm)}"
    return f"{numbers} {cert.to_text(chunksize=0).split(' ', 3)[3]}"


_FORMS: Mapping[int, Callable[[Any], str]] = {T.LOC: _loc, T.SVCB: _service, T.HTTPS: _service, T.CERT: _certificate}
_HOSTS = frozenset({T.NS, T.MX, T.SRV})
"""Types whose last word must be a hostname (RFC 1123 section 2.1); others may lead anywhere."""

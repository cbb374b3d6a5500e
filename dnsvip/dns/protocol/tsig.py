"""Transaction signatures (RFC 8945): a query's signature verified, and our response signed with the same key.

All cryptography of DNS messages is here, done by dnspython. Pure: keys come from the snapshot, the time is an argument.
What a key entitles to is unknown here.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from struct import Struct

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tsig
from dns.rdtypes.ANY.TSIG import TSIG

from dnsvip.dns.protocol.message import Rcode, Type
from dnsvip.errors import ObjectError
from dnsvip.site import TsigKey

FUDGE = 300
"""Seconds of clock difference that our own signatures allow, and the most that a query's may (RFC 8945 section 10): a
captured query can be replayed for as long."""

BADSIG, BADKEY, BADTIME, BADTRUNC = 16, 17, 18, 22
_FIXED = Struct("!HHIH")
_COUNTS = Struct("!HHHH")
_ANY_CLASS = 255


@dataclass(frozen=True, slots=True)
class Signature:
    """The TSIG record of a query, verified.

    `rcode` NOERROR: it is valid, and `key_name` signed. FORMERR: it is not a TSIG record. NOTAUTH: `error` says why.
    `key` signs the answer; without one the answer's TSIG record has no MAC (RFC 8945 section 5.3.2).
    """

    rcode: Rcode
    key_name: str | None = None
    error: int = 0
    owner: dns.name.Name = dns.name.root
    request: TSIG | None = field(default=None, repr=False)
    key: dns.tsig.Key | None = field(default=None, repr=False)

    @property
    def size(self) -> int:
        """How many bytes it adds to the answer."""
        if self.request is None:
            return 0
        mac = dns.tsig.mac_sizes[self.key.algorithm] if self.key else 0
        other = 6 if self.error == BADTIME else 0
        fixed = _FIXED.size + 16
        return len(self.owner.to_wire() or b"") + fixed + len(self.request.algorithm.to_wire() or b"") + mac + other


MALFORMED = Signature(Rcode.FORMERR)


class TsigKeys:
    """The keys of one snapshot."""

    def __init__(self, keys: Iterable[TsigKey]) -> None:
        self._keys: dict[dns.name.Name, tuple[str, dns.tsig.Key]] = {}
        for key in keys:
            name = dns.name.from_text(key.name)
            self._keys[name] = key.name, dns.tsig.Key(name, base64.b64decode(key.secret), key.algorithm)

    def check(self, wire: bytes, at: int, now: float) -> Signature:
        """Verify the TSIG record that starts at `at`, the last of the message (RFC 8945 section 5.2). Raises
        ObjectError where a key makes that fail."""
        try:
            owner, request = _read(wire, at)
        except (dns.exception.DNSException, ValueError):
            return MALFORMED
        name, key = self._keys.get(owner, (None, None))
        try:
            return _verified(wire, at, now, owner, request, name, key)
        except Exception as error:
            raise ObjectError(f"tsig.{name}", error) from error


def _verified(
    wire: bytes, at: int, now: float, owner: dns.name.Name, request: TSIG, name: str | None, key: dns.tsig.Key | None
) -> Signature:
    if key is None or key.algorithm != request.algorithm:
        return Signature(Rcode.NOTAUTH, None, BADKEY, owner, request)
    full = dns.tsig.mac_sizes[key.algorithm]
    if not max(10, full // 2) <= len(request.mac) <= full:
        return MALFORMED  # section 5.2.2.1
    if not hmac.compare_digest(_mac(wire, at, key, request)[: len(request.mac)], request.mac):
        return Signature(Rcode.NOTAUTH, None, BADSIG, owner, request)
    error = BADTRUNC if len(request.mac) < full else 0
    if abs(request.time_signed - int(now)) > min(request.fudge, FUDGE):
        error = BADTIME
    if error:
        return Signature(Rcode.NOTAUTH, None, error, owner, request, key)
    return Signature(Rcode.NOERROR, name, 0, owner, request, key)


def sign(answer: bytes, signature: Signature, now: float) -> bytes:
    """The answer with its TSIG record; unchanged where the query had none that could be read."""
    request, key = signature.request, signature.key
    if request is None:
        return answer
    template = _template(answer, signature, request, now)
    if key:
        template = _signed(answer, key, template, request.mac)
    return _append(answer, signature.owner, template)


def sign_all(answers: Iterable[bytes], signature: Signature, now: float) -> Iterator[bytes]:
    """The messages of one answer, each signed over the one before (RFC 8945 section 5.3.1)."""
    request, key, context = signature.request, signature.key, None
    for answer in answers:
        if request is None or key is None:
            yield answer
            continue
        template = _template(answer, signature, request, now)
        rdata, context = dns.tsig.sign(  # type: ignore[no-untyped-call]  # as above
            answer, key, template, template.time_signed, request.mac, context, True
        )
        yield _append(answer, signature.owner, rdata)


def _template(answer: bytes, signature: Signature, request: TSIG, now: float) -> TSIG:
    """An answer's TSIG record without its MAC."""
    late = signature.error == BADTIME
    return TSIG(  # type: ignore[no-untyped-call]  # dnspython annotates no constructors of rdata
        dns.rdataclass.ANY,
        dns.rdatatype.TSIG,
        request.algorithm,
        request.time_signed if late else int(now),  # section 5.2.3: a BADTIME answer has the requester's own time
        FUDGE,
        b"",
        int.from_bytes(answer[:2], "big"),
        signature.error,
        int(now).to_bytes(6, "big") if late else b"",
    )


def _read(wire: bytes, at: int) -> tuple[dns.name.Name, TSIG]:
    owner, used = dns.name.from_wire(wire, at)
    rtype, rclass, ttl, length = _FIXED.unpack_from(wire, at + used)
    if rtype != Type.TSIG or rclass != _ANY_CLASS or ttl:
        raise ValueError("not a TSIG record")
    rdata = dns.rdata.from_wire(dns.rdataclass.ANY, dns.rdatatype.TSIG, wire, at + used + _FIXED.size, length)
    if not isinstance(rdata, TSIG):
        raise ValueError("not a TSIG record")
    return owner, rdata


def _mac(wire: bytes, at: int, key: dns.tsig.Key, request: TSIG) -> bytes:
    """The MAC the query should have: over the message before its TSIG record was added."""
    *counts, additional = _COUNTS.unpack_from(wire, 4)
    bare = wire[:4] + _COUNTS.pack(*counts, additional - 1) + wire[12:at]
    mac: bytes = _signed(bare, key, request, b"").mac
    return mac


def _signed(wire: bytes, key: dns.tsig.Key, rdata: TSIG, request_mac: bytes) -> TSIG:
    signed: TSIG = dns.tsig.sign(wire, key, rdata, rdata.time_signed, request_mac)[0]  # type: ignore[no-untyped-call]
    return signed


def _append(answer: bytes, owner: dns.name.Name, rdata: TSIG) -> bytes:
    *counts, additional = _COUNTS.unpack_from(answer, 4)
    data = rdata.to_wire() or b""
    record = (owner.to_wire() or b"") + _FIXED.pack(Type.TSIG, _ANY_CLASS, 0, len(data)) + data
    return answer[:4] + _COUNTS.pack(*counts, additional + 1) + answer[12:] + record

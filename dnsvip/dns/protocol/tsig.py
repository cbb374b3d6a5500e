"""Transaction signatures (RFC 8945): a query's signature verified, and our response signed with the same key.

All cryptography of DNS messages is here. Pure: keys come from the snapshot, the time is an argument.
What a key entitles to is unknown here. A record of an unknown key or with a wrong signature, which anybody can send, is
read, verified and answered as bytes: dnspython takes a third of a millisecond.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from struct import Struct
from struct import error as struct_error
from typing import NamedTuple

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tsig
from dns.rdtypes.ANY.TSIG import TSIG

from dnsvip.dns.protocol.message import Rcode, Type
from dnsvip.dns.protocol.names import MAX_NAME, NameFault, read_name
from dnsvip.errors import ObjectError
from dnsvip.site import TsigKey

FUDGE = 300
"""Seconds of clock difference that our own signatures allow, and the most that a query's may (RFC 8945 section 10): a
captured query can be replayed for as long."""

BADSIG, BADKEY, BADTIME, BADTRUNC = 16, 17, 18, 22
_FIXED = Struct("!HHIH")
_RDATA = Struct("!HIHH")
"""What stands between the algorithm and the MAC: time signed (48 bits), fudge, MAC size."""
_AFTER_MAC = Struct("!HHH")
"""Original id, error, other length."""
_MOST_POINTERS = 16
_COUNTS = Struct("!HHHH")
_ANY_CLASS = 255
_CLASS_AND_TTL = Struct("!HI").pack(_ANY_CLASS, 0)
_HASHES = {
    dns.tsig.Key("", b"", f"hmac-{name}").algorithm: name for name in ("sha1", "sha224", "sha256", "sha384", "sha512")
}
"""Algorithm of a key -> its hash."""


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
    unsigned: tuple[bytes, bytes] | None = field(default=None, repr=False)
    """Of an unknown key or a wrong MAC: name and algorithm as in the query, uncompressed."""

    @property
    def size(self) -> int:
        """How many bytes it adds to the answer."""
        if self.unsigned:
            return sum(map(len, self.unsigned)) + _FIXED.size + _RDATA.size + _AFTER_MAC.size
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
        self._keys: dict[tuple[bytes, bytes], tuple[str, dns.tsig.Key]] = {}
        for key in keys:
            name = dns.name.from_text(key.name)
            held = dns.tsig.Key(name, base64.b64decode(key.secret), key.algorithm)
            self._keys[_lowered(name), _lowered(held.algorithm)] = key.name, held

    def check(self, wire: bytes, at: int, now: float) -> Signature:
        """Verify the TSIG record that starts at `at`, the last of the message (RFC 8945 section 5.2). Raises
        ObjectError where a key makes that fail."""
        try:
            record = _record(wire, at)
        except (NameFault, ValueError, IndexError, struct_error):
            return MALFORMED
        names = record.owner, record.algorithm
        name, key = self._keys.get((names[0].lower(), names[1].lower()), (None, None))
        if key is None:
            return Signature(Rcode.NOTAUTH, None, BADKEY, unsigned=names)
        try:
            return _verified(wire, at, now, record, name, key)
        except Exception as error:
            raise ObjectError(f"tsig.{name}", error) from error


def _verified(wire: bytes, at: int, now: float, record: _Record, name: str | None, key: dns.tsig.Key) -> Signature:
    mac, full = record.mac, dns.tsig.mac_sizes[key.algorithm]
    if not max(10, full // 2) <= len(mac) <= full:
        return MALFORMED  # section 5.2.2.1
    if not hmac.compare_digest(_mac(wire, at, key, record)[: len(mac)], mac):
        return Signature(Rcode.NOTAUTH, None, BADSIG, unsigned=(record.owner, record.algorithm))
    try:
        owner, request = _read(wire, at)
    except (dns.exception.DNSException, ValueError, IndexError, struct_error):
        return MALFORMED
    error = BADTRUNC if len(mac) < full else 0
    if abs(request.time_signed - int(now)) > min(request.fudge, FUDGE):
        error = BADTIME
    if error:
        return Signature(Rcode.NOTAUTH, None, error, owner, request, key)
    return Signature(Rcode.NOERROR, name, 0, owner, request, key)


def check_answer(wire: bytes, at: int, key: dns.tsig.Key, request_mac: bytes, now: float) -> None:
    """Verify the TSIG record that starts at `at`, the last of an answer to a question of ours with this MAC. Raises a
    DNSException, ValueError, IndexError or struct's error where it is wrong."""
    owner, rdata = _read(wire, at)
    dns.tsig.validate(wire, key, owner, rdata, int(now), request_mac, at)  # type: ignore[no-untyped-call]  # as above


def mac_of(signature: Signature | None) -> bytes:
    """The MAC of a query; empty where it has none that could be read."""
    return signature.request.mac if signature and signature.request else b""


def without_signature(wire: bytes, at: int) -> bytes:
    """A message without its TSIG record, which begins at `at`."""
    additional = int.from_bytes(wire[10:12], "big") - 1
    return wire[:10] + additional.to_bytes(2, "big") + wire[12:at]


def sign(answer: bytes, signature: Signature, now: float) -> bytes:
    """The answer with its TSIG record; unchanged where the query had none that could be read."""
    request, key = signature.request, signature.key
    if signature.unsigned:
        return _append(answer, signature.unsigned[0], _without_mac(answer, signature.unsigned[1], signature.error, now))
    if request is None:
        return answer
    template = _template(answer, signature, request, now)
    if key:
        template = _signed(answer, key, template, request.mac)
    return _append(answer, signature.owner.to_wire() or b"", template.to_wire() or b"")


def sign_all(answers: Iterable[bytes], signature: Signature, now: float) -> Iterator[bytes]:
    """The messages of one answer, each signed over the one before (RFC 8945 section 5.3.1); empty ones are pauses."""
    request, key, context = signature.request, signature.key, None
    for answer in answers:
        if request is None or key is None or not answer:
            yield answer
            continue
        template = _template(answer, signature, request, now)
        rdata, context = dns.tsig.sign(  # type: ignore[no-untyped-call]  # as above
            answer, key, template, template.time_signed, request.mac, context, True
        )
        yield _append(answer, signature.owner.to_wire() or b"", rdata.to_wire() or b"")


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


def _without_mac(answer: bytes, algorithm: bytes, error: int, now: float) -> bytes:
    """The RDATA of a TSIG record that nobody signs (RFC 8945 section 5.3.2)."""
    seconds = int(now)
    head = _RDATA.pack(seconds >> 32, seconds & 0xFFFF_FFFF, FUDGE, 0)
    return algorithm + head + _AFTER_MAC.pack(int.from_bytes(answer[:2], "big"), error, 0)


class _Record(NamedTuple):
    """A TSIG record: its names uncompressed as in the message, and its other parts as bytes (section 4.2)."""

    owner: bytes
    algorithm: bytes
    times: bytes
    """Time signed and fudge."""
    mac: bytes
    original_id: bytes
    error_and_other: bytes


def _record(wire: bytes, at: int) -> _Record:
    """The TSIG record at an offset; raises for what is none."""
    owner, fixed = expanded_name(wire, at)
    rtype, rclass, ttl, length = _FIXED.unpack_from(wire, fixed)
    end = fixed + _FIXED.size + length
    if rtype != Type.TSIG or rclass != _ANY_CLASS or ttl or end > len(wire):
        raise ValueError("not a TSIG record")
    algorithm, rdata = expanded_name(wire, fixed + _FIXED.size)
    *_, size = _RDATA.unpack_from(wire, rdata)
    mac = rdata + _RDATA.size
    after = mac + size
    *_, other = _AFTER_MAC.unpack_from(wire, after)
    if after + _AFTER_MAC.size + other != end:
        raise ValueError("not a TSIG record")
    return _Record(
        owner, algorithm, wire[rdata : mac - 2], wire[mac:after], wire[after : after + 2], wire[after + 2 : end]
    )


def expanded_name(wire: bytes, at: int) -> tuple[bytes, int]:
    """A name as uncompressed bytes, and the offset behind it; raises ValueError."""
    name, end, start = b"", 0, at
    for _ in range(_MOST_POINTERS):
        labels, behind = read_name(wire, start, compressed=True)
        piece = b"".join(bytes([len(label)]) + label for label in labels)
        name, end = name + piece, end or behind
        if behind == start + len(piece) + 1:
            break
        start = int.from_bytes(wire[behind - 2 : behind], "big") & 0x3FFF
    else:
        raise ValueError("a name without an end")
    if len(name) >= MAX_NAME:
        raise ValueError("longer than 255 octets")
    return name + b"\0", end


def _lowered(name: dns.name.Name) -> bytes:
    return (name.to_wire() or b"").lower()


def _read(wire: bytes, at: int) -> tuple[dns.name.Name, TSIG]:
    owner, used = dns.name.from_wire(wire, at)
    rtype, rclass, ttl, length = _FIXED.unpack_from(wire, at + used)
    if rtype != Type.TSIG or rclass != _ANY_CLASS or ttl:
        raise ValueError("not a TSIG record")
    rdata = dns.rdata.from_wire(dns.rdataclass.ANY, dns.rdatatype.TSIG, wire, at + used + _FIXED.size, length)
    if not isinstance(rdata, TSIG):
        raise ValueError("not a TSIG record")
    return owner, rdata


def _mac(wire: bytes, at: int, key: dns.tsig.Key, record: _Record) -> bytes:
    """The MAC the query should have: over the message before its TSIG record was added, and the parts of that which
    section 4.3.3 names."""
    *counts, additional = _COUNTS.unpack_from(wire, 4)
    bare = record.original_id + wire[2:4] + _COUNTS.pack(*counts, additional - 1) + wire[12:at]
    variables = record.owner.lower() + _CLASS_AND_TTL + record.algorithm.lower() + record.times
    return hmac.digest(key.secret, bare + variables + record.error_and_other, _HASHES[key.algorithm])


def _signed(wire: bytes, key: dns.tsig.Key, rdata: TSIG, request_mac: bytes) -> TSIG:
    signed: TSIG = dns.tsig.sign(wire, key, rdata, rdata.time_signed, request_mac)[0]  # type: ignore[no-untyped-call]
    return signed


def _append(answer: bytes, owner: bytes, rdata: bytes) -> bytes:
    *counts, additional = _COUNTS.unpack_from(answer, 4)
    record = owner + _FIXED.pack(Type.TSIG, _ANY_CLASS, 0, len(rdata)) + rdata
    return answer[:4] + _COUNTS.pack(*counts, additional + 1) + answer[12:] + record

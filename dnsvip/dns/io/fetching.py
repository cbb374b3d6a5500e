"""Asks a primary for a zone: its serial, and the zone by IXFR or AXFR (RFC 1995, RFC 5936), by TCP or TLS (RFC 9103).

What a primary sends is bounded in bytes, records and time, and signed where the zone has a key. Transfers are
read by dnspython in a process of their own; of an answer with the serial that alone is read, as questions wait for it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import time
from contextlib import suppress
from functools import lru_cache
from typing import Any

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.xfr
import dns.zone

from dnsvip.dns.io.asking import by_stream, by_udp
from dnsvip.dns.protocol.answer import Answer, rcode_text, read_answer, serial_in
from dnsvip.dns.protocol.tsig import check_answer
from dnsvip.dns.replication.fetched import Fetched, TransferError, held, taken
from dnsvip.site import TsigKey, Zone, parse_endpoint
from dnsvip.site.values import TLS

ASK_SECONDS = 5.0
"""For the serial."""

IDLE_SECONDS, WHOLE_SECONDS = 30.0, 600.0
"""For the next message of a transfer, and for all of it."""

GRACE_SECONDS, LEAST_SPEED = 60.0, 1 << 14
"""Seconds that a transfer may take however little comes, and bytes that bring another one: one that a primary lets drip
must not keep others from their places."""

MOST_BYTES = 256 << 20
"""Of the messages of one transfer."""

_LENGTH = struct.Struct("!H")
_FORGERIES = (dns.exception.DNSException, ValueError, IndexError, struct.error)
"""What an answer raises that cannot be read, or whose signature is wrong."""
_FAULTS = (*_FORGERIES, OSError, EOFError)


def address_of(primary: str) -> str:
    """The address of a primary."""
    return _place(primary)[0][0]


async def serial_at(primary: str, zone: Zone, key: TsigKey | None) -> int:
    """The serial that a primary has; raises TransferError where it does not say."""
    query = dns.message.make_query(zone.name, dns.rdatatype.SOA, flags=0)
    _sign(query, key)
    try:
        data, answer = await _answer(query, primary, zone)
        if answer.rcode or not answer.authoritative:
            raise TransferError(f"answers {rcode_text(answer.rcode) if answer.rcode else 'without authority'}")
        if key is not None and not answer.tsig_at:
            raise TransferError("answers unsigned")
        if not answer.found:
            raise TransferError("has no such zone")
        return serial_in(data, answer.found[0])
    except _FAULTS as error:
        raise TransferError(_said(error)) from None


async def _answer(query: dns.message.Message, primary: str, zone: Zone) -> tuple[bytes, Answer]:
    """The answer of a primary: over TLS, or by UDP, and by TCP where that has none that is good. Knot answers for
    catalogs by TCP alone."""
    (address, port), tls = _place(primary)
    wire = query.to_wire()
    if tls is None:
        with suppress(TimeoutError, *_FORGERIES):
            data = await by_udp(wire, address, port, ASK_SECONDS)
            answer = _read(query, wire, data)
            if not answer.rcode and not answer.truncated:
                return data, answer
    context = None if tls is None else await asyncio.to_thread(_context, zone.primaries_ca)
    data = await by_stream(wire, address, port, ASK_SECONDS, context, tls)
    return data, _read(query, wire, data)


def _read(query: dns.message.Message, wire: bytes, data: bytes) -> Answer:
    """What an answer says, whose signature is verified where it has one and the question too."""
    answer = read_answer(wire, data)
    if query.keyring is not None and answer.tsig_at:
        check_answer(data, answer.tsig_at, query.keyring, query.mac or b"", time.time())
    return answer


def fetch(zone: Zone, primary: str, key: TsigKey | None) -> Fetched:
    """The zone from a primary, by differences to what is stored where that goes; raises TransferError. It blocks, and
    takes much work for a large zone: a job process does it."""
    whole = not zone.text
    while True:
        try:
            before = dns.zone.Zone(dns.name.from_text(zone.name), relativize=False) if whole else held(zone)
            query, serial = dns.xfr.make_query(before, serial=None if whole else 0)
            incremental = serial is not None
            _sign(query, key)
            way = _transfer(before, query, serial, primary, zone)
            return taken(zone, before, way)
        except _FAULTS as error:
            if whole or not incremental:
                raise TransferError(_said(error)) from None
            whole = True  # differences that do not fit, or a primary without them (RFC 1995 section 4)
        except TransferError:
            if whole or not incremental:
                raise
            whole = True


def _transfer(into: dns.zone.Zone, query: Any, serial: int | None, primary: str, zone: Zone) -> str:
    """Take a transfer into a zone; how it came."""
    began, size, signed = time.monotonic(), 0, query.keyring is not None
    way, context, first = "AXFR", None, True
    (address, port), tls = _place(primary)
    with _connected(address, port, tls, zone) as stream:
        wire = query.to_wire()
        stream.sendall(_LENGTH.pack(len(wire)) + wire)
        with dns.xfr.Inbound(into, query.question[0].rdtype, serial) as inbound:
            done = False
            while not done:
                data = _message(stream, began + min(WHOLE_SECONDS, GRACE_SECONDS + size / LEAST_SPEED))
                size += len(data)
                if size > MOST_BYTES:
                    raise TransferError(f"sends more than {MOST_BYTES} bytes")
                message = dns.message.from_wire(
                    data,
                    keyring=query.keyring,
                    request_mac=query.mac,
                    xfr=True,
                    origin=into.from_wire_origin(),
                    tsig_ctx=context,
                    multi=True,
                    one_rr_per_rrset=serial is not None,
                )
                if first and not query.is_response(message):
                    raise TransferError(f"answers {dns.rcode.to_text(message.rcode())}")
                if first and signed and not message.had_tsig:
                    raise TransferError("answers unsigned")
                done = inbound.process_message(message)
                way, first, context = "IXFR" if inbound.incremental else "AXFR", False, message.tsig_ctx
            if signed and not message.had_tsig:
                raise TransferError("ends unsigned")
    return way


def _connected(address: str, port: int, tls: str | None, zone: Zone) -> socket.socket:
    stream = socket.create_connection((address, port), IDLE_SECONDS)
    if tls is None:
        return stream
    try:
        return _context(zone.primaries_ca).wrap_socket(stream, server_hostname=tls)
    except BaseException:
        stream.close()
        raise


def _message(stream: socket.socket, deadline: float) -> bytes:
    (length,) = _LENGTH.unpack(_exactly(stream, _LENGTH.size, deadline))
    return _exactly(stream, length, deadline)


def _exactly(stream: socket.socket, size: int, deadline: float) -> bytes:
    data = bytearray()
    while len(data) < size:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TransferError(f"takes longer than {WHOLE_SECONDS:g} s, or {GRACE_SECONDS:g} s for next to nothing")
        stream.settimeout(min(IDLE_SECONDS, left))
        more = stream.recv(size - len(data))
        if not more:
            raise EOFError("the connection ended in the midst")
        data += more
    return bytes(data)


@lru_cache(16)
def _context(authorities: str | None) -> ssl.SSLContext:
    """TLS as RFC 9103 section 8 asks for: version 1.3, and the primary's certificate is verified. Those of the machine
    take 20 ms to read."""
    context = ssl.create_default_context(cadata=authorities)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["dot"])
    return context


def _place(primary: str) -> tuple[tuple[str, int], str | None]:
    """Address and port of a primary, and the name in its certificate, None without TLS."""
    endpoint, _, name = primary.removeprefix(TLS).partition("#")
    place = parse_endpoint(endpoint)
    return place, (name or place[0]) if primary.startswith(TLS) else None


def _sign(query: dns.message.Message, key: TsigKey | None) -> None:
    if key is not None:
        name = dns.name.from_text(key.name)
        query.use_tsig({name: dns.tsig.Key(name, key.secret, key.algorithm.value)}, name)


def _said(error: BaseException) -> str:
    """What is wrong, in words; never the secret of a key."""
    if isinstance(error, dns.exception.Timeout | TimeoutError):
        return "does not answer"
    if isinstance(error, dns.xfr.TransferError):
        return f"answers {dns.rcode.to_text(error.rcode)}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"has a certificate that is not taken: {error.verify_message}"
    if isinstance(error, OSError):
        return f"cannot be reached: {error.strerror or error}"
    return f"sends what is no transfer: {type(error).__name__}: {error}"[:300]

"""What is answered without a look at the zones: malformed messages, refused questions, required cookies, failures.

Each of them has its outcome here, which tells it apart in the counters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from dnsvip.dns.control import CHAOS
from dnsvip.dns.protection.cookies import CookieCheck
from dnsvip.dns.protocol.builder import compose, size_limit
from dnsvip.dns.protocol.message import (
    COOKIE,
    IN,
    MIN_UDP_SIZE,
    Flaw,
    Malformed,
    Opcode,
    Query,
    Rcode,
    Response,
    Type,
)
from dnsvip.dns.protocol.tsig import BADKEY, BADSIG, BADTIME, BADTRUNC, Signature
from dnsvip.dns.reply import DnsOutcome, Reply
from dnsvip.dns.zones.lookup import Owner


class Content(NamedTuple):
    """What a response says, before it is a message."""

    outcome: DnsOutcome
    response: Response
    owner: Owner | None = None
    why: str = ""
    """The text of the extended error."""


def refusal(query: Query, signature: Signature | None) -> Content | None:
    """Why a well-formed question is not looked up; None where it is."""
    if signature and signature.rcode:
        return Content(_SIGNATURES[signature.error], Response(signature.rcode))
    if query.edns and query.edns.version:
        return Content(DnsOutcome.EDNS_VERSION, Response(Rcode.BADVERS))
    if query.opcode != Opcode.QUERY or query.qclass == CHAOS:
        return None
    if query.qclass != IN:
        return Content(DnsOutcome.CLASS, Response(Rcode.REFUSED))
    return _QTYPES.get(query.qtype)


def malformed_reply(malformed: Malformed, transport: str) -> Reply:
    """The error for a message that is no query; nothing is sent where it has no rcode."""
    outcome = _FLAWS[malformed.flaw]
    if malformed.rcode is None:
        return Reply(None, outcome, query=malformed)
    return error_reply(malformed, Response(malformed.rcode), size_limit(malformed, transport), outcome)


def cookie_required(query: Query, cookie: CookieCheck) -> Reply:
    """BADCOOKIE with the cookie to come back with (RFC 7873 section 5.2.3)."""
    response = Response(Rcode.BADCOOKIE, options=((COOKIE, cookie.answer),))
    return error_reply(query, response, MIN_UDP_SIZE, DnsOutcome.COOKIE_REQUIRED)


def failure(wire: bytes) -> Reply:
    """SERVFAIL for a message at which `Engine.decide` failed, which is a fault of ours."""
    id_, flags = int.from_bytes(wire[:2], "big"), int.from_bytes(wire[2:4], "big")
    return error_reply(Malformed(Flaw.RECORD, id_, flags), Response(Rcode.SERVFAIL), MIN_UDP_SIZE, DnsOutcome.FAILED)


def error_reply(asked: Query | Malformed, response: Response, limit: int, outcome: DnsOutcome) -> Reply:
    """A reply of at most `limit` bytes without any record of a zone."""
    wire, _, opt, _ = compose(asked, response, limit)
    return Reply(wire, outcome, response.rcode, asked, asked.question, opt)


_QTYPES: Mapping[int, Content] = {
    **dict.fromkeys((Type.MAILA, Type.MAILB), Content(DnsOutcome.META_TYPE, Response(Rcode.NOTIMP))),
    **dict.fromkeys((0, Type.OPT, *range(128, 251)), Content(DnsOutcome.META_TYPE, Response(Rcode.FORMERR))),
}
"""Types that are no data. Query and meta types are 128 to 255 (RFC 6895 section 3.1); nobody may query 128, NXNAME (RFC
9824 section 3.5). Answered as BIND does."""

_SIGNATURES: Mapping[int, DnsOutcome] = {
    0: DnsOutcome.BAD_TSIG,
    BADKEY: DnsOutcome.TSIG_KEY,
    BADSIG: DnsOutcome.TSIG_SIGNATURE,
    BADTIME: DnsOutcome.TSIG_TIME,
    BADTRUNC: DnsOutcome.TSIG_TRUNCATED,
}

_FLAWS: Mapping[Flaw, DnsOutcome] = {
    Flaw.SHORT: DnsOutcome.SHORT,
    Flaw.RESPONSE: DnsOutcome.RESPONSE,
    Flaw.OPCODE: DnsOutcome.OPCODE,
    Flaw.COUNTS: DnsOutcome.BAD_HEADER,
    Flaw.QUESTION: DnsOutcome.BAD_QUESTION,
    Flaw.RECORD: DnsOutcome.BAD_RECORD,
    Flaw.OPT: DnsOutcome.BAD_OPT,
    Flaw.ECS: DnsOutcome.BAD_ECS,
    Flaw.COOKIE: DnsOutcome.BAD_COOKIE,
    Flaw.TSIG: DnsOutcome.BAD_TSIG,
}

"""The answer to one message and everything learned on the way to it.

The engine returns a Reply; rate limiting, the query log and the counters read it, so nobody parses a question twice or
our own answer at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from dnsvip.dns.protocol.message import Malformed, Query
from dnsvip.dns.synthesis.issuer import Kind
from dnsvip.dns.zones.lookup import Owner
from dnsvip.site import Step


class Reply(NamedTuple):
    """The response to one message.

    `wire` is the response as sent, None where none is due; `more` yields the further messages of a zone transfer;
    `pending` is an update or a certificate that is to be made first.
    `query` is the message as parsed, None where the fast path recognized it by its bytes. `question` and `opt` are
    these parts of the response. `owner` is what rate limiting accounts by, None for errors. `cookie_valid` and
    `signature_verified` say how the requester proved its address or identity. `step`, `kind` and `tier` say, for a
    service's name, how the requester was identified, what address was made, and for a client of which tier.
    """

    wire: bytes | None
    outcome: DnsOutcome
    rcode: int | None = None
    query: Query | Malformed | None = None
    question: bytes = b""
    opt: bytes = b""
    aa: bool = False
    truncated: bool = False
    owner: Owner | None = None
    cookie_valid: bool = False
    signature_verified: bool = False
    step: Step | None = None
    kind: Kind | None = None
    tier: str | None = None
    more: Iterator[bytes] | None = None
    pending: Pending | None = None


class Pending(Protocol):
    """What the store is to do before there is a reply. `finish` makes the reply of an rcode and a text."""

    @property
    def finish(self) -> Callable[[int, str], Reply]:
        """See above."""


@dataclass(frozen=True, slots=True)
class PendingUpdate:
    """An UPDATE that its key may send, and the store is to make: the reply that it is in has no bytes yet.

    `wire` is the message without its TSIG record, whose MAC is `mac`; `source` is the address it came from. `finish`
    makes the reply of an rcode, and of why, for people.
    """

    zone: str
    key: str
    wire: bytes = field(repr=False)
    mac: bytes = field(repr=False)
    source: str
    finish: Callable[[int, str], Reply]


class DnsOutcome(StrEnum):
    """Why a message was answered as it was, or not at all; every message ends in exactly one."""

    SERVICE = "service"
    ANSWER = "answer"
    NODATA = "nodata"
    NXDOMAIN = "nxdomain"
    REFERRAL = "referral"
    NAME_TOO_LONG = "name-too-long"
    NO_ZONE = "no-zone"
    STRANGER = "stranger"
    BROKEN_ZONE = "broken-zone"
    SHORT = "short"
    RESPONSE = "response"
    BAD_PROXY = "bad-proxy"
    BAD_HEADER = "bad-header"
    BAD_QUESTION = "bad-question"
    BAD_RECORD = "bad-record"
    BAD_OPT = "bad-opt"
    BAD_ECS = "bad-ecs"
    BAD_COOKIE = "bad-cookie"
    COOKIE = "cookie"
    COOKIE_REQUIRED = "cookie-required"
    BAD_TSIG = "bad-tsig"
    TSIG_KEY = "tsig-badkey"
    TSIG_SIGNATURE = "tsig-badsig"
    TSIG_TIME = "tsig-badtime"
    TSIG_TRUNCATED = "tsig-badtrunc"
    EDNS_VERSION = "edns-version"
    OPCODE = "opcode"
    NOTIFY = "notify"
    NOTIFIED = "notified"
    UPDATE = "update"
    UPDATED = "updated"
    CLASS = "class"
    IDENTITY = "identity"
    ENROLMENT = "enrolment"
    TRANSFER = "transfer"
    TRANSFERRED = "transferred"
    META_TYPE = "meta-type"
    BUSY = "busy"
    FAILED = "failed"

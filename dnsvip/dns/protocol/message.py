"""DNS messages as values: record sets, queries, responses, and what can be wrong with them.

How they look as bytes is known to `parser` and `builder`, what they mean to `lookup` and `engine`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple, TypeAlias

from dnsvip.dns.protocol.names import Labels

Rdata: TypeAlias = tuple[bytes | Labels, ...]
"""Record data as pieces: bytes as they stand, and names that may be compressed (RFC 3597 section 4)."""

IN = 1
"""The only class served."""

HEADER_SIZE = 12
"""Bytes of a message's header (RFC 1035 section 4.1.1)."""

MIN_UDP_SIZE, MAX_SIZE = 512, 65535
"""Bytes of a response over UDP to a requester without EDNS, and of any message."""

MAX_QUERY = 1 << 12
"""Bytes of the longest message that is read, over UDP and TCP: each byte costs time, and no query needs more."""

MAX_UPDATE, MOST_UPDATE_RECORDS = 1 << 15, 1000
"""Bytes of the longest UPDATE (RFC 2136) over TCP, and the records in it."""

UDP_SIZE = 1232
"""The payload size this server advertises and never exceeds over UDP: no fragments on any IPv6 path (RFC 9715)."""

ECS, COOKIE = 8, 10
"""Codes of EDNS options (RFC 7871, RFC 7873)."""

MOST_OPTIONS, MOST_RECORDS = 32, 32
"""EDNS options, and additional records, of the longest list that is read: no query needs more, and each costs time."""

COOKIE_LENGTHS = frozenset((8, *range(16, 41)))
"""How long the data of a COOKIE option may be; any other is malformed (RFC 7873 section 4)."""


class Type(IntEnum):
    """Record types this server treats specially."""

    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    HINFO = 13
    MX = 15
    TXT = 16
    AAAA = 28
    SRV = 33
    DNAME = 39
    OPT = 41
    DS = 43
    RRSIG = 46
    NSEC = 47
    DNSKEY = 48
    NSEC3 = 50
    NSEC3PARAM = 51
    CDS = 59
    CDNSKEY = 60
    SVCB = 64
    HTTPS = 65
    NXNAME = 128
    TKEY = 249
    TSIG = 250
    IXFR = 251
    AXFR = 252
    MAILB = 253
    MAILA = 254
    ANY = 255


class Rcode(IntEnum):
    """Response codes in use; from 16 on they need an OPT record."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    YXDOMAIN = 6
    YXRRSET = 7
    NXRRSET = 8
    NOTAUTH = 9
    NOTZONE = 10
    BADVERS = 16
    BADCOOKIE = 23


class Opcode(IntEnum):
    """Operations whose messages have a readable question."""

    QUERY = 0
    NOTIFY = 4
    UPDATE = 5


def longest(third: int) -> int:
    """The bytes that a message may have over TCP, by the third of them: that with its opcode."""
    return MAX_UPDATE if third >> 3 & 15 == Opcode.UPDATE else MAX_QUERY


class Flag:
    """Bits of the header's second word."""

    QR, AA, TC, RD = 0x8000, 0x0400, 0x0200, 0x0100
    OPCODE = 0x7800


class Flaw(StrEnum):
    """What is wrong with a message."""

    SHORT = "short"
    RESPONSE = "response"
    OPCODE = "opcode"
    COUNTS = "counts"
    QUESTION = "question"
    RECORD = "record"
    OPT = "opt"
    ECS = "ecs"
    COOKIE = "cookie"
    TSIG = "tsig"


DUE: dict[Flaw, Rcode | None] = {
    **dict.fromkeys(Flaw, Rcode.FORMERR),
    Flaw.SHORT: None,
    Flaw.RESPONSE: None,
    Flaw.OPCODE: Rcode.NOTIMP,
}
"""The answer due to each flaw; None: none, as there is nobody to answer, or two servers would loop."""


class Subnet(NamedTuple):
    """An ECS option as sent: `family` 0 (with no address at all), 1 or 2; `address` in network order, padded."""

    family: int
    source_prefix: int
    address: bytes


@dataclass(frozen=True, slots=True)
class Edns:
    """The OPT record of a query. `options` are those not understood here (NSID, ...), as they came; `cookie` is the
    data of the first COOKIE option, of a legal length, empty where there is none. `compact_ok` is the CO flag of RFC
    9824: the requester takes NXDOMAIN with a compact denial."""

    udp_size: int
    version: int = 0
    do: bool = False
    subnet: Subnet | None = None
    options: tuple[tuple[int, bytes], ...] = ()
    cookie: bytes = b""
    compact_ok: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """A well-formed question. `qname` has the requester's case, `key` is lower; `question` is its section as sent,
    empty in a query for nothing but a cookie (RFC 7873 section 5.4).

    `tsig_at` is where the TSIG record starts, 0 where there is none. `serial` is the serial in an IXFR query's SOA
    record (RFC 1995 section 3), None where there is none.
    """

    id: int
    flags: int
    question: bytes
    qname: Labels
    key: Labels
    qtype: int
    qclass: int
    edns: Edns | None = None
    tsig_at: int = 0
    serial: int | None = None

    @property
    def opcode(self) -> int:
        """The header's OPCODE."""
        return (self.flags & Flag.OPCODE) >> 11


@dataclass(frozen=True, slots=True)
class Malformed:
    """A malformed message. `rcode` None: no response is due. `question` and `edns` as far as they were read."""

    flaw: Flaw
    id: int = 0
    flags: int = 0
    question: bytes = b""
    edns: Edns | None = None

    @property
    def rcode(self) -> Rcode | None:
        """The rcode of the response that is due."""
        return DUE[self.flaw]


class RRset(NamedTuple):
    """Records of one name and type. `targets` are the names in their data that a look-up continues with, as written."""

    owner: Labels
    rtype: int
    ttl: int
    rdatas: tuple[Rdata, ...]
    targets: tuple[Labels, ...] = ()


@dataclass(frozen=True, slots=True)
class Response:
    """What to answer. `glue` must be in the message or it is truncated (RFC 9471); `additional` only where it fits.
    Both may have sets without records, which are not sent.

    `options` are EDNS options, (code, data), and `compact_ok` is the CO flag (RFC 9824 section 5.1), both sent where
    the question had an OPT record.
    """

    rcode: int = Rcode.NOERROR
    aa: bool = False
    answer: tuple[RRset, ...] = ()
    authority: tuple[RRset, ...] = ()
    glue: Iterable[RRset] = ()
    additional: Iterable[RRset] = ()
    options: tuple[tuple[int, bytes], ...] = ()
    compact_ok: bool = False

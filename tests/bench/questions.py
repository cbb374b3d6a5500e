"""The queries of the bench as bytes, prepared before the clock starts: one name, with or without ECS (RFC 7871)."""

from __future__ import annotations

from itertools import count
from random import Random
from struct import pack

KNOWN = 10_000
"""Prefixes that the servers are configured with, from 10.0.0.0/24 on."""

FIRST_KNOWN = 10 << 24
FIRST_NEW = 16 << 24
SPACE = 10 << 24
"""The addresses from FIRST_NEW on, divided into 10 * 2 ** n client prefixes when their number varies."""

QNAME = b"\3www\7example\4test\0"
AAAA = 28
_NO_FLAGS = 0
_OPT = 41
_ECS = 8
_UDP_SIZE = 1232

_news = count(FIRST_NEW >> 8)


def plain(*, do: bool = False) -> bytes:
    """The query without EDNS, as dnsperf sends it, or with DO (RFC 3225); its id is 0."""
    if do:
        return pack("!6H", 0, _NO_FLAGS, 1, 0, 0, 1) + QNAME + pack("!2H", AAAA, 1) + _opt(b"", do=True)
    return pack("!6H", 0, _NO_FLAGS, 1, 0, 0, 0) + QNAME + pack("!2H", AAAA, 1)


def missing(number: int, random: Random) -> list[bytes]:
    """Queries with DO for random names right below the zone, none of which exists."""
    head, tail = pack("!6H", 0, _NO_FLAGS, 1, 0, 0, 1), QNAME[4:] + pack("!2H", AAAA, 1) + _opt(b"", do=True)
    return [head + b"\x0c" + b"%012x" % random.getrandbits(48) + tail for _ in range(number)]


def _opt(options: bytes, *, do: bool = False) -> bytes:
    return pack("!B2HIH", 0, _OPT, _UDP_SIZE, 0x8000 if do else 0, len(options)) + options


def with_ecs(address: int, length: int, *, do: bool = False) -> bytes:
    """The query with the first `length` bits of an IPv4 address; the remaining bits must be 0."""
    used = (length + 7) // 8
    option = pack("!3H2B", _ECS, 4 + used, 1, length, 0)
    option += address.to_bytes(4, "big")[:used]
    return pack("!6H", 0, _NO_FLAGS, 1, 0, 0, 1) + QNAME + pack("!2H", AAAA, 1) + _opt(option, do=do)


def known(number: int, random: Random) -> list[bytes]:
    """Queries with known prefixes in random order; no prefix repeats before all were used."""
    order = list(range(KNOWN))
    random.shuffle(order)
    return [with_ecs(FIRST_KNOWN + (order[i % KNOWN] << 8), 24) for i in range(number)]


def new(number: int, *, do: bool = False) -> list[bytes]:
    """Queries with /24 prefixes that are new in this run and unknown to every server."""
    return [with_ecs(next(_news) << 8, 24, do=do) for _ in range(number)]


def anywhere(number: int, random: Random) -> list[bytes]:
    """Queries with random single addresses of SPACE."""
    return [with_ecs(FIRST_NEW + random.randrange(SPACE), 32) for _ in range(number)]

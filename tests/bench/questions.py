"""The questions of the bench as bytes, made before the clock runs: one name, with or without ECS (RFC 7871)."""

from __future__ import annotations

from itertools import count
from random import Random
from struct import pack

KNOWN = 10_000
"""Prefixes that the servers are configured with: 10.0.0.0/24 and on."""

FIRST_KNOWN = 10 << 24
FIRST_NEW = 16 << 24
SPACE = 10 << 24
"""Addresses from FIRST_NEW on that are divided into 10, or 10 * 2 ** n, client prefixes where their number varies."""

QNAME = b"\3www\7example\4test\0"
AAAA = 28
_NO_FLAGS = 0
_OPT = 41
_ECS = 8
_UDP_SIZE = 1232

_news = count(FIRST_NEW >> 8)


def plain() -> bytes:
    """The question without EDNS, as dnsperf asks it; the first two bytes, the id, are 0."""
    return pack("!6H", 0, _NO_FLAGS, 1, 0, 0, 0) + QNAME + pack("!2H", AAAA, 1)


def with_ecs(address: int, length: int) -> bytes:
    """The question with the first `length` bits of an IPv4 address; the bits after them must be 0."""
    used = (length + 7) // 8
    option = pack("!3H2B", _ECS, 4 + used, 1, length, 0)
    option += address.to_bytes(4, "big")[:used]
    opt = pack("!B2HIH", 0, _OPT, _UDP_SIZE, 0, len(option)) + option
    return pack("!6H", 0, _NO_FLAGS, 1, 0, 0, 1) + QNAME + pack("!2H", AAAA, 1) + opt


def known(number: int, random: Random) -> list[bytes]:
    """Questions with known prefixes in random order, all of them before one comes again."""
    order = list(range(KNOWN))
    random.shuffle(order)
    return [with_ecs(FIRST_KNOWN + (order[i % KNOWN] << 8), 24) for i in range(number)]


def new(number: int) -> list[bytes]:
    """Questions with /24 prefixes that nobody has asked with in this run, and that no server knows."""
    return [with_ecs(next(_news) << 8, 24) for _ in range(number)]


def anywhere(number: int, random: Random) -> list[bytes]:
    """Questions with any single addresses of SPACE."""
    return [with_ecs(FIRST_NEW + random.randrange(SPACE), 32) for _ in range(number)]

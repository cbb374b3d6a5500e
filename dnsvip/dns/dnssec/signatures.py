"""Signatures that have been made, until they are due to be made anew.

A signature costs about as much as the rest of an answer, so each is kept: by the zone's keys and by all that it covers.
Memory is bounded, in parts, so that neither names that nobody has nor addresses made per client evict the sets of
the zones.
"""

from __future__ import annotations

from enum import IntEnum
from hashlib import blake2b
from struct import unpack_from
from typing import NamedTuple, TypeAlias

from dnsvip.dns.dnssec.keys import ZoneKeys
from dnsvip.dns.dnssec.rrsig import rrsig
from dnsvip.dns.protocol.message import Rdata, RRset
from dnsvip.dns.protocol.names import Labels, flat_name, lowered
from dnsvip.dns.two_generation_cache import TwoGenerationCache

SIGNATURES = 1 << 14
"""How many are kept at least in each part, twice as many at most."""

BACKDATED = 3600
"""Seconds between the inception of a signature and its making: clocks of validators differ."""

LONGEST, SHORTEST = 14 * 86400, 11 * 86400
"""Seconds that new signatures are valid for: somewhere between, by their owner, so that not all are due at once."""

LEAST = 7 * 86400
"""Seconds of validity that a signature in an answer has left at least: that covers its way through caches, and the
time to mend a server."""


class Part(IntEnum):
    """Where a signature is kept: of a zone's own sets, of sets made per requester, of names that are in no zone, of a
    chain of NSEC."""

    STATIC = 0
    MADE = 1
    OTHER = 2
    CHAIN = 3


class _Kept(NamedTuple):
    """A signature, and between which times (unix seconds) it is used."""

    rrset: RRset
    since: float
    until: float


_Key: TypeAlias = tuple[bytes, Labels, int, int, tuple[Rdata, ...]]


class Signatures:
    """The signatures of one thread's engines. A new engine takes those of the one before."""

    def __init__(self) -> None:
        self._parts: tuple[TwoGenerationCache[_Key, _Kept], ...] = tuple(
            TwoGenerationCache(SIGNATURES, _weight) for _ in Part
        )

    def of(self, rrset: RRset, keys: ZoneKeys, part: Part, now: float) -> RRset:
        """The signatures of a set at `now` (unix seconds), with the case of its owner."""
        owner = lowered(rrset.owner)
        key = keys.identity, owner, rrset.rtype, rrset.ttl, rrset.rdatas
        cache = self._parts[part]
        kept = cache.get(key)
        if kept is None or not kept.since <= now < kept.until:
            inception, expiration = validity(owner, now)
            signed = rrsig(rrset._replace(owner=owner), keys, inception, expiration)
            kept = cache.put(key, _Kept(signed, inception, expiration - LEAST))
        return kept.rrset if owner == rrset.owner else kept.rrset._replace(owner=rrset.owner)


def period(data: bytes) -> tuple[int, int]:
    """When a signature that was made here is used, in unix seconds, from and to before, by the data of its record (RFC
    4034 section 3.1)."""
    expiration, inception = unpack_from("!II", data, _EXPIRATION_AT)
    return inception, expiration - LEAST


def validity(owner: Labels, now: float) -> tuple[int, int]:
    """Inception and expiration, unix seconds, of a signature for an owner made at `now`."""
    jitter = int.from_bytes(blake2b(flat_name(owner), digest_size=4).digest(), "big") % (LONGEST - SHORTEST)
    return int(now) - BACKDATED, int(now) + LONGEST - jitter


def _weight(key: _Key, kept: _Kept) -> int:
    """Bytes of a signature, of what it covers, and of the objects around them."""
    data = sum(len(piece) if isinstance(piece, bytes) else 100 for rdata in key[4] for piece in rdata)
    return _OVERHEAD + data + sum(len(piece) for rdata in kept.rrset.rdatas for piece in rdata)


_OVERHEAD = 800
_EXPIRATION_AT = 8

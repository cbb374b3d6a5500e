"""NSEC3 white lies (RFC 5155, RFC 7129 appendix B): records about the very hashes that an answer needs, made with it.

Each covers the hash of one name and nothing else, so a zone cannot be walked, and its hashes cannot be collected.
There is no salt and no further iteration (RFC 9276 section 3.1).
"""

from __future__ import annotations

from base64 import b32hexencode
from collections.abc import Iterable
from hashlib import sha1

from dnsvip.dns.dnssec.denial import bitmap
from dnsvip.dns.protocol.message import RRset, Type
from dnsvip.dns.protocol.names import Labels, flat_name, lowered

PARAMETERS = bytes((1, 0, 0, 0, 0))
"""SHA-1, no flags, no iterations, no salt: the data of NSEC3PARAM (RFC 5155 section 4.2)."""

HASH_BYTES = 20
_HASHES = 1 << 8 * HASH_BYTES


def matching(name: Labels, apex: Labels, types: Iterable[int], ttl: int) -> RRset:
    """The NSEC3 of a name that exists, with its types."""
    return _record(_hashed(name), 1, apex, types, ttl)


def covering(name: Labels, apex: Labels, ttl: int) -> RRset:
    """The NSEC3 that says that a name does not exist, from the hash before its own to the one behind it."""
    return _record((_hashed(name) - 1) % _HASHES, 2, apex, (), ttl)


def _record(owner: int, beyond: int, apex: Labels, types: Iterable[int], ttl: int) -> RRset:
    label = b32hexencode(owner.to_bytes(HASH_BYTES, "big")).lower()
    following = ((owner + beyond) % _HASHES).to_bytes(HASH_BYTES, "big")
    data = PARAMETERS + bytes((HASH_BYTES,)) + following + bitmap(types)
    return RRset((label, *apex), Type.NSEC3, ttl, ((data,),))


def _hashed(name: Labels) -> int:
    """The hash of a name in canonical form (RFC 5155 section 5), as a number."""
    return int.from_bytes(sha1(flat_name(lowered(name)), usedforsecurity=False).digest(), "big")

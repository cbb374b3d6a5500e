"""Compact denial of existence (RFC 9824): one NSEC at the very name that was asked for.

Its next name is the one right behind it, so it says nothing of other names; its types are those that the name has. A
name that does not exist has NXNAME among them. Nobody can walk such a zone, and every denial costs one signature.
"""

from __future__ import annotations

from collections.abc import Iterable

from dnsvip.dns.protocol.message import RRset, Type
from dnsvip.dns.protocol.names import MAX_LABEL, MAX_NAME, Labels, flat_name, lowered, name_length

ALWAYS = frozenset({Type.RRSIG, Type.NSEC})
"""Types that every name of a signed zone has."""


def compact(name: Labels, apex: Labels, types: Iterable[int], ttl: int) -> RRset:
    """The compact NSEC at `name` of the zone at `apex`."""
    return nsec(name, successor(lowered(name), apex), types, ttl)


def nsec(name: Labels, following: Labels, types: Iterable[int], ttl: int) -> RRset:
    """The NSEC at `name` (RFC 4034 section 4); `following` (lower case) is the name behind."""
    return RRset(name, Type.NSEC, ttl, ((flat_name(following) + bitmap(types),),))


def bitmap(types: Iterable[int]) -> bytes:
    """Types as NSEC has them: for each window of 256 its number, the length of its bits, and these (RFC 4034 section
    4.1.2)."""
    windows: dict[int, bytearray] = {}
    for rtype in sorted(types):
        bits = windows.setdefault(rtype >> 8, bytearray())
        at = (rtype & 0xFF) >> 3
        bits += bytes(at + 1 - len(bits))
        bits[at] |= 0x80 >> (rtype & 7)
    return b"".join([bytes((window, len(bits))) + bits for window, bits in windows.items()])


def successor(name: Labels, apex: Labels) -> Labels:
    """The name right behind one (lower case) in canonical order: with a label of one zero octet in front, as RFC
    9824 section 3.1 has it; where that is too long, as RFC 4471 section 3.1.2. Behind the last name of
    a zone is its apex."""
    if name_length(name) + 2 <= MAX_NAME:
        return (b"\0", *name)
    while name != apex:
        first, rest = name[0], name[1:]
        if name_length(name) < MAX_NAME and len(first) < MAX_LABEL:
            return (first + b"\0", *rest)
        stripped = first.rstrip(b"\xff")
        if stripped:
            return (stripped[:-1] + bytes((_AFTER.get(stripped[-1], stripped[-1] + 1),)), *rest)
        name = rest
    return apex


_AFTER = {ord("@"): ord("[")}
"""Octets whose successor is not the next number: capital letters count as small ones."""

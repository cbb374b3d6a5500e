"""How much work the names of a message are to a library that reads them label by label, as dnspython does.

An answer of 64 KB has 4,000 names of 127 labels by pointers, and one of these is 4 ms of work: reading it would hold up
all else that the program does for 15 s. The work grows with the square of a name's octets.
"""

from __future__ import annotations

from collections.abc import Mapping

from dnsvip.client.wire_names import BadName, WireNames

MOST_WEIGHT = 4_000_000
"""Squares of octets in all: 60 names of 255 octets, a quarter of a second; thousands of ordinary ones."""

_HEADER, _FIXED = 12, 10
_NAMES: Mapping[int, tuple[int, int]] = {
    **dict.fromkeys((2, 3, 4, 5, 7, 8, 9, 12, 23, 30, 39, 47), (0, 1)),  # NS to DNAME, and NSEC
    **dict.fromkeys((6, 14, 17), (0, 2)),  # SOA, MINFO, RP
    **dict.fromkeys((15, 18, 21, 36, 64, 65), (2, 1)),  # MX to KX, and SVCB
    **dict.fromkeys((24, 46), (18, 1)),  # SIG, RRSIG
    26: (2, 2),  # PX
    33: (6, 1),  # SRV
}
"""By type, how many octets are before the first name in its data, and how many names there are."""


def is_heavy(wire: bytes) -> bool:
    """Whether the names of a message, up to where it cannot be read, are more work than any honest one's."""
    names, at = WireNames(wire), _HEADER
    questions, *records = (_number(wire, offset) for offset in range(4, _HEADER, 2))
    weight = 0
    try:
        for _ in range(questions):
            name = names.at(at)
            at, weight = name.end + 4, weight + name.expanded**2
        for _ in range(sum(records)):
            owner = names.at(at)
            weight += owner.expanded**2
            before, number = _NAMES.get(_number(wire, owner.end), (0, 0))
            at = owner.end + _FIXED + before
            for _ in range(number):
                name = names.at(at)
                at, weight = name.end, weight + name.expanded**2
            if weight > MOST_WEIGHT:
                return True
            at = owner.end + _FIXED + _number(wire, owner.end + 8)
    except BadName:
        pass
    return weight > MOST_WEIGHT


def _number(wire: bytes, at: int) -> int:
    return int.from_bytes(wire[at : at + 2], "big")

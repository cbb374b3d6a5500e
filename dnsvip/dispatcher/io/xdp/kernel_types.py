"""The structs and enums of the dispatcher's kernel program, by the type information (BTF) of its object.

Each struct is declared once, in C (xdp/programs); Python packs its members by name. A module of its own, because
everything that writes or reads a map needs it.
"""

from __future__ import annotations

from dnsvip.xdp.structs import ObjectTypes, u64

OBJECT = "dispatch"
TYPES = ObjectTypes(OBJECT)


def absent() -> int:
    """NONE in C: no tier, pool, ring or server."""
    return TYPES.constants("absent")["NONE"]


def wide(number: int) -> bytes:
    """A `struct wide`: a number of 128 bits."""
    return u64(number >> 64) + u64(number & (1 << 64) - 1)


def padded(address: bytes) -> bytes:
    """An address of 4 or 16 bytes as the maps hold it: in the last bytes of sixteen."""
    return address.rjust(16, b"\0")

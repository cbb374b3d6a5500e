"""Named numbers side by side in one integer: the fields of a payload, of claims, of a source address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from dnsvip.errors import CodecError

Fields: TypeAlias = tuple[tuple[str, int], ...]
"""(name, bits), most significant first."""

Shifts: TypeAlias = tuple[tuple[str, int, int], ...]
"""(name, left shift, largest value)."""


def width(fields: Fields) -> int:
    """Bits of all fields."""
    return sum(bits for _, bits in fields)


def shifts_of(fields: Fields) -> Shifts:
    """The place of each field."""
    shifts, below = [], width(fields)
    for name, bits in fields:
        below -= bits
        shifts.append((name, below, (1 << bits) - 1))
    return tuple(shifts)


def pack(shifts: Shifts, values: Mapping[str, int], what: str) -> int:
    """The integer for one value per field of `what`; raises CodecError for a missing, unknown or too large value."""
    number = 0
    for name, shift, top in shifts:
        value = values.get(name, -1)
        if not 0 <= value <= top:
            raise CodecError(f"field {name!r}: {_wrong_value(name, values)} (0 to {top} fits its bits)")
        number |= value << shift
    if len(values) != len(shifts):
        unknown = ", ".join(sorted(set(values) - {name for name, _, _ in shifts}))
        raise CodecError(f"{what} has no field {unknown}")
    return number


def unpack(shifts: Shifts, number: int) -> dict[str, int]:
    """The values of all fields in an integer."""
    return {name: number >> shift & top for name, shift, top in shifts}


def pack_claims(fields: Fields, values: Mapping[str, int]) -> int:
    """The integer of claims; those that are not named are 0, "not set". Raises CodecError as `pack` does."""
    shifts = shifts_of(fields)
    known = ", ".join(name for name, _, _ in shifts) or "none"
    said = {name: values.get(name, 0) for name, _, _ in shifts} | dict(values)
    return pack(shifts, said, f"a claim of this cluster ({known})")


def _wrong_value(name: str, values: Mapping[str, int]) -> str:
    return f"value {values[name]} is out of range" if name in values else "value missing"

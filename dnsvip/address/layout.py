"""The position of each field in an encoded VIP (address/README.md, "IPv6: bits").

    |<- p bits ->|  1   |   2   |<--- N bits --->|<- T bits ->|      p + 3 + N + T = 128
    |   prefix   | mode | epoch |   ciphertext   |    tag     |

A Layout is arithmetic over 128-bit integers. It knows neither keys nor the meaning of a field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Network

from dnsvip.errors import CodecError

EPOCH_SLOTS = 4
MIN_PAYLOAD_BITS, MAX_PAYLOAD_BITS = 20, 80
MIN_TAG_BITS, MAX_TAG_BITS = 8, 64
MIN_PREFIX_BITS, MAX_PREFIX_BITS = 32, 96
SHORT_TAG_BITS = 16
"""Fewer tag bits than this cause a warning: one forged address in 2^T passes."""

RESERVED_NAMES = frozenset({"tier", "client", "expiry", "nonce", "session"})


@dataclass(frozen=True, slots=True)
class Layout:
    """The fields of one cluster's suffix. `fields` are (name, bits), most significant first.

    Raises CodecError where prefix, fields and tag do not add up to 128 bits or break a bound.
    """

    prefix: IPv6Network
    fields: tuple[tuple[str, int], ...]
    tag_bits: int
    payload_bits: int = field(init=False)
    prefix_int: int = field(init=False, repr=False)
    _shifts: tuple[tuple[str, int, int], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "payload_bits", sum(bits for _, bits in self.fields))
        _check_bounds(self)
        shifts, below = [], self.payload_bits
        for name, bits in self.fields:
            below -= bits
            shifts.append((name, below, (1 << bits) - 1))
        object.__setattr__(self, "prefix_int", int(self.prefix.network_address))
        object.__setattr__(self, "_shifts", tuple(shifts))

    @property
    def host_bits(self) -> int:
        """All bits below the prefix: 128 - p."""
        return 128 - self.prefix.prefixlen

    @property
    def mode_bit(self) -> int:
        """The mode bit as a mask over the whole address."""
        return 1 << (self.host_bits - 1)

    @property
    def epoch_shift(self) -> int:
        """Left shift of the two epoch bits."""
        return self.host_bits - 3

    @property
    def tag_mask(self) -> int:
        """The tag bits as a mask over the whole address."""
        return (1 << self.tag_bits) - 1

    @property
    def cheap_tag_bits(self) -> int:
        """c = T // 3, the bits of the issued tag that survive in a proven address."""
        return self.tag_bits // 3

    def bits(self, name: str) -> int:
        """Width of the field `name`, 0 where the layout has none."""
        return dict(self.fields).get(name, 0)

    def pack(self, values: Mapping[str, int]) -> int:
        """The payload integer for `values`; raises CodecError for a missing, unknown or too large value."""
        payload = 0
        for name, shift, top in self._shifts:
            value = values.get(name, -1)
            if not 0 <= value <= top:
                raise CodecError(f"field {name!r}: {_wrong_value(name, values)} (0 to {top} fits its bits)")
            payload |= value << shift
        if len(values) != len(self._shifts):
            unknown = ", ".join(sorted(set(values) - {name for name, _ in self.fields}))
            raise CodecError(f"the layout has no field {unknown}")
        return payload

    def unpack(self, payload: int) -> dict[str, int]:
        """The values of all fields in a payload integer of N bits."""
        return {name: payload >> shift & top for name, shift, top in self._shifts}

    def get(self, payload: int, name: str) -> int:
        """The value of one field in a payload, 0 where the layout has no such field."""
        for known, shift, top in self._shifts:
            if known == name:
                return payload >> shift & top
        return 0


def _wrong_value(name: str, values: Mapping[str, int]) -> str:
    return f"value {values[name]} is out of range" if name in values else "value missing"


def _check_bounds(layout: Layout) -> None:
    p, n, t = layout.prefix.prefixlen, layout.payload_bits, layout.tag_bits
    names = [name for name, _ in layout.fields]
    rules = (
        (MIN_PREFIX_BITS <= p <= MAX_PREFIX_BITS, f"prefix length {p}: must be 32 to 96"),
        (MIN_TAG_BITS <= t <= MAX_TAG_BITS, f"tag_bits {t}: must be 8 to 64"),
        (all(bits > 0 for _, bits in layout.fields), "every field needs at least one bit"),
        (len(set(names)) == len(names), "a field name is used twice"),
        (bool({"tier", "client"} & set(names)), "a layout needs at least one of tier and client"),
        (
            MIN_PAYLOAD_BITS <= n <= MAX_PAYLOAD_BITS,
            f"the fields take {n} bits: must be 20 to 80 in all",
        ),
        (
            p + 3 + n + t == 128,
            f"prefix {p} + mode 1 + epoch 2 + fields {n} + tag {t} = {p + 3 + n + t} bits: must be 128",
        ),
    )
    for holds, message in rules:
        if not holds:
            raise CodecError(message)

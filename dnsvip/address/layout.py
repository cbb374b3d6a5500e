"""The position of each field in an encoded VIP (address/README.md, "IPv6: bits").

    |<- p bits ->|  1   |   2   |<--- N bits --->|<- K bits ->|<- T bits ->|      p + 3 + N + K + T = 128
    |   prefix   | mode | epoch |   ciphertext   |   claims   |    tag     |

A Layout is arithmetic over 128-bit integers. It knows neither keys nor the meaning of a field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Network

from dnsvip.address.fields import Fields, Shifts, pack, shifts_of, unpack, width
from dnsvip.errors import CodecError

EPOCH_SLOTS = 4
MIN_PAYLOAD_BITS, MAX_PAYLOAD_BITS = 20, 80
MIN_TAG_BITS, MAX_TAG_BITS = 8, 64
MIN_PREFIX_BITS, MAX_PREFIX_BITS = 32, 96
MAX_CLAIM_BITS = 24
SHORT_TAG_BITS = 16
"""Fewer tag bits than this cause a warning: one forged address in 2^T passes."""

RESERVED_NAMES = frozenset({"tier", "client", "expiry", "nonce", "session"})
NOT_CLAIMED = frozenset({"tier", "client", "expiry", "nonce"})
"""What the DNS server alone says: no claim has such a name."""


def _derived() -> int:
    """A number that follows from the others: a field and no property, as it is read for every new flow."""
    number: int = field(init=False, repr=False, compare=False)
    return number


@dataclass(frozen=True, slots=True)
class Layout:
    """The fields of one cluster's suffix. `fields` and `claims` are (name, bits), most significant first.

    Raises CodecError where prefix, fields, claims and tag do not add up to 128 bits or break a bound.
    """

    prefix: IPv6Network
    fields: Fields
    tag_bits: int
    claims: Fields = ()
    payload_bits: int = field(init=False)
    claim_bits: int = field(init=False)
    prefix_int: int = field(init=False, repr=False)
    host_bits: int = _derived()
    """All bits below the prefix: 128 - p."""
    mode_bit: int = _derived()
    """The mode bit as a mask over the whole address."""
    epoch_shift: int = _derived()
    """Left shift of the two epoch bits."""
    payload_shift: int = _derived()
    """Left shift of the ciphertext."""
    claim_mask: int = _derived()
    """The claims' bits as a mask over the whole address; 0 without claims."""
    tag_mask: int = _derived()
    """The tag bits as a mask over the whole address."""
    body_mask: int = _derived()
    """All bits of the address but those of claims and tag."""
    cheap_tag_bits: int = _derived()
    """c = T // 3, the bits of the issued tag that survive in a proven address."""
    proof_bits: int = _derived()
    """The other tag bits, T - c."""
    proof_mask: int = _derived()
    """Them as a mask over the whole address."""
    _shifts: Shifts = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "payload_bits", width(self.fields))
        object.__setattr__(self, "claim_bits", width(self.claims))
        _check_bounds(self)
        for name, number in _derivatives(self).items():
            object.__setattr__(self, name, number)
        object.__setattr__(self, "_shifts", shifts_of(self.fields))

    def bits(self, name: str) -> int:
        """Width of the field `name`, 0 where the layout has none."""
        return dict(self.fields).get(name, 0)

    def pack(self, values: Mapping[str, int]) -> int:
        """The payload integer for `values`; raises CodecError for a missing, unknown or too large value."""
        return pack(self._shifts, values, "the layout")

    def unpack(self, payload: int) -> dict[str, int]:
        """The values of all fields in a payload integer of N bits."""
        return unpack(self._shifts, payload)

    def get(self, payload: int, name: str) -> int:
        """The value of one field in a payload, 0 where the layout has no such field."""
        for known, shift, top in self._shifts:
            if known == name:
                return payload >> shift & top
        return 0


def _derivatives(layout: Layout) -> dict[str, int]:
    host_bits, tag_bits, claim_bits = 128 - layout.prefix.prefixlen, layout.tag_bits, layout.claim_bits
    tag_mask, claim_mask = (1 << tag_bits) - 1, ((1 << claim_bits) - 1) << tag_bits
    proof_bits = tag_bits - tag_bits // 3
    return {
        "prefix_int": int(layout.prefix.network_address),
        "host_bits": host_bits,
        "mode_bit": 1 << host_bits - 1,
        "epoch_shift": host_bits - 3,
        "payload_shift": claim_bits + tag_bits,
        "claim_mask": claim_mask,
        "tag_mask": tag_mask,
        "body_mask": (1 << 128) - 1 & ~(tag_mask | claim_mask),
        "cheap_tag_bits": tag_bits // 3,
        "proof_bits": proof_bits,
        "proof_mask": (1 << proof_bits) - 1,
    }


def _check_bounds(layout: Layout) -> None:
    p, n, k, t = layout.prefix.prefixlen, layout.payload_bits, layout.claim_bits, layout.tag_bits
    names = [name for name, _ in layout.fields]
    claims = [name for name, _ in layout.claims]
    parts = f"prefix {p} + mode 1 + epoch 2 + fields {n}{f' + claims {k}' if k else ''} + tag {t}"
    rules = (
        (MIN_PREFIX_BITS <= p <= MAX_PREFIX_BITS, f"prefix length {p}: must be 32 to 96"),
        (MIN_TAG_BITS <= t <= MAX_TAG_BITS, f"tag_bits {t}: must be 8 to 64"),
        (all(bits > 0 for _, bits in (*layout.fields, *layout.claims)), "every field needs at least one bit"),
        (len({*names, *claims}) == len(names) + len(claims), "a field name is used twice"),
        (not NOT_CLAIMED & set(claims), f"{', '.join(sorted(NOT_CLAIMED & set(claims)))} cannot be claimed"),
        (k <= MAX_CLAIM_BITS, f"the claims take {k} bits: must be {MAX_CLAIM_BITS} at most in all"),
        (bool({"tier", "client"} & set(names)), "a layout needs at least one of tier and client"),
        (
            MIN_PAYLOAD_BITS <= n <= MAX_PAYLOAD_BITS,
            f"the fields take {n} bits: must be 20 to 80 in all",
        ),
        (
            p + 3 + n + k + t == 128,
            f"{parts} = {p + 3 + n + k + t} bits: must be 128",
        ),
    )
    for holds, message in rules:
        if not holds:
            raise CodecError(message)

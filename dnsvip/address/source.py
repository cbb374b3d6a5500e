"""A client's own address that says who it is (address/README.md, "Source").

    |<- 64 bits ->| 1 |   2   |<--- N bits --->|<- T bits ->|      3 + N + T = 64
    |  client's   | 0 | epoch |   ciphertext   |    tag     |

It is bound to the client's /64 by the tag, and read of packets to the plain VIP only. It holds for one (cluster,
epoch), with keys of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Network

from dnsvip.address.ff1 import Ff1
from dnsvip.address.fields import Fields, Shifts, pack, shifts_of, unpack, width
from dnsvip.address.layout import EPOCH_SLOTS, MIN_PAYLOAD_BITS, MIN_TAG_BITS
from dnsvip.address.mac import derive, siphash
from dnsvip.address.suffix import SECRET_BYTES, EpochKeys
from dnsvip.errors import CodecError

SOURCE_BITS = 64
"""Bits of an interface identifier (RFC 4291 section 2.5.1)."""

_HOST = (1 << SOURCE_BITS) - 1
_MODE, _EPOCH_SHIFT = 1 << SOURCE_BITS - 1, SOURCE_BITS - 3


@dataclass(frozen=True, slots=True)
class SourceFormat:
    """The fields of the source addresses of one cluster, whose network address is `cluster`; (name, bits), most
    significant first.

    Raises CodecError where they do not make 64 bits or break a bound.
    """

    cluster: IPv6Network
    fields: Fields
    tag_bits: int
    payload_bits: int = field(init=False)
    _shifts: Shifts = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "payload_bits", width(self.fields))
        _check_bounds(self)
        object.__setattr__(self, "_shifts", shifts_of(self.fields))

    def pack(self, values: Mapping[str, int]) -> int:
        """The payload for one value per field; raises CodecError as `Layout.pack` does."""
        return pack(self._shifts, values, "the source layout")

    def unpack(self, payload: int) -> dict[str, int]:
        """The values of all fields of a payload."""
        return unpack(self._shifts, payload)


class SourceCodec:
    """Make and read source addresses under one epoch's keys, or the 32-byte secret that they are derived from.

    Raises CodecError for a secret of another length or an epoch slot outside 0 to 3.
    """

    __slots__ = ("_ff1", "_mac_key", "_payload_mask", "_tag_mask", "_tag_shift", "epoch", "format")

    def __init__(self, form: SourceFormat, secret: bytes | EpochKeys, epoch: int) -> None:
        keys = secret if isinstance(secret, EpochKeys) else source_keys(secret, form)
        if not 0 <= epoch < EPOCH_SLOTS:
            raise CodecError(f"epoch slot {epoch}: must be 0 to 3")
        self.format, self.epoch = form, epoch
        self._ff1 = Ff1(keys.encryption, form.payload_bits)
        self._mac_key = keys.tag
        self._tag_mask = (1 << form.tag_bits) - 1
        self._tag_shift = 64 - form.tag_bits
        self._payload_mask = (1 << form.payload_bits) - 1

    def seal(self, network: int, payload: int) -> int:
        """The address in the client's /64 (an address of it, as a number) that carries a payload."""
        host = self.epoch << _EPOCH_SHIFT | self._ff1.encrypt(payload) << self.format.tag_bits
        body = network & ~_HOST | host
        return body | self._tag(body)

    def authentic(self, address: int) -> bool:
        """Whether an address is one of this cluster's and epoch's, in the /64 that it was made for."""
        named = (address & _HOST) >> _EPOCH_SHIFT
        return named == self.epoch and not (address ^ self._tag(address & ~self._tag_mask)) & self._tag_mask

    def open(self, address: int) -> int:
        """The payload of an address. It does not authenticate: call `authentic` first."""
        return self._ff1.decrypt(address >> self.format.tag_bits & self._payload_mask)

    def _tag(self, body: int) -> int:
        return siphash(self._mac_key, body.to_bytes(16, "big")) >> self._tag_shift


def source_epoch(address: int) -> int | None:
    """The epoch slot that a source address names; None where it can be none, as its first bit is set."""
    return None if address & _MODE else address >> _EPOCH_SHIFT & 3


def source_keys(secret: bytes, form: SourceFormat) -> EpochKeys:
    """The keys that follow from an epoch's 32-byte secret; raises CodecError for another length."""
    if len(secret) != SECRET_BYTES:
        raise CodecError(f"epoch secret of {len(secret)} bytes: must be {SECRET_BYTES}")
    end = form.cluster.network_address.packed + bytes([SOURCE_BITS, form.payload_bits, form.tag_bits])
    return EpochKeys(derive(secret, b"dnsvip v1 source enc" + end), derive(secret, b"dnsvip v1 source mac" + end))


def _check_bounds(form: SourceFormat) -> None:
    names = [name for name, _ in form.fields]
    n, t = form.payload_bits, form.tag_bits
    rules = (
        (t >= MIN_TAG_BITS, f"tag_bits {t}: must be {MIN_TAG_BITS} or more"),
        (all(bits > 0 for _, bits in form.fields), "every field needs at least one bit"),
        (len(set(names)) == len(names), "a field name is used twice"),
        (bool({"tier", "client"} & set(names)), "a source layout needs at least one of tier and client"),
        (n >= MIN_PAYLOAD_BITS, f"the fields take {n} bits: must be {MIN_PAYLOAD_BITS} or more in all"),
        (3 + n + t == SOURCE_BITS, f"mode 1 + epoch 2 + fields {n} + tag {t} = {3 + n + t} bits: must be 64"),
    )
    for holds, message in rules:
        if not holds:
            raise CodecError(message)

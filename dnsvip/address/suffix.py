"""Sealing a payload into an encoded VIP and opening it again (address/README.md, "Keys" to "Issued tag").

One SuffixCodec holds the derived keys of one (cluster, epoch). Addresses are 128-bit integers, so that a caller with
bytes or an IPv6Address converts once. It does not decide whether an epoch may be used, a field is valid or a client is
revoked; its callers do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dnsvip.address.ff1 import Ff1
from dnsvip.address.layout import EPOCH_SLOTS, Layout
from dnsvip.address.mac import derive, siphash, siphashes
from dnsvip.errors import CodecError

SECRET_BYTES = 32

OPENED = 4096
"""Payloads that a codec remembers: to open one is half of what an address costs, and clients open many flows to one."""


class EpochKeys(NamedTuple):
    """The two 16-byte keys of one (cluster, epoch): of the ciphertext (AES-128), of the issued tag (SipHash)."""

    encryption: bytes
    tag: bytes


class SuffixCodec:
    """Encode and decode the addresses of one cluster layout under one epoch's keys, or the 32-byte secret that they are
    derived from.

    Raises CodecError for a secret of another length or an epoch slot outside 0 to 3.
    """

    __slots__ = (
        "_base", "_cheap_mask", "_claim_mask", "_ff1", "_mac_key", "_mac_mask", "_opened", "_payload_mask",
        "_payload_shift", "_tag_mask", "_tag_shift", "epoch", "layout",
    )  # fmt: skip

    def __init__(self, layout: Layout, secret: bytes | EpochKeys, epoch: int) -> None:
        keys = secret if isinstance(secret, EpochKeys) else epoch_keys(secret, layout)
        if not 0 <= epoch < EPOCH_SLOTS:
            raise CodecError(f"epoch slot {epoch}: must be 0 to 3")
        self.layout = layout
        self.epoch = epoch
        self._ff1 = Ff1(keys.encryption, layout.payload_bits)
        self._mac_key = keys.tag
        self._base = layout.prefix_int | epoch << layout.epoch_shift
        self._tag_mask = layout.tag_mask
        self._tag_shift = 64 - layout.tag_bits
        self._claim_mask = layout.claim_mask
        self._mac_mask = ~(layout.mode_bit | layout.claim_mask | layout.tag_mask)
        self._payload_shift, self._payload_mask = layout.payload_shift, (1 << layout.payload_bits) - 1
        self._cheap_mask = layout.tag_mask & ~layout.proof_mask
        self._opened: dict[int, int] = {}

    def encode(self, values: Mapping[str, int]) -> int:
        """The issued address for one value per field; raises CodecError as Layout.pack does."""
        return self.seal(self.layout.pack(values))

    def seal(self, payload: int) -> int:
        """The issued address for a payload of N bits: encrypt, then tag."""
        body = self._base | self._ff1.encrypt(payload) << self._payload_shift
        return body | self._tag(body)

    def seal_batch(self, payloads: Sequence[int]) -> list[int]:
        """`seal` for many payloads at once, several times faster per address."""
        base, width, shift = self._base, self._payload_shift, self._tag_shift
        bodies = [base | number << width for number in self._ff1.encrypt_batch(payloads)]
        tags = siphashes(self._mac_key, [body.to_bytes(16, "big") for body in bodies])
        return [body | tag >> shift for body, tag in zip(bodies, tags, strict=True)]

    def authentic(self, address: int) -> bool:
        """Whether the issued tag fits: all T bits in mode 0, where the claims are 0, and its top c bits in mode 1.

        Comparing integers is not constant-time, which reveals nothing here: an attacker learns
        "dropped" or "forwarded" for a whole address, never the expected tag.
        """
        difference = (address ^ self._tag(address & self._mac_mask)) & self._tag_mask
        if address & self.layout.mode_bit:
            difference &= self._cheap_mask
        else:
            difference |= address & self._claim_mask
        return not difference

    def open(self, address: int) -> int:
        """The payload of an address. It does not authenticate: call `authentic` first."""
        sealed = address >> self._payload_shift & self._payload_mask
        payload = self._opened.get(sealed)
        if payload is None:
            payload = self._ff1.decrypt(sealed)
            if len(self._opened) >= OPENED:
                self._opened.clear()
            self._opened[sealed] = payload
        return payload

    def decode(self, address: int) -> dict[str, int]:
        """The field values of an address; like `open`, without authentication."""
        return self.layout.unpack(self.open(address))

    def _tag(self, body: int) -> int:
        return siphash(self._mac_key, body.to_bytes(16, "big")) >> self._tag_shift


def epoch_keys(secret: bytes, layout: Layout) -> EpochKeys:
    """The keys that follow from an epoch's 32-byte secret; raises CodecError for another length."""
    if len(secret) != SECRET_BYTES:
        raise CodecError(f"epoch secret of {len(secret)} bytes: must be {SECRET_BYTES}")
    return EpochKeys(derive_key(secret, b"dnsvip v1 enc", layout), derive_key(secret, b"dnsvip v1 mac", layout))


def derive_key(secret: bytes, label: bytes, layout: Layout) -> bytes:
    """A 16-byte key of one (cluster, epoch): the info is label, network address, p, N, T and, with claims, K."""
    claims = [layout.claim_bits] if layout.claim_bits else []
    geometry = bytes([layout.prefix.prefixlen, layout.payload_bits, layout.tag_bits, *claims])
    return derive(secret, label + layout.prefix.network_address.packed + geometry)


_RESERVED_IDENTIFIERS = (
    (0x0000_0000_0000_0000, 0x0000_0000_0000_0000),  # subnet-router anycast, RFC 4291 section 2.6.1
    (0x0200_5EFF_FE00_0000, 0x0200_5EFF_FEFF_FFFF),  # IANA's Ethernet block, RFC 5453
    (0xFDFF_FFFF_FFFF_FF80, 0xFDFF_FFFF_FFFF_FFFF),  # subnet anycast, RFC 2526
)
"""Ranges of 64-bit interface identifiers that no host may use (IANA registry of RFC 5453), first and last."""

_RESERVED_TOPS = frozenset(first >> 56 for first, _ in _RESERVED_IDENTIFIERS)
"""Their first bytes: a cheap test that excludes nearly all others."""


def is_reserved_identifier(address: int) -> bool:
    """Whether the lower 64 bits of an address are an interface identifier that no host may use."""
    identifier = address & 0xFFFF_FFFF_FFFF_FFFF
    return identifier >> 56 in _RESERVED_TOPS and any(
        first <= identifier <= last for first, last in _RESERVED_IDENTIFIERS
    )


def is_reserved(layout: Layout, address: int, plain: int) -> bool:
    """Whether an address must never be issued (address/README.md, "Never issued").

    Reserved are the plain VIP, the all-zero suffix, a reserved interface identifier in the lower 64 bits and, where the
    suffix is not 64 bits long, the subnet anycast addresses of RFC 2526 for that length.
    """
    suffix = address & ((1 << layout.host_bits) - 1)
    if not suffix or address == plain:
        return True
    if is_reserved_identifier(address):
        return True
    return layout.host_bits != 64 and suffix >> 7 == (1 << layout.host_bits - 7) - 1


def reserved_among(layout: Layout, addresses: Sequence[int], plain: int) -> set[int]:
    """Those of the addresses that must never be issued."""
    if layout.host_bits == 64:  # an all-zero suffix is a reserved identifier then, and hardly an address passes here
        tops = _RESERVED_TOPS
        addresses = [each for each in addresses if each >> 56 & 0xFF in tops or each == plain]
    return {each for each in addresses if is_reserved(layout, each, plain)}

"""A client's proof that it holds its key: mode 1 (address/README.md, "Proven").

The client keeps the top c = T // 3 bits of the issued tag, so that the cheap check still rejects
floods, and puts its own SipHash over address, source and time slot into the other T - c bits. Where the cluster has
claims it sets them first, masked by a SipHash of another use, so that the proof covers them ("Claims").
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum, StrEnum

from dnsvip.address.layout import Layout
from dnsvip.address.mac import KEY_BYTES, derive, siphash
from dnsvip.errors import CodecError

CLIENT_KEY_BYTES = KEY_BYTES
MASTER_BYTES = 32


class Bind(StrEnum):
    """Which part of its source a client binds its proof to."""

    NONE = "none"
    ADDRESS = "address"
    ADDRESS_PORT = "address+port"


class Use(IntEnum):
    """What a client computes a SipHash for: two bytes of its input. A label's mac has LABEL_MAC + the masked claims."""

    PROOF = 0
    CLAIMS = 1
    LABEL = 2
    LABEL_MAC = 0x1000


_NONE, _ADDRESS_PORT = Bind.NONE, Bind.ADDRESS_PORT
_PROOF, _CLAIMS = int(Use.PROOF), int(Use.CLAIMS)
"""Looking a member up in its enum costs as much as a round of SipHash."""


def client_key(master: bytes, layout: Layout, client_id: int, generation: int) -> bytes:
    """The 16-byte key of one client: HKDF-SHA256 of the cluster's 32-byte client master.

    Raises CodecError for a master of another length or an id or generation that does not fit.
    """
    if len(master) != MASTER_BYTES:
        raise CodecError(f"client master of {len(master)} bytes: must be {MASTER_BYTES}")
    try:
        who = client_id.to_bytes(8, "big") + generation.to_bytes(4, "big")
    except OverflowError as error:
        raise CodecError(f"client id {client_id} or key generation {generation} is out of range") from error
    return derive(master, b"dnsvip v1 client" + layout.prefix.network_address.packed + who)


def prove(
    layout: Layout, issued: int, key: bytes, bind: Bind, source: int, port: int, slot: int, claims: int = 0
) -> int:
    """The proven address for an issued one. `source` is a 128-bit integer, `slot` = unix time // slot_seconds, and
    `claims` what the client says, as `pack_claims` gives it.

    Raises CodecError for a key that has not 16 bytes, or claims that the layout has no bits for.
    """
    check_key(key)
    if claims >> layout.claim_bits:
        raise CodecError(f"claims {claims:#x}: the layout has {layout.claim_bits} bits for them")
    proof_bits = layout.proof_bits
    kept = issued >> proof_bits << proof_bits | layout.mode_bit
    if layout.claim_bits:
        masked = claims ^ _mask(layout, kept, key, bind, source, port, slot)
        kept = kept & ~layout.claim_mask | masked << layout.tag_bits
    message = client_message(kept & ~layout.tag_mask, bind, source, port)
    return kept | client_mac(key, message, _PROOF, slot) >> 64 - proof_bits


def verify(layout: Layout, address: int, key: bytes, bind: Bind, source: int, port: int, slot: int) -> bool:
    """Whether the proof in a mode-1 address fits this key, source and exactly this slot.

    Not constant-time, for the reason given at `SuffixCodec.authentic`.
    """
    return proven_slot(layout, address, key, bind, source, port, (slot,)) is not None


def proven_slot(
    layout: Layout, address: int, key: bytes, bind: Bind, source: int, port: int, slots: Iterable[int]
) -> int | None:
    """The first of these slots that the proof in a mode-1 address is right for; None where there is none."""
    message = client_message((address | layout.mode_bit) & ~layout.tag_mask, bind, source, port)
    unused = 64 - layout.proof_bits
    wanted = address & layout.proof_mask
    for slot in slots:
        if client_mac(key, message, _PROOF, slot) >> unused == wanted:
            return slot
    return None


def claims_of(layout: Layout, address: int, key: bytes, bind: Bind, source: int, port: int, slot: int) -> int:
    """What the client says in a mode-1 address whose proof `verify` has found right for the same arguments."""
    if not layout.claim_bits:
        return 0
    masked = (address & layout.claim_mask) >> layout.tag_bits
    return masked ^ _mask(layout, address, key, bind, source, port, slot)


def acceptable_slots(now: float, slot_seconds: int) -> tuple[int, int, int]:
    """The slot of `now` (unix seconds), then the one before and the one after."""
    slot = int(now) // slot_seconds
    return slot, slot - 1, slot + 1


def client_message(address: int, bind: Bind, source: int, port: int) -> int:
    """The 40 bytes that a client hashes, as one number, without use and slot."""
    message = address << 192
    if bind is not _NONE:
        message |= source << 64
    return message | port << 48 if bind is _ADDRESS_PORT else message


def client_mac(key: bytes, message: int, use: int, slot: int) -> int:
    """SipHash of a `client_message` by a client's key, for one of its uses; 64 bits."""
    return siphash(key, (message | use << 32 | slot & 0xFFFF_FFFF).to_bytes(40, "big"))


def check_key(key: bytes) -> None:
    """Raises CodecError for a client key that has not 16 bytes."""
    if len(key) != CLIENT_KEY_BYTES:
        raise CodecError(f"client key of {len(key)} bytes: must be {CLIENT_KEY_BYTES}")


def _mask(layout: Layout, address: int, key: bytes, bind: Bind, source: int, port: int, slot: int) -> int:
    """What the claims are combined with."""
    message = client_message((address | layout.mode_bit) & layout.body_mask, bind, source, port)
    return client_mac(key, message, _CLAIMS, slot) >> 64 - layout.claim_bits

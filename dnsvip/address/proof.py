"""A client's proof that it holds its key: mode 1 (address/README.md, "Proven").

The client keeps the top c = T // 3 bits of the issued tag, so that the cheap check still rejects
floods, and puts its own SipHash over address, source and time slot into the other T - c bits.
"""

from __future__ import annotations

from enum import StrEnum

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


def prove(layout: Layout, issued: int, key: bytes, bind: Bind, source: int, port: int, slot: int) -> int:
    """The proven address for an issued one. `source` is a 128-bit integer, `slot` = unix time // slot_seconds.

    Raises CodecError for a key that has not 16 bytes.
    """
    if len(key) != CLIENT_KEY_BYTES:
        raise CodecError(f"client key of {len(key)} bytes: must be {CLIENT_KEY_BYTES}")
    proof_bits = layout.tag_bits - layout.cheap_tag_bits
    kept = issued >> proof_bits << proof_bits | layout.mode_bit
    return kept | _proof(layout, kept, key, bind, source, port, slot)


def verify(layout: Layout, address: int, key: bytes, bind: Bind, source: int, port: int, slot: int) -> bool:
    """Whether the proof in a mode-1 address fits this key, source and exactly this slot.

    Not constant-time, for the reason given at `SuffixCodec.authentic`.
    """
    proof_bits = layout.tag_bits - layout.cheap_tag_bits
    expected = _proof(layout, address, key, bind, source, port, slot)
    return not (address ^ expected) & ((1 << proof_bits) - 1)


def acceptable_slots(now: float, slot_seconds: int) -> tuple[int, int, int]:
    """The slot of `now` (unix seconds), then the one before and the one after."""
    slot = int(now) // slot_seconds
    return slot, slot - 1, slot + 1


def _proof(layout: Layout, address: int, key: bytes, bind: Bind, source: int, port: int, slot: int) -> int:
    bound_source = source if bind is not Bind.NONE else 0
    bound_port = port if bind is Bind.ADDRESS_PORT else 0
    message = (
        ((address | layout.mode_bit) & ~layout.tag_mask).to_bytes(16, "big")
        + bound_source.to_bytes(16, "big")
        + bound_port.to_bytes(2, "big")
        + bytes(2)
        + (slot & 0xFFFF_FFFF).to_bytes(4, "big")
    )
    return siphash(key, message) >> 64 - (layout.tag_bits - layout.cheap_tag_bits)

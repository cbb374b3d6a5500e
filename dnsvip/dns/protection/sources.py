"""Which requesters count as one source: whoever has an address of a network has its others."""

from __future__ import annotations

V4_BYTES, V6_BYTES = 3, 7
"""Bytes of an address that name a source: /24 and /56."""


def source_of(peer: bytes) -> bytes:
    """The source that an address (4 or 16 bytes) belongs to."""
    return peer[:V4_BYTES] if len(peer) == 4 else peer[:V6_BYTES]

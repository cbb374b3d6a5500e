"""A datagram as the fast path's key: its sender and all of it but the id, as contiguous bytes.

Two questions with the same key get the same answer. A message that came by a stream has a key with TAG bytes for how
it arrived and the address in front. The sender of a datagram stands in front as the kernel writes it into
a socket address, so that a received message needs no copying:

    IPv4: address, 8 zero bytes                   (sockaddr_in from sin_addr on)
    IPv6: address, 4 bytes of scope               (sockaddr_in6 from sin6_addr on)
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address

WIDTH: Mapping[int, int] = {4: 12, 6: 20}
"""IP version -> bytes of the sender in front of a key."""

TAG = 7
"""Bytes in front of the address in the key of a message that came by a stream."""

_SIZE: Mapping[int, int] = {12: 4, 20: 16}


def key_of(peer: bytes, wire: bytes) -> bytes:
    """The key of a message from an address (4 or 16 bytes)."""
    return peer.ljust(WIDTH[4 if len(peer) == 4 else 6], b"\0") + wire[2:]


def peer_of(key: bytes, width: int) -> bytes:
    """The sender's address, 4 or 16 bytes."""
    return key[: _SIZE[width]]


def address_of(key: bytes, width: int) -> IPv4Address | IPv6Address:
    """The sender's address."""
    return IPv4Address(key[:4]) if width == WIDTH[4] else IPv6Address(key[:16])

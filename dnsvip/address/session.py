"""Labels of DNS names that name a session: a number and its authentication, so that nobody invents one.

A label is base32hex (RFC 4648 section 7, in lower case, without padding) of 20 bytes: the session's number, 8 bytes
big-endian, and the first 12 bytes of HMAC-SHA256 of it. The key is derived from the cluster's client master, which key
rotations leave alone, for one service: 32 characters that are good as long as the cluster.
"""

from __future__ import annotations

import binascii
import hmac
from base64 import b32hexdecode, b32hexencode
from dataclasses import dataclass, field
from ipaddress import IPv6Network

from dnsvip.address.mac import derive

NUMBER_BYTES, MAC_BYTES = 8, 12
LABEL_LENGTH = 32
"""Characters of a label, of the 63 that one may have (RFC 1035 section 2.3.4)."""

LEAST_BITS = 8
"""Bits of a layout's session field, at least: one tells these sessions from others, the rest spread them."""


@dataclass(frozen=True, slots=True)
class SessionLabels:
    """The labels of one service; without a key there are none."""

    key: bytes | None = field(repr=False)

    @classmethod
    def of(cls, master: bytes | None, prefix: IPv6Network, service: str) -> SessionLabels:
        """Those of a service (its name in lower case) in the cluster with a client master (32 bytes) and a prefix."""
        if not master:
            return cls(None)
        return cls(derive(master, b"dnsvip v1 session label" + prefix.network_address.packed + service.encode()))

    def make(self, number: int) -> str:
        """The label of a session, 0 to 2^64 - 1; raises ValueError without a key."""
        if self.key is None:
            raise ValueError("the cluster has no client master key yet")
        packed = number.to_bytes(NUMBER_BYTES, "big")
        return b32hexencode(packed + self._mac(self.key, packed)).decode().lower()

    def number(self, label: bytes) -> int | None:
        """The session that a label names, in any case; None for one that was not made here."""
        if self.key is None or len(label) != LABEL_LENGTH:
            return None
        try:
            packed = b32hexdecode(label.upper())
        except (binascii.Error, ValueError):
            return None
        number, mac = packed[:NUMBER_BYTES], packed[NUMBER_BYTES:]
        return int.from_bytes(number, "big") if hmac.compare_digest(self._mac(self.key, number), mac) else None

    @staticmethod
    def _mac(key: bytes, packed: bytes) -> bytes:
        return hmac.digest(key, packed, "sha256")[:MAC_BYTES]


def shared_bit(bits: int) -> int:
    """The highest bit of a session field of so many bits, which sets the sessions of labels apart."""
    return 1 << bits - 1


def field_value(number: int, bits: int) -> int:
    """The value of a session field of so many bits for a label's session."""
    return number & shared_bit(bits) - 1 | shared_bit(bits)

"""SipHash-2-4 and the derivation of 16-byte keys: all primitives of the address format except AES.

The SipHash package returns its 64-bit result as a signed number; this is the one place that corrects it.
"""

from __future__ import annotations

from collections.abc import Iterable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from siphash24 import siphash24

KEY_BYTES = 16
_UNSIGNED = 0xFFFF_FFFF_FFFF_FFFF


def siphash(key: bytes, message: bytes) -> int:
    """SipHash-2-4 under a 16-byte key, as the unsigned integer of the SipHash reference (0 to 2^64 - 1).

    The caller checks the length of the key: the package silently pads a short one.
    """
    number: int = siphash24(message, key=key).intdigest()
    return number & _UNSIGNED


def siphashes(key: bytes, messages: Iterable[bytes]) -> list[int]:
    """`siphash` of many messages, for two thirds of the time."""
    return [siphash24(message, key=key).intdigest() & _UNSIGNED for message in messages]


def derive(secret: bytes, info: bytes) -> bytes:
    """A 16-byte key by HKDF-SHA256 without salt (RFC 5869)."""
    return HKDF(hashes.SHA256(), KEY_BYTES, None, info).derive(secret)

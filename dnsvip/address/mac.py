"""SipHash-2-4 and the derivation of 16-byte keys: all that the address format takes from outside but AES.

One place for both, because the SipHash package hands out its 64-bit result as a signed number.
"""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from siphash24 import siphash24

KEY_BYTES = 16


def siphash(key: bytes, message: bytes) -> int:
    """SipHash-2-4 under a 16-byte key, as the unsigned integer of the SipHash reference (0 to 2^64 - 1).

    The key's length is the caller's to check: the package pads a short one without a word.
    """
    number: int = siphash24(message, key=key).intdigest()
    return number & 0xFFFF_FFFF_FFFF_FFFF


def derive(secret: bytes, info: bytes) -> bytes:
    """A 16-byte key by HKDF-SHA256 without salt (RFC 5869)."""
    return HKDF(hashes.SHA256(), KEY_BYTES, None, info).derive(secret)

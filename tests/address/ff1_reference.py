"""FF1 for any radix and tweak, a literal and slow transcription of SP 800-38G, algorithms 7 and 8.

Numeral strings are lists of integers. Only the tests use it.
"""

from __future__ import annotations

from math import ceil, log2

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


def num(numerals: list[int], radix: int) -> int:
    """NUM_radix(X), algorithm 1."""
    x = 0
    for numeral in numerals:
        x = x * radix + numeral
    return x


def string(x: int, radix: int, length: int) -> list[int]:
    """STR^m_radix(x), algorithm 3."""
    numerals = [0] * length
    for i in range(length):
        numerals[length - 1 - i] = x % radix
        x //= radix
    return numerals


def prf(key: bytes, blocks: bytes) -> bytes:
    """PRF(X), algorithm 6: CBC-MAC."""
    assert len(blocks) % 16 == 0
    mac = bytes(16)
    for i in range(0, len(blocks), 16):
        mac = ciph(key, bytes(a ^ b for a, b in zip(mac, blocks[i : i + 16], strict=True)))
    return mac


def ciph(key: bytes, block: bytes) -> bytes:
    """CIPH_K: one AES block."""
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(block)  # noqa: S305 - the standard's CIPH


def _y(key: bytes, tweak: bytes, radix: int, n: int, i: int, half: list[int]) -> int:
    """Steps 3 to 6.iv: the number that round i adds, from the half that stays."""
    u = n // 2
    v = n - u
    t = len(tweak)
    b = ceil(ceil(v * log2(radix)) / 8)
    d = 4 * ceil(b / 4) + 4
    p = bytes([1, 2, 1]) + radix.to_bytes(3, "big") + bytes([10, u % 256]) + n.to_bytes(4, "big") + t.to_bytes(4, "big")
    q = tweak + bytes((-t - b - 1) % 16) + bytes([i]) + num(half, radix).to_bytes(b, "big")
    r = prf(key, p + q)
    s = r
    for j in range(1, ceil(d / 16)):
        s += ciph(key, bytes(x ^ y for x, y in zip(r, j.to_bytes(16, "big"), strict=True)))
    return int.from_bytes(s[:d], "big")


def encrypt(key: bytes, tweak: bytes, radix: int, numerals: list[int]) -> list[int]:
    """FF1.Encrypt(K, T, X), algorithm 7."""
    n = len(numerals)
    u = n // 2
    a, b = numerals[:u], numerals[u:]
    for i in range(10):
        m = u if i % 2 == 0 else n - u
        c = (num(a, radix) + _y(key, tweak, radix, n, i, b)) % radix**m
        a, b = b, string(c, radix, m)
    return a + b


def decrypt(key: bytes, tweak: bytes, radix: int, numerals: list[int]) -> list[int]:
    """FF1.Decrypt(K, T, X), algorithm 8."""
    n = len(numerals)
    u = n // 2
    a, b = numerals[:u], numerals[u:]
    for i in range(9, -1, -1):
        m = u if i % 2 == 0 else n - u
        c = (num(b, radix) - _y(key, tweak, radix, n, i, a)) % radix**m
        a, b = string(c, radix, m), a
    return a + b

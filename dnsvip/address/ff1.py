"""FF1 format-preserving encryption, radix 2, empty tweak (NIST SP 800-38G Rev. 1, algorithms 7 and 8).

Numeral strings are integers of n bits, the first numeral in the most significant bit. With an empty
tweak and n <= 80 every round is one AES block: P is constant, so its block is computed once. A batch
runs all its rounds as arithmetic on one wide integer, 128 bits a lane, so its price per item is
almost only AES. This module knows nothing of addresses.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from dnsvip.errors import CodecError

ROUNDS = 10
MIN_BITS, MAX_BITS = 20, 80


class Ff1:
    """FF1 over the integers of `bits` bits, for one AES key of 16 bytes (24 and 32 work too).

    Not for use from several threads at once: the cipher context is shared.
    """

    __slots__ = ("_block", "_keystream", "_left_bits", "_mid", "_rounds", "_shift", "bits")

    def __init__(self, key: bytes, bits: int) -> None:
        if not MIN_BITS <= bits <= MAX_BITS:
            raise CodecError(f"FF1 over {bits} bits: must be 20 to 80")
        try:
            cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305 - FF1's PRF is built from single blocks
        except ValueError as error:
            raise CodecError(f"FF1 key of {len(key)} bytes: must be 16, 24 or 32") from error
        self.bits = bits
        self._block = cipher.encryptor().update
        left = bits // 2
        right = bits - left
        half_bytes = (right + 7) // 8  # b of the standard
        output_bytes = 4 * ((half_bytes + 3) // 4) + 4  # d
        head = bytes([1, 2, 1, 0, 0, 2, ROUNDS, left & 255]) + bits.to_bytes(4, "big") + bytes(4)
        self._mid = int.from_bytes(self._block(head), "big")
        self._left_bits = left
        self._shift = 128 - 8 * output_bytes
        # Q is [0]^.. || [i] || NUM(B): the round number stands right above B's bytes.
        self._rounds = tuple(
            (self._mid ^ i << 8 * half_bytes, (1 << (right if i & 1 else left)) - 1) for i in range(ROUNDS)
        )
        self._keystream = self._rounds[::-1]

    @property
    def constant_block(self) -> int:
        """AES of the constant block P as a 128-bit number: all that depends on P, computed once per key."""
        return self._mid

    def encrypt(self, number: int) -> int:
        """Encrypt one integer of `bits` bits."""
        block, shift = self._block, self._shift
        right_bits = self.bits - self._left_bits
        a, b = number >> right_bits, number & ((1 << right_bits) - 1)
        for constant, mask in self._rounds:
            y = int.from_bytes(block((constant ^ b).to_bytes(16, "big")), "big") >> shift
            a, b = b, (a + y) & mask
        return a << right_bits | b

    def decrypt(self, number: int) -> int:
        """Undo `encrypt`."""
        block, shift = self._block, self._shift
        right_bits = self.bits - self._left_bits
        a, b = number >> right_bits, number & ((1 << right_bits) - 1)
        for constant, mask in self._keystream:
            y = int.from_bytes(block((constant ^ a).to_bytes(16, "big")), "big") >> shift
            a, b = (b - y) & mask, a
        return a << right_bits | b

    def encrypt_batch(self, numbers: Sequence[int]) -> list[int]:
        """Encrypt many integers at once; the same results as `encrypt` one by one, several times faster."""
        count, shift = len(numbers), self._shift
        if not count:
            return []
        size = 16 * count
        right_bits = self.bits - self._left_bits
        right_mask = (1 << right_bits) - 1
        ones = int.from_bytes(b"\0" * 15 + b"\1", "big")
        ones = int.from_bytes(ones.to_bytes(16, "big") * count, "big")
        a = int.from_bytes(b"".join([(n >> right_bits).to_bytes(16, "big") for n in numbers]), "big")
        b = int.from_bytes(b"".join([(n & right_mask).to_bytes(16, "big") for n in numbers]), "big")
        for constant, mask in self._rounds:
            stream = self._block((ones * constant ^ b).to_bytes(size, "big"))
            lanes = ones * mask
            y = int.from_bytes(stream, "big") >> shift & lanes
            a, b = b, (a + y) & lanes
        joined = (a << right_bits | b).to_bytes(size, "big")
        return [int.from_bytes(joined[i : i + 16], "big") for i in range(0, size, 16)]

"""FF1 format-preserving encryption, radix 2, empty tweak (NIST SP 800-38G Rev. 1, algorithms 7 and 8).

Numeral strings are integers of n bits, the first numeral in the most significant bit. With an empty
tweak and n <= 80 every round is one AES block: P is constant, so its block is computed once. A batch
runs all its rounds as arithmetic on one wide integer, a lane for each number (`_Lanes`). This module
knows nothing of addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Literal

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from dnsvip.errors import CodecError

ROUNDS = 10
MIN_BITS, MAX_BITS = 20, 80

LEAST, FEW, MANY = 4, 16, 64
"""How many numbers are encrypted at once: fewer one by one, others always as one of these, so that what does not depend
on the numbers is made once."""


class Ff1:
    """FF1 over the integers of `bits` bits, for one AES key of 16 bytes (24 and 32 work too).

    Not for use from several threads at once: the cipher context is shared.
    """

    __slots__ = (
        "_block",
        "_keystream",
        "_lanes",
        "_left_bits",
        "_mid",
        "_output_bytes",
        "_rounds",
        "_shift",
        "_update",
        "bits",
    )

    def __init__(self, key: bytes, bits: int) -> None:
        if not MIN_BITS <= bits <= MAX_BITS:
            raise CodecError(f"FF1 over {bits} bits: must be 20 to 80")
        try:
            cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305 - FF1's PRF is built from single blocks
        except ValueError as error:
            raise CodecError(f"FF1 key of {len(key)} bytes: must be 16, 24 or 32") from error
        self.bits = bits
        encryptor = cipher.encryptor()
        self._block, self._update = encryptor.update, encryptor.update_into
        left = bits // 2
        right = bits - left
        half_bytes = (right + 7) // 8  # b of the standard
        output_bytes = 4 * ((half_bytes + 3) // 4) + 4  # d
        head = bytes([1, 2, 1, 0, 0, 2, ROUNDS, left & 255]) + bits.to_bytes(4, "big") + bytes(4)
        self._mid = int.from_bytes(self._block(head), "big")
        self._left_bits, self._output_bytes = left, output_bytes
        self._lanes: dict[int, _Lanes] = {}
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
        if len(numbers) < LEAST:
            return [self.encrypt(number) for number in numbers]
        encrypted: list[int] = []
        for at in range(0, len(numbers), MANY):
            some = numbers[at : at + MANY]
            encrypted += self._lanes_for(len(some)).encrypt(some)
        return encrypted

    def _lanes_for(self, number: int) -> _Lanes:
        count = FEW if number <= FEW else MANY
        lanes = self._lanes.get(count)
        if lanes is None:
            lanes = _Lanes(self._update, self._rounds, self.bits, self._output_bytes, count)
            self._lanes[count] = lanes
        return lanes


class _Lanes:
    """The rounds of up to `count` numbers, each in a lane of a wide integer that holds half a number and a carry: 32
    bits, or 64 where a half has more than 31.

    A round's blocks stay in a buffer of their own, where only the bytes of a lane change. Of what AES makes of them
    only the last bytes of y count (the rest is modulo), so that nothing else is read.
    """

    __slots__ = ("_form", "_halves", "_out", "_right_bits", "_rounds", "_size", "_update", "_y", "_zeros")

    def __init__(
        self,
        update: Callable[[bytearray, bytearray], int],
        rounds: Sequence[tuple[int, int]],
        bits: int,
        output_bytes: int,
        count: int,
    ) -> None:
        self._update, self._right_bits = update, bits - bits // 2
        form: Literal["I", "Q"] = "I" if self._right_bits < 32 else "Q"
        size = 4 if form == "I" else 8
        self._size, self._form, self._halves = size * count, form, Struct(f">{count}{form}")
        self._zeros = [0] * count
        ones = int.from_bytes((1).to_bytes(size, "big") * count, "big")
        each = (1 << 8 * size) - 1
        out = bytearray(16 * count + 16)
        self._out = out
        self._y = memoryview(out)[output_bytes - size :][: 16 * count].cast(form)[:: 16 // size]
        blocks = [bytearray(constant.to_bytes(16, "big") * count) for constant, _ in rounds]
        columns = [memoryview(block).cast(form)[16 // size - 1 :: 16 // size] for block in blocks]
        self._rounds = [
            (block, column, ones * (constant & each), ones * mask)
            for block, column, (constant, mask) in zip(blocks, columns, rounds, strict=True)
        ]

    def encrypt(self, numbers: Sequence[int]) -> list[int]:
        """Encrypt at most `count` numbers."""
        right_bits, size, form, update, out, halves_of_y = (
            self._right_bits,
            self._size,
            self._form,
            self._update,
            self._out,
            self._y,
        )
        mask, halves, zeros = (1 << right_bits) - 1, self._halves, self._zeros[len(numbers) :]
        a = int.from_bytes(halves.pack(*[number >> right_bits for number in numbers], *zeros), "big")
        b = int.from_bytes(halves.pack(*[number & mask for number in numbers], *zeros), "big")
        for block, column, constant, lanes in self._rounds:
            column[:] = memoryview((constant ^ b).to_bytes(size, "big")).cast(form)
            update(block, out)
            a, b = b, a + (int.from_bytes(halves_of_y.tobytes(), "big") & lanes) & lanes
        both = zip(halves.unpack(a.to_bytes(size, "big")), halves.unpack(b.to_bytes(size, "big")), strict=True)
        return [left << right_bits | right for (left, right), _ in zip(both, numbers, strict=False)]

"""FF1: the reference reproduces NIST's samples, and the codec's fast FF1 equals the reference at radix 2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnsvip.address.ff1 import MAX_BITS, MIN_BITS, Ff1
from dnsvip.errors import CodecError
from tests.address import ff1_reference as reference

SAMPLES = json.loads((Path(__file__).parent.parent / "fixtures" / "ff1-samples.json").read_text())["samples"]
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"

keys = st.sampled_from([16, 24, 32]).flatmap(lambda size: st.binary(min_size=size, max_size=size))


@pytest.mark.parametrize("sample", SAMPLES, ids=range(1, 10))
def test_reference_gives_nist_samples(sample: dict[str, str | int]) -> None:
    """The reference encrypts each of NIST's nine FF1 samples to its ciphertext, and decrypts it."""
    key, tweak = bytes.fromhex(str(sample["key"])), bytes.fromhex(str(sample["tweak"]))
    plain, cipher = ([DIGITS.index(c) for c in str(sample[name])] for name in ("plaintext", "ciphertext"))
    radix = int(sample["radix"])
    assert reference.encrypt(key, tweak, radix, plain) == cipher
    assert reference.decrypt(key, tweak, radix, cipher) == plain


@given(keys, st.integers(MIN_BITS, MAX_BITS), st.data())
def test_fast_ff1_is_the_reference(key: bytes, bits: int, data: st.DataObject) -> None:
    """For every size, key and number the codec's FF1 equals the standard's at radix 2 with an empty tweak."""
    number = data.draw(st.integers(0, (1 << bits) - 1))
    numerals = reference.string(number, 2, bits)
    sealed = Ff1(key, bits).encrypt(number)
    assert sealed == reference.num(reference.encrypt(key, b"", 2, numerals), 2)
    assert Ff1(key, bits).decrypt(number) == reference.num(reference.decrypt(key, b"", 2, numerals), 2)


@pytest.mark.parametrize("bits", range(MIN_BITS, MAX_BITS + 1))
def test_every_size_at_its_edges(bits: int) -> None:
    """At each size the lowest and highest numbers encrypt as in the reference, singly and in a batch."""
    key = bytes(range(16))
    edges = [0, 1, (1 << bits) - 1, 1 << bits - 1, (1 << bits // 2) - 1]
    expected = [reference.num(reference.encrypt(key, b"", 2, reference.string(n, 2, bits)), 2) for n in edges]
    assert [Ff1(key, bits).encrypt(n) for n in edges] == expected
    assert Ff1(key, bits).encrypt_batch(edges) == expected


@settings(max_examples=50)
@given(keys, st.integers(MIN_BITS, MAX_BITS), st.data())
def test_batch_is_one_by_one(key: bytes, bits: int, data: st.DataObject) -> None:
    """A batch of any size equals encrypting one by one, and each ciphertext decrypts."""
    numbers = data.draw(st.lists(st.integers(0, (1 << bits) - 1), max_size=150))
    ff1 = Ff1(key, bits)
    sealed = ff1.encrypt_batch(numbers)
    assert sealed == [ff1.encrypt(number) for number in numbers]
    assert [ff1.decrypt(number) for number in sealed] == numbers


def test_smallest_domain_is_a_permutation() -> None:
    """Over 20 bits FF1 is a permutation: all 2^20 ciphertexts occur once."""
    size = 1 << MIN_BITS
    assert len(set(Ff1(bytes(16), MIN_BITS).encrypt_batch(range(size)))) == size


@pytest.mark.parametrize(("key", "bits", "message"), [(16, 19, "20 to 80"), (16, 81, "20 to 80"), (15, 37, "16, 24")])
def test_wrong_sizes_are_refused(key: int, bits: int, message: str) -> None:
    """An unsupported key or domain size is refused with the supported ones."""
    with pytest.raises(CodecError, match=message):
        Ff1(bytes(key), bits)

"""Sealing and opening over any layout: payloads round-trip, and tampering is detected."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network
from unittest import mock

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dnsvip.address.layout import Layout
from dnsvip.address.suffix import SuffixCodec, derive_key, is_reserved, reserved_among
from dnsvip.errors import CodecError
from tests.address.strategies import codecs, epochs, layouts, payloads, secrets


@given(codecs(), st.data())
def test_open_undoes_seal(codec: SuffixCodec, data: st.DataObject) -> None:
    """Any payload under any layout round-trips through its address, which has the prefix, mode and epoch."""
    layout = codec.layout
    payload = data.draw(payloads(layout))
    address = codec.seal(payload)
    assert codec.authentic(address)
    assert codec.open(address) == payload
    assert codec.decode(address) == layout.unpack(payload)
    assert codec.encode(layout.unpack(payload)) == address
    assert IPv6Address(address) in layout.prefix
    assert not address & layout.mode_bit
    assert address >> layout.epoch_shift & 3 == codec.epoch


@given(codecs(), st.data())
def test_batch_is_one_by_one(codec: SuffixCodec, data: st.DataObject) -> None:
    """A batch equals sealing one by one."""
    numbers = data.draw(st.lists(payloads(codec.layout), max_size=20))
    assert codec.seal_batch(numbers) == [codec.seal(number) for number in numbers]


@given(codecs(min_tag=40), st.data())
def test_any_flipped_bit_is_noticed(codec: SuffixCodec, data: st.DataObject) -> None:
    """Flipping any one bit of prefix, epoch, ciphertext or tag makes the address a forgery.

    With 40 tag bits and more, a chance hit would take 10^12 examples.
    """
    address = codec.seal(data.draw(payloads(codec.layout)))
    mode = codec.layout.host_bits - 1
    bit = data.draw(st.integers(0, 127).filter(lambda bit: bit != mode))
    assert not codec.authentic(address ^ 1 << bit)


@given(codecs(), st.data())
def test_proven_mode_keeps_only_the_cheap_bits(codec: SuffixCodec, data: st.DataObject) -> None:
    """In mode 1 the top T // 3 tag bits must equal the issued ones, and the others are ignored."""
    layout = codec.layout
    proof_bits = layout.tag_bits - layout.cheap_tag_bits
    issued = codec.seal(data.draw(payloads(layout)))
    other = data.draw(st.integers(0, (1 << proof_bits) - 1))
    proven = issued >> proof_bits << proof_bits | other | layout.mode_bit
    assert codec.authentic(proven)
    cheap_bit = data.draw(st.integers(proof_bits, layout.tag_bits - 1))
    assert not codec.authentic(proven ^ 1 << cheap_bit)


@given(codecs(min_tag=40), secrets, st.data())
def test_other_secret_knows_nothing_of_it(codec: SuffixCodec, secret: bytes, data: st.DataObject) -> None:
    """An address sealed under one secret is a forgery under any other."""
    address = codec.seal(data.draw(payloads(codec.layout)))
    other = SuffixCodec(codec.layout, secret, codec.epoch)
    assume(other.seal(0) != codec.seal(0))
    assert not other.authentic(address)


@given(layouts(), layouts(), secrets)
def test_keys_differ_by_label_and_geometry(one: Layout, other: Layout, secret: bytes) -> None:
    """A secret gives different keys for another label, prefix, p, N or T."""
    assert derive_key(secret, b"dnsvip v1 enc", one) != derive_key(secret, b"dnsvip v1 mac", one)
    same = (one.prefix, one.payload_bits, one.tag_bits) == (other.prefix, other.payload_bits, other.tag_bits)
    assert (derive_key(secret, b"dnsvip v1 enc", one) == derive_key(secret, b"dnsvip v1 enc", other)) is same


@given(layouts(), epochs)
def test_wrong_secrets_and_slots_are_refused(layout: Layout, epoch: int) -> None:
    """A secret that is not 32 bytes long, or a slot outside 0 to 3, is refused."""
    with pytest.raises(CodecError, match="must be 32"):
        SuffixCodec(layout, bytes(31), epoch)
    with pytest.raises(CodecError, match="must be 0 to 3"):
        SuffixCodec(layout, bytes(32), epoch + 4)


FIELDS_64 = (("tier", 4), ("client", 33))
LAYOUT_64 = Layout(IPv6Network("2001:db8:a:1::/64"), FIELDS_64, 24)
LAYOUT_48 = Layout(IPv6Network("2001:db8:a::/48"), (("client", 45),), 32)
LAYOUT_96 = Layout(IPv6Network("2001:db8:a:1::/96"), (("client", 20),), 9)


@pytest.mark.parametrize(
    ("layout", "address", "reserved"),
    [
        (LAYOUT_64, "2001:db8:a:1::", True),
        (LAYOUT_64, "2001:db8:a:1::1", True),  # the plain VIP
        (LAYOUT_64, "2001:db8:a:1::2", False),
        (LAYOUT_64, "2001:db8:a:1:fdff:ffff:ffff:ff7f", False),
        (LAYOUT_64, "2001:db8:a:1:fdff:ffff:ffff:ff80", True),
        (LAYOUT_64, "2001:db8:a:1:fdff:ffff:ffff:ffff", True),
        (LAYOUT_64, "2001:db8:a:1:fe00::", False),
        (LAYOUT_64, "2001:db8:a:1:200:5eff:fe00:0", True),
        (LAYOUT_64, "2001:db8:a:1:200:5eff:fe00:5212", True),
        (LAYOUT_64, "2001:db8:a:1:200:5eff:feff:ffff", True),
        (LAYOUT_64, "2001:db8:a:1:200:5eff:ff00:0", False),
        (LAYOUT_64, "2001:db8:a:1:ffff:ffff:ffff:ff80", False),  # reserved only for 64-bit interface identifiers
        (LAYOUT_96, "2001:db8:a:1::", True),
        (LAYOUT_96, "2001:db8:a:1::ffff:ff7f", False),
        (LAYOUT_96, "2001:db8:a:1::ffff:ff80", True),
        (LAYOUT_96, "2001:db8:a:1::fdff:ff80", False),
        (LAYOUT_48, "2001:db8:a:77::", True),  # the anycast address of a /64 inside the prefix
        (LAYOUT_48, "2001:db8:a:77:fdff:ffff:ffff:ffff", True),
        (LAYOUT_48, "2001:db8:a:ffff:ffff:ffff:ffff:ff80", True),
        (LAYOUT_48, "2001:db8:a:fffe:ffff:ffff:ffff:ff80", False),
    ],
)
def test_reserved_identifiers(layout: Layout, address: str, reserved: bool) -> None:
    """The plain VIP, subnet-router anycast and identifiers reserved by RFC 2526 and RFC 5453 are never issued."""
    assert is_reserved(layout, int(IPv6Address(address)), int(IPv6Address("2001:db8:a:1::1"))) is reserved


@given(layouts(), st.data())
def test_reserved_ones_are_found_among_many(layout: Layout, data: st.DataObject) -> None:
    """Those of a batch that must not be issued are what asking for each finds."""
    plain = layout.prefix_int | 1
    ends = st.sampled_from((0, 1, 0xFDFF_FFFF_FFFF_FF85, 0x0200_5EFF_FE00_0007, (1 << layout.host_bits) - 1))
    suffixes = data.draw(st.lists(st.one_of(ends, st.integers(0, (1 << layout.host_bits) - 1)), max_size=20))
    some = [layout.prefix_int | suffix & (1 << layout.host_bits) - 1 for suffix in suffixes]
    assert reserved_among(layout, some, plain) == {each for each in some if is_reserved(layout, each, plain)}


@given(codecs(), st.data())
def test_what_is_remembered_is_right_and_bounded(codec: SuffixCodec, data: st.DataObject) -> None:
    """A payload is the same whether it is opened for the first time or again, after any number of others."""
    some = data.draw(st.lists(payloads(codec.layout), min_size=1, max_size=5, unique=True))
    sealed = codec.seal_batch([*some, *some])
    with mock.patch("dnsvip.address.suffix.OPENED", 2):
        assert [codec.open(address) for address in sealed] == [*some, *some]
        assert len(codec._opened) <= 2

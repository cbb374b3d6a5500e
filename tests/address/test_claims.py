"""Claims, flow labels and source addresses over any layout: they round-trip, and one flipped bit is noticed."""

from __future__ import annotations

from ipaddress import IPv6Network
from typing import TypeAlias

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dnsvip.address.fields import pack_claims
from dnsvip.address.label import LabelFormat
from dnsvip.address.layout import Layout
from dnsvip.address.proof import Bind, claims_of, prove, verify
from dnsvip.address.source import SourceCodec, SourceFormat, source_epoch
from dnsvip.address.suffix import SuffixCodec, derive_key
from dnsvip.errors import CodecError
from tests.address.strategies import codecs, epochs, payloads, secrets

By: TypeAlias = tuple[bytes, Bind, int, int, int]
"""Key, binding, source, port and slot."""

bys = st.tuples(
    st.binary(min_size=16, max_size=16),
    st.sampled_from(Bind),
    st.integers(0, (1 << 128) - 1),
    st.integers(0, 65535),
    st.integers(0, (1 << 32) - 1),
)
WEB = IPv6Network("2001:db8:e:1::/64")
FIELDS = (("tier", 4), ("client", 20))


@st.composite
def claiming(draw: st.DrawFn, *, min_tag: int = 8) -> SuffixCodec:
    """A codec over any layout with claims of 1 to 24 bits, cut from its tag where there is room, else from fields."""
    codec = draw(codecs(min_tag=min_tag))
    layout = codec.layout
    room = min(24, layout.tag_bits - min_tag)
    if not room:
        return SuffixCodec(
            Layout(IPv6Network("2001:db8::/48"), FIELDS, 33, (("content", 20),)), draw(secrets), codec.epoch
        )
    bits = draw(st.integers(1, room))
    claims = Layout(layout.prefix, layout.fields, layout.tag_bits - bits, (("quality", bits),))
    return SuffixCodec(claims, draw(secrets), codec.epoch)


@given(claiming(), bys, st.data())
def test_claims_round_trip(codec: SuffixCodec, by: By, data: st.DataObject) -> None:
    """Any claims over any layout leave payload and cheap check alone, and are read with the proof's arguments."""
    layout = codec.layout
    payload = data.draw(payloads(layout))
    said = data.draw(st.integers(0, (1 << layout.claim_bits) - 1))
    issued = codec.seal(payload)
    proven = prove(layout, issued, *by, said)
    assert codec.authentic(issued)
    assert codec.authentic(proven)
    assert codec.open(issued) == codec.open(proven) == payload
    assert verify(layout, proven, *by)
    assert claims_of(layout, proven, *by) == said


@given(claiming(min_tag=40), bys, st.data())
def test_one_flipped_bit_is_refused(codec: SuffixCodec, by: By, data: st.DataObject) -> None:
    """Flipping one bit below the prefix of an address with claims makes it a forgery, or its proof wrong; claims in an
    issued address are a forgery.

    With 26 proof bits and 13 cheap ones at least, a chance hit would take millions of examples.
    """
    layout = codec.layout
    issued = codec.seal(data.draw(payloads(layout)))
    proven = prove(layout, issued, *by, data.draw(st.integers(0, (1 << layout.claim_bits) - 1)))
    flipped = proven ^ 1 << data.draw(st.integers(0, layout.host_bits - 2))
    named = flipped >> layout.epoch_shift & 3 == codec.epoch
    assert not (named and codec.authentic(flipped) and verify(layout, flipped, *by))
    claimed = data.draw(st.integers(layout.tag_bits, layout.payload_shift - 1))
    assert not codec.authentic(issued | 1 << claimed)


@given(claiming(min_tag=40), bys, st.data())
def test_masks_differ_by_slot(codec: SuffixCodec, by: By, data: st.DataObject) -> None:
    """The verifier reads claims with the slot that the proof is right for: with another the proof is wrong."""
    proven = prove(codec.layout, codec.seal(data.draw(payloads(codec.layout))), *by, 1)
    assert not verify(codec.layout, proven, *by[:4], by[4] + 1)


def test_claims_change_the_keys() -> None:
    """A layout with claims has other keys than one with as many fields and tag bits and none, by its fourth byte."""
    wide = Layout(IPv6Network("2001:db8:e:1::/64"), (*FIELDS, ("nonce", 13)), 24)
    claims = Layout(IPv6Network("2001:db8:e:1::/64"), (*FIELDS, ("nonce", 5)), 24, (("content", 8),))
    for label in (b"dnsvip v1 enc", b"dnsvip v1 mac"):
        assert derive_key(bytes(32), label, wide) != derive_key(bytes(32), label, claims)


@pytest.mark.parametrize(
    ("fields", "tag_bits", "claims", "message"),
    [
        ((*FIELDS, ("nonce", 5)), 23, (("content", 8),), "fields 29 . claims 8 . tag 23 = 127 bits: must be 128"),
        (FIELDS, 12, (("content", 25),), "claims take 25 bits: must be 24 at most"),
        ((*FIELDS, ("nonce", 5)), 24, (("nonce", 8),), "a field name is used twice"),
        ((*FIELDS, ("nonce", 5)), 24, (("a", 4), ("a", 4)), "a field name is used twice"),
        ((("tier", 24), ("nonce", 5)), 24, (("client", 8),), "client cannot be claimed"),
        ((*FIELDS, ("nonce", 5)), 24, (("a", 8), ("b", 0)), "at least one bit"),
    ],
)
def test_wrong_claims_are_refused(
    fields: tuple[tuple[str, int], ...], tag_bits: int, claims: tuple[tuple[str, int], ...], message: str
) -> None:
    """Claims that violate a bound are refused with the bound."""
    with pytest.raises(CodecError, match=message):
        Layout(WEB, fields, tag_bits, claims)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"content": 8}, r"'content': value 8 is out of range \(0 to 7"),
        ({"content": -1}, "out of range"),
        ({"lang": 1}, r"a claim of this cluster \(content, session\) has no field lang"),
    ],
)
def test_wrong_values_of_claims_are_named(values: dict[str, int], message: str) -> None:
    """An unknown or too large claim is refused; one that is not named is 0."""
    assert pack_claims((("content", 3), ("session", 8)), {"content": 2}) == 2 << 8
    with pytest.raises(CodecError, match=message):
        pack_claims((("content", 3), ("session", 8)), values)


def test_claims_without_bits_for_them_are_refused() -> None:
    """A client cannot say more than the layout has bits for, nor with a short key."""
    layout = Layout(WEB, (*FIELDS, ("nonce", 13)), 24)
    with pytest.raises(CodecError, match="0 bits for them"):
        prove(layout, 0, bytes(16), Bind.NONE, 0, 0, 0, 1)
    label = LabelFormat((("quality", 4),), 16)
    with pytest.raises(CodecError, match="4 bits for them"):
        label.make(0, bytes(16), Bind.NONE, 0, 0, 0, 16)
    with pytest.raises(CodecError, match="15 bytes: must be 16"):
        label.make(0, bytes(15), Bind.NONE, 0, 0, 0, 1)


@given(st.integers(8, 19), bys, st.integers(0, (1 << 128) - 1), st.data())
def test_labels_round_trip(mac_bits: int, by: By, address: int, data: st.DataObject) -> None:
    """Any claims are read again from the label that says them, which has 20 bits."""
    form = LabelFormat((("quality", 20 - mac_bits),), mac_bits)
    claims = data.draw(st.integers(0, (1 << form.claim_bits) - 1))
    label = form.make(address, *by, claims)
    assert label >> 20 == 0
    assume(form.read(label, address, *by[:-1], (by[-1] + 1,)) is None)  # one in 256 fits there too, by chance
    assert form.read(label, address, *by[:-1], (by[-1] + 1, by[-1])) == claims


def test_wrong_labels_are_no_claim() -> None:
    """Of 4096 labels with one flipped bit, for another address or in another slot, about one in 2^13 fits by chance."""
    form = LabelFormat((("quality", 4), ("priority", 3)), 13)
    by = bytes(range(16)), Bind.ADDRESS, 5 << 64, 40_000
    fitting = 0
    for number in range(4096):
        label = form.make(number, *by, number, number & 127)
        wrong = label ^ 1 << number % 20
        fitting += form.read(wrong, number, *by, (number,)) is not None
        fitting += form.read(label, number ^ 1 << 90, *by, (number,)) is not None
        fitting += form.read(label, number, *by, (number + 1,)) is not None
    assert fitting <= 12


@pytest.mark.parametrize(
    ("claims", "mac_bits", "message"),
    [
        ((("quality", 13),), 7, "mac_bits 7: must be 8 to 19"),
        ((("quality", 1),), 20, "mac_bits 20: must be 8 to 19"),
        ((("quality", 4),), 13, "claims 4 . mac 13 = 17 bits: must be 20"),
        ((("quality", 4), ("quality", 3)), 13, "used twice"),
        ((("tier", 7),), 13, "tier cannot be claimed"),
        ((("quality", 7), ("a", 0)), 13, "at least one bit"),
    ],
)
def test_wrong_label_formats_are_refused(claims: tuple[tuple[str, int], ...], mac_bits: int, message: str) -> None:
    """A label format that violates a bound is refused with the bound."""
    with pytest.raises(CodecError, match=message):
        LabelFormat(claims, mac_bits)


@given(secrets, epochs, st.integers(0, (1 << 64) - 1), st.integers(8, 41), st.data())
def test_sources_round_trip(secret: bytes, epoch: int, network: int, tag_bits: int, data: st.DataObject) -> None:
    """Any payload round-trips through its address, in the client's /64 and with its first bit 0; for any wide tag one
    flipped bit, in the network too, makes it nobody's address."""
    form = SourceFormat(WEB, (("client", 61 - tag_bits),), tag_bits)
    codec = SourceCodec(form, secret, epoch)
    payload = data.draw(st.integers(0, (1 << form.payload_bits) - 1))
    address = codec.seal(network << 64, payload)
    assert address >> 64 == network
    assert source_epoch(address) == epoch
    assert codec.authentic(address)
    assert codec.open(address) == payload
    flipped = address ^ 1 << data.draw(st.integers(0, 127))
    assert tag_bits < 32 or not codec.authentic(flipped)
    assert source_epoch(address | 1 << 63) is None
    assert not codec.authentic(address | 1 << 63)


@pytest.mark.parametrize(
    ("fields", "tag_bits", "message"),
    [
        ((("client", 53),), 7, "tag_bits 7: must be 8 or more"),
        ((("client", 19),), 42, "take 19 bits: must be 20 or more"),
        ((("client", 36),), 24, "fields 36 . tag 24 = 63 bits: must be 64"),
        ((("lang", 37),), 24, "at least one of tier and client"),
        ((("client", 30), ("client", 7)), 24, "used twice"),
        ((("client", 37), ("a", 0)), 24, "at least one bit"),
    ],
)
def test_wrong_source_formats_are_refused(fields: tuple[tuple[str, int], ...], tag_bits: int, message: str) -> None:
    """A source layout that violates a bound is refused with the bound."""
    with pytest.raises(CodecError, match=message):
        SourceFormat(WEB, fields, tag_bits)


def test_wrong_source_keys_are_refused() -> None:
    """A secret that is not 32 bytes long, or a slot outside 0 to 3, is refused."""
    form = SourceFormat(WEB, (("client", 37),), 24)
    with pytest.raises(CodecError, match="must be 32"):
        SourceCodec(form, bytes(31), 0)
    with pytest.raises(CodecError, match="must be 0 to 3"):
        SourceCodec(form, bytes(32), 4)

"""Bit positions: every valid layout packs and unpacks, every other one is refused with the reason."""

from __future__ import annotations

from ipaddress import IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsvip.address.layout import Layout
from dnsvip.errors import CodecError
from tests.address.strategies import layouts, payloads

WEB = IPv6Network("2001:db8:a:1::/64")
FIELDS = (("tier", 4), ("client", 20), ("expiry", 7), ("nonce", 6))


@given(layouts(), st.data())
def test_unpack_undoes_pack(layout: Layout, data: st.DataObject) -> None:
    """Unpacking any payload and packing its values gives the payload, and `get` reads the same values."""
    payload = data.draw(payloads(layout))
    values = layout.unpack(payload)
    assert list(values) == [name for name, _ in layout.fields]
    assert layout.pack(values) == payload
    assert all(layout.get(payload, name) == value for name, value in values.items())


@given(layouts())
def test_bits_do_not_overlap_and_leave_none_over(layout: Layout) -> None:
    """Prefix, mode, epoch, payload and tag cover the 128 bits, each bit once."""
    parts = [
        ((1 << layout.prefix.prefixlen) - 1) << layout.host_bits,
        layout.mode_bit,
        3 << layout.epoch_shift,
        ((1 << layout.payload_bits) - 1) << layout.tag_bits,
        layout.tag_mask,
    ]
    assert sum(parts) == (1 << 128) - 1
    assert sum(part.bit_count() for part in parts) == 128


def test_first_field_is_most_significant() -> None:
    """The first field sits above all the others."""
    layout = Layout(WEB, FIELDS, 24)
    assert layout.pack({"tier": 1, "client": 0, "expiry": 0, "nonce": 0}) == 1 << 33
    assert layout.pack({"tier": 0, "client": 0, "expiry": 0, "nonce": 1}) == 1


def test_absent_field_reads_as_zero() -> None:
    """A field missing from the layout reads as 0 and is 0 bits wide."""
    layout = Layout(WEB, FIELDS, 24)
    assert layout.get((1 << 37) - 1, "session") == 0
    assert layout.bits("session") == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tier": 16, "client": 0, "expiry": 0, "nonce": 0}, "'tier': value 16 is out of range.*0 to 15"),
        ({"tier": -1, "client": 0, "expiry": 0, "nonce": 0}, "'tier': value -1 is out of range"),
        ({"tier": 1, "client": 0, "expiry": 0}, "'nonce': value missing"),
        ({"tier": 1, "client": 0, "expiry": 0, "nonce": 0, "lang": 1}, "no field lang"),
    ],
)
def test_wrong_values_are_named(values: dict[str, int], message: str) -> None:
    """A missing, unknown or too large value is refused; the error names the field and its range."""
    with pytest.raises(CodecError, match=message):
        Layout(WEB, FIELDS, 24).pack(values)


@pytest.mark.parametrize(
    ("prefix", "fields", "tag_bits", "message"),
    [
        ("2001::/24", FIELDS, 24, "prefix length 24: must be 32 to 96"),
        ("2001:db8::/97", FIELDS, 24, "prefix length 97: must be 32 to 96"),
        ("2001:db8::/64", FIELDS, 7, "tag_bits 7: must be 8 to 64"),
        ("2001:db8::/64", FIELDS, 65, "tag_bits 65: must be 8 to 64"),
        ("2001:db8::/64", FIELDS, 23, "= 127 bits: must be 128"),
        ("2001:db8::/64", (("tier", 19),), 42, "take 19 bits: must be 20 to 80"),
        ("2001:db8::/32", (("tier", 81),), 12, "take 81 bits: must be 20 to 80"),
        ("2001:db8::/64", (("lang", 37),), 24, "at least one of tier and client"),
        ("2001:db8::/64", (("tier", 17), ("tier", 20)), 24, "used twice"),
        ("2001:db8::/64", (("tier", 37), ("client", 0)), 24, "at least one bit"),
    ],
)
def test_wrong_layouts_are_refused(
    prefix: str, fields: tuple[tuple[str, int], ...], tag_bits: int, message: str
) -> None:
    """A layout that violates a bound is refused with the bound."""
    with pytest.raises(CodecError, match=message):
        Layout(IPv6Network(prefix), fields, tag_bits)

"""Labels that name sessions: only who holds the key makes one, whatever case they come back in."""

from __future__ import annotations

from ipaddress import IPv6Network

import pytest

from dnsvip.address.session import LABEL_LENGTH, SessionLabels, field_value, shared_bit

PREFIX = IPv6Network("2001:db8:a:1::/64")
LABELS = SessionLabels.of(bytes(range(32)), PREFIX, "*.s.example.test")


@pytest.mark.parametrize("number", [0, 1, 0x0123456789ABCDEF, (1 << 64) - 1])
def test_round_trip(number: int) -> None:
    """A label is 32 lower-case characters of a host name, and names its session in any case."""
    label = LABELS.make(number)
    assert len(label) == LABEL_LENGTH
    assert label.isalnum()
    assert label == label.lower()
    assert LABELS.number(label.encode()) == LABELS.number(label.upper().encode()) == number


def test_a_vector() -> None:
    """Every version makes and takes this label: names live as long as their cluster."""
    assert LABELS.make(1) == VECTOR


VECTOR = "0000000000002b19e9rvi4j3vt90k2ak"


def test_nobody_invents_one() -> None:
    """Any other bit, length, alphabet, service, prefix or key: no session."""
    label = LABELS.make(77)
    alphabet = "0123456789abcdefghijklmnopqrstuv"
    for place in range(LABEL_LENGTH):
        other = alphabet[(alphabet.index(label[place]) + 1) % 32]
        assert LABELS.number((label[:place] + other + label[place + 1 :]).encode()) is None
    for text in (b"", b"*", b"www", label[:-1].encode(), f"{label}a".encode(), b"\xff" * 32, b"=" * 32, b"z" * 32):
        assert LABELS.number(text) is None
    others = (
        SessionLabels.of(bytes(range(32)), PREFIX, "*.t.example.test"),
        SessionLabels.of(bytes(range(32)), IPv6Network("2001:db8:a:2::/64"), "*.s.example.test"),
        SessionLabels.of(bytes(32), PREFIX, "*.s.example.test"),
        SessionLabels.of(None, PREFIX, "*.s.example.test"),
    )
    assert [other.number(label.encode()) for other in others] == [None] * 4


def test_the_value_in_an_address() -> None:
    """It has the highest bit of its field, and the low bits of the number."""
    assert shared_bit(12) == 0x800
    assert field_value(0xABC, 12) == 0xABC
    assert field_value(0x1234_5000, 12) == 0x800
    assert field_value((1 << 64) - 1, 64) == (1 << 64) - 1

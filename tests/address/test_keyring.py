"""Epochs of one cluster: which one encodes, which ones decode, which slot comes next."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsvip.address.keyring import Epoch, EpochState, Keyring
from dnsvip.address.layout import Layout
from dnsvip.errors import CodecError

LAYOUT = Layout(IPv6Network("2001:db8:a:1::/64"), (("tier", 4), ("client", 33)), 24)
PUBLISHED, ACTIVE, RETIRING = EpochState.PUBLISHED, EpochState.ACTIVE, EpochState.RETIRING


def epoch(slot: int, state: EpochState, published_at: int = 0) -> Epoch:
    return Epoch(slot, state, bytes([slot]) * 32, published_at=published_at)


@given(st.permutations(range(4)), st.integers(0, 4), st.integers(0, (1 << 37) - 1))
def test_address_finds_its_epoch(slots: list[int], count: int, payload: int) -> None:
    """An address selects its epoch's codec and decodes to its payload; one of an empty slot selects none."""
    keyring = Keyring(LAYOUT, [epoch(slot, RETIRING) for slot in slots[:count]])
    for slot in range(4):
        found = keyring.of(LAYOUT.prefix_int | slot << LAYOUT.epoch_shift)
        assert (found is not None) is (slot in slots[:count])
        if found:
            address = found[1].seal(payload)
            assert keyring.of(address) is found is keyring.at(slot)
            assert found[0].slot == slot
            assert found[1].open(address) == payload


def test_active_epoch_is_the_one_that_encodes() -> None:
    """Of published, active and retiring epochs the active one encodes; without it none does."""
    epochs = [epoch(1, PUBLISHED), epoch(0, ACTIVE), epoch(3, RETIRING)]
    active = Keyring(LAYOUT, epochs).active
    assert active is not None
    assert active[0].slot == 0
    assert Keyring(LAYOUT, [epochs[0], epochs[2]]).active is None


@pytest.mark.parametrize(
    ("epochs", "message"),
    [
        ([epoch(1, ACTIVE), epoch(1, RETIRING)], "slot 1 is used twice"),
        ([epoch(0, ACTIVE), epoch(1, ACTIVE)], "0 and 1 are both active"),
        ([epoch(4, ACTIVE)], "epoch slot 4: must be 0 to 3"),
    ],
)
def test_impossible_keyrings_are_refused(epochs: list[Epoch], message: str) -> None:
    """Two epochs in one slot, two active ones, or a slot outside 0 to 3 are refused."""
    with pytest.raises(CodecError, match=message):
        Keyring(LAYOUT, epochs)


def test_key_id_is_the_keys_own() -> None:
    """A key's id depends on the key alone, differs between keys, and reveals nothing of the key."""
    one = epoch(0, ACTIVE)
    assert one.key_id == replace(one, slot=3, state=RETIRING).key_id
    assert one.key_id != replace(one, secret=b"x" * 32).key_id
    assert bytes.fromhex(one.key_id) not in one.secret


def test_secret_is_not_shown() -> None:
    """An epoch's repr hides its secret."""
    assert "secret" not in repr(epoch(1, ACTIVE))

"""A client's proof: bound as its record says, valid in its slots, invalid under another key."""

from __future__ import annotations

from functools import partial
from ipaddress import IPv6Network
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsvip.address.layout import Layout
from dnsvip.address.proof import Bind, acceptable_slots, client_key, prove, verify
from dnsvip.address.suffix import SuffixCodec
from dnsvip.errors import CodecError
from tests.address.strategies import codecs, layouts, payloads

Caller: TypeAlias = tuple[bytes, int, int]
"""A key, a source address and a source port."""

LAYOUT = Layout(IPv6Network("2001:db8:a:1::/64"), (("tier", 4), ("client", 33)), 24)

keys = st.binary(min_size=16, max_size=16)
sources = st.integers(0, (1 << 128) - 1)
ports = st.integers(0, 65535)
slots = st.integers(0, (1 << 32) - 1)
callers = st.tuples(keys, sources, ports)
binds = st.sampled_from(Bind)


@given(codecs(), keys, binds, sources, ports, slots, st.data())
def test_proof_verifies(
    codec: SuffixCodec, key: bytes, bind: Bind, source: int, port: int, slot: int, data: st.DataObject
) -> None:
    """Over any layout a proven address verifies, is in mode 1, passes the cheap check and keeps its payload."""
    payload = data.draw(payloads(codec.layout))
    proven = prove(codec.layout, codec.seal(payload), key, bind, source, port, slot)
    assert verify(codec.layout, proven, key, bind, source, port, slot)
    assert proven & codec.layout.mode_bit
    assert codec.authentic(proven)
    assert codec.open(proven) == payload


@given(codecs(min_tag=60), callers, callers, slots, st.data())
def test_proof_is_bound_to_what_its_setting_says(
    codec: SuffixCodec, caller: Caller, other: Caller, slot: int, data: st.DataObject
) -> None:
    """Another key or slot always fails; another source address or port fails if it is bound.

    With 40 proof bits a chance hit would take 10^12 examples.
    """
    issued = codec.seal(data.draw(payloads(codec.layout)))
    (key, source, port), (other_key, other_source, other_port) = caller, other
    for bind in Bind:
        proven = prove(codec.layout, issued, key, bind, source, port, slot)
        holds = partial(verify, codec.layout, proven)
        assert holds(other_key, bind, source, port, slot) is (other_key == key)
        assert not holds(key, bind, source, port, slot + 1)
        assert holds(key, bind, other_source, port, slot) is (bind is Bind.NONE or other_source == source)
        assert holds(key, bind, source, other_port, slot) is (bind is not Bind.ADDRESS_PORT or other_port == port)


@given(codecs(min_tag=60), keys, slots, st.data())
def test_proof_covers_the_address(codec: SuffixCodec, key: bytes, slot: int, data: st.DataObject) -> None:
    """Flipping any bit outside the cheap tag bits and the mode invalidates the proof."""
    layout = codec.layout
    proven = prove(layout, codec.seal(data.draw(payloads(layout))), key, Bind.NONE, 0, 0, slot)
    proof_bits = layout.tag_bits - layout.cheap_tag_bits
    bits = [*range(proof_bits), *range(layout.tag_bits, layout.host_bits - 1), *range(layout.host_bits, 128)]
    assert not verify(layout, proven ^ 1 << data.draw(st.sampled_from(bits)), key, Bind.NONE, 0, 0, slot)


@given(layouts(), st.binary(min_size=32, max_size=32), st.integers(1, (1 << 63) - 1), st.integers(0, (1 << 32) - 2))
def test_client_keys_differ(layout: Layout, master: bytes, client: int, generation: int) -> None:
    """Each client and each key generation has its own key."""
    key = client_key(master, layout, client, generation)
    assert (
        len(
            {
                key,
                client_key(master, layout, client + 1, generation),
                client_key(master, layout, client, generation + 1),
            }
        )
        == 3
    )


@pytest.mark.parametrize(
    ("master", "client", "generation", "message"),
    [
        (31, 1, 0, "must be 32"),
        (32, 1 << 64, 0, "out of range"),
        (32, 1, 1 << 32, "out of range"),
        (32, -1, 0, "out of"),
    ],
)
def test_keys_that_cannot_be_are_refused(master: int, client: int, generation: int, message: str) -> None:
    """A master of another length, or an id or generation out of range, is refused."""
    with pytest.raises(CodecError, match=message):
        client_key(bytes(master), LAYOUT, client, generation)


def test_short_key_is_refused() -> None:
    """A key that is not 16 bytes long is refused, not padded."""
    with pytest.raises(CodecError, match="15 bytes: must be 16"):
        prove(LAYOUT, 0, bytes(15), Bind.NONE, 0, 0, 0)


def test_slots_before_and_after_are_acceptable() -> None:
    """At 90.5 s with slots of 30 s, slots 3, 2 and 4 are acceptable, the likeliest first."""
    assert acceptable_slots(90.5, 30) == (3, 2, 4)
    assert acceptable_slots(89.999, 30) == (2, 1, 3)

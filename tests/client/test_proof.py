"""The modifier against the published vectors and against the verifier."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsvip.address.layout import Layout
from dnsvip.address.proof import Bind, acceptable_slots, client_key, verify
from dnsvip.address.suffix import SuffixCodec
from dnsvip.client.enrolment import EnrolledCluster, ProofKey
from dnsvip.client.proof import Modifier, Why

FIXTURE = Path(__file__).parent.parent / "fixtures" / "address-format.json"
CASES = [case for case in json.loads(FIXTURE.read_text())["cases"] if "proof" in case]
KEY = bytes(range(16))
SOURCE = IPv6Address("2001:db8:77::5")


def cluster(
    bind: Bind = Bind.ADDRESS,
    *,
    single_use: bool = False,
    prefix: str = "2001:db8:a:1::/64",
    tag_bits: int = 24,
    slot_seconds: int = 30,
    proof: bool = True,
) -> EnrolledCluster:
    network = IPv6Network(prefix)
    bits = 128 - network.prefixlen - 3 - tag_bits
    layout = (("tier", 4), ("client", bits - 4))
    key = ProofKey(KEY, bind, single_use)
    plain = network.network_address + 1
    return EnrolledCluster(
        "web", network, plain, layout, tag_bits, slot_seconds, ("www.example.test",), key if proof else None
    )


def issued_in(enrolled: EnrolledCluster, payload: int = 12345) -> IPv6Address:
    return IPv6Address(SuffixCodec(enrolled.address_layout, bytes(32), 1).seal(payload))


@pytest.mark.parametrize("case", CASES)
def test_vectors(case: dict[str, Any]) -> None:
    """The modifier reproduces every published proof, key derivation included."""
    proof, network = case["proof"], IPv6Network(case["prefix"])
    fields = tuple((name, bits) for name, bits in case["fields"])
    layout = Layout(network, fields, case["tag_bits"])
    key = client_key(bytes.fromhex(proof["client_master"]), layout, case["values"]["client"], proof["generation"])
    enrolled = EnrolledCluster(
        "web",
        network,
        network.network_address + 1,
        fields,
        case["tag_bits"],
        30,
        (),
        ProofKey(key, Bind(proof["bind"])),
    )
    now = proof["slot"] * 30 + 29.9
    proven = Modifier(enrolled).prove(
        IPv6Address(case["issued"]), IPv6Address(proof["source"]), proof["source_port"], now
    )
    assert key.hex() == proof["client_key"]
    assert proven.why is Why.PROVEN
    assert proven.address == IPv6Address(proof["proven"])
    assert proven.valid_until == (proof["slot"] + 1) * 30


@given(
    bind=st.sampled_from(Bind),
    payload=st.integers(0, (1 << 37) - 1),
    source=st.integers(0, (1 << 128) - 1),
    port=st.integers(1, 65535),
    now=st.floats(0, 1 << 33),
    later=st.floats(0, 1),
    slot_seconds=st.integers(1, 3600),
)
def test_proof_holds_until_it_says(
    bind: Bind, payload: int, source: int, port: int, now: float, later: float, slot_seconds: int
) -> None:
    """A dispatcher accepts the proof until valid_until and for one slot longer."""
    enrolled = cluster(bind, slot_seconds=slot_seconds)
    issued = issued_in(enrolled, payload)
    proven = Modifier(enrolled).prove(issued, IPv6Address(source), port, now)
    assert proven.why is Why.PROVEN
    assert proven.valid_until is not None
    assert now < proven.valid_until <= now + slot_seconds + 1
    for moment in (now, now + later * (proven.valid_until - now), proven.valid_until + slot_seconds * 0.99):
        assert any(
            verify(enrolled.address_layout, int(proven.address), KEY, bind, source, port, slot)
            for slot in acceptable_slots(moment, slot_seconds)
        )


@given(payload=st.integers(0, (1 << 37) - 1), port=st.integers(1, 65535), now=st.integers(0, 1 << 33))
def test_proving_twice_changes_nothing(payload: int, port: int, now: int) -> None:
    """Proving an already proven address in the same slot changes nothing."""
    enrolled = cluster(Bind.ADDRESS_PORT)
    modifier = Modifier(enrolled)
    once = modifier.prove(issued_in(enrolled, payload), SOURCE, port, now)
    assert modifier.prove(once.address, SOURCE, port, now) == once


@given(address=st.integers(0, (1 << 128) - 1).map(IPv6Address))
def test_other_addresses_stay(address: IPv6Address) -> None:
    """An address outside the cluster prefix is returned unchanged."""
    enrolled = cluster()
    proven = Modifier(enrolled).prove(address, SOURCE, 0, 1e9)
    assert address in enrolled.prefix or (proven.address, proven.why) == (address, Why.OUTSIDE)


def test_plain_vip_stays() -> None:
    """The plain VIP is returned unchanged, without an end of validity."""
    enrolled = cluster()
    proven = Modifier(enrolled).prove(enrolled.plain, SOURCE, 0, 1e9)
    assert (proven.address, proven.why, proven.valid_until) == (enrolled.plain, Why.PLAIN, None)


def test_no_key() -> None:
    """Without a key for the cluster the issued address is returned unchanged."""
    enrolled = cluster(proof=False)
    issued = issued_in(enrolled)
    proven = Modifier(enrolled).prove(issued, SOURCE, 0, 1e9)
    assert (proven.address, proven.why) == (issued, Why.NO_KEY)


def test_port_must_be_known() -> None:
    """A port-bound proof requires the port."""
    enrolled = cluster(Bind.ADDRESS_PORT)
    modifier = Modifier(enrolled)
    assert modifier.prove(issued_in(enrolled), SOURCE, 0, 1e9).why is Why.NEEDS_PORT
    assert modifier.prove(issued_in(enrolled), SOURCE, 4711, 1e9).why is Why.PROVEN


def test_single_use_never_repeats() -> None:
    """Given the used addresses, the modifier returns each once: three in the first slot, one more per later slot."""
    enrolled = cluster(single_use=True)
    modifier, issued = Modifier(enrolled), issued_in(enrolled)
    used: set[IPv6Address] = set()
    counts = []
    for slot in range(4):
        now = (1000 + slot) * 30
        before = len(used)
        while (proven := modifier.prove(issued, SOURCE, 0, now, used)).why is Why.PROVEN:
            assert proven.address not in used
            used.add(proven.address)
        assert proven.why is Why.USED_UP
        counts.append(len(used) - before)
    assert counts == [3, 1, 1, 1]


def test_reserved_address_is_avoided() -> None:
    """If the current slot's proof equals the plain VIP, an adjacent slot's proof is taken, and it verifies."""
    enrolled = cluster(prefix="2001:db8:1:2:3:4::/96", tag_bits=9)
    issued = issued_in(enrolled, 7)
    now = 900_000_000.0
    usual = Modifier(enrolled).prove(issued, SOURCE, 0, now)
    unlucky = replace(enrolled, plain=usual.address)
    proven = Modifier(unlucky).prove(issued, SOURCE, 0, now)
    assert proven.why is Why.PROVEN
    assert proven.address != usual.address
    slots = acceptable_slots(now, 30)
    assert any(
        verify(enrolled.address_layout, int(proven.address), KEY, Bind.ADDRESS, int(SOURCE), 0, s) for s in slots
    )

"""Every case of the shared vectors, which pin all implementations of the address format to each other."""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import pytest

from dnsvip.address.keyring import Epoch, EpochState, Keyring
from dnsvip.address.layout import Layout
from dnsvip.address.proof import Bind, client_key, prove, verify
from dnsvip.address.suffix import SuffixCodec

CASES = json.loads((Path(__file__).parent.parent / "fixtures" / "address-format.json").read_text())["cases"]


@dataclass(frozen=True)
class Case:
    data: dict[str, Any]
    layout: Layout
    codec: SuffixCodec
    issued: int


@pytest.fixture(params=CASES, ids=lambda case: case["issued"])
def case(request: pytest.FixtureRequest) -> Case:
    data = request.param
    fields = tuple((name, bits) for name, bits in data["fields"])
    layout = Layout(IPv6Network(data["prefix"]), fields, data["tag_bits"])
    codec = SuffixCodec(layout, bytes.fromhex(data["secret"]), data["epoch"])
    return Case(data, layout, codec, int(IPv6Address(data["issued"])))


def test_values_encode_to_the_issued_address(case: Case) -> None:
    """Encoding the values, singly or in a batch, gives exactly the issued address."""
    assert case.codec.encode(case.data["values"]) == case.issued
    assert case.codec.seal_batch([case.layout.pack(case.data["values"])]) == [case.issued]


def test_issued_address_decodes(case: Case) -> None:
    """The issued address is authentic and decodes to the values."""
    assert case.codec.authentic(case.issued)
    assert case.codec.decode(case.issued) == case.data["values"]


def test_client_key_is_derived(case: Case) -> None:
    """The client's key is derived from master, client id and key generation."""
    proof = case.data["proof"]
    key = client_key(
        bytes.fromhex(proof["client_master"]), case.layout, case.data["values"]["client"], proof["generation"]
    )
    assert key.hex() == proof["client_key"]


def test_proof_gives_the_proven_address(case: Case) -> None:
    """Proving the issued address gives the proven one, which passes the cheap check, decodes and verifies."""
    proof = case.data["proof"]
    key, bind, slot = bytes.fromhex(proof["client_key"]), Bind(proof["bind"]), proof["slot"]
    source, port, proven = int(IPv6Address(proof["source"])), proof["source_port"], int(IPv6Address(proof["proven"]))
    assert prove(case.layout, case.issued, key, bind, source, port, slot) == proven
    assert case.codec.authentic(proven)
    assert case.codec.decode(proven) == case.data["values"]
    assert verify(case.layout, proven, key, bind, source, port, slot)


def test_rejected_addresses_do_not_decode(case: Case) -> None:
    """No damaged address is authentic, with its epoch looked up or given."""
    keyring = Keyring(
        case.layout, [Epoch(case.data["epoch"], EpochState.ACTIVE, bytes.fromhex(case.data["secret"]), activated_at=1)]
    )
    assert case.data["rejected"]
    for text in case.data["rejected"]:
        address = int(IPv6Address(text))
        entry = keyring.of(address)
        assert entry is None or not entry[1].authentic(address), text
        assert not case.codec.authentic(address), text

"""Every case of the shared vectors for claims, flow labels and source addresses."""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import pytest

from dnsvip.address.fields import Fields, pack_claims, shifts_of, unpack
from dnsvip.address.label import LabelFormat
from dnsvip.address.layout import Layout
from dnsvip.address.proof import Bind, claims_of, client_key, prove, verify
from dnsvip.address.source import SourceCodec, SourceFormat, source_epoch
from dnsvip.address.suffix import SuffixCodec

VECTORS = json.loads((Path(__file__).parent.parent / "fixtures" / "claims.json").read_text())


def fields_of(listed: list[list[Any]]) -> Fields:
    return tuple((name, bits) for name, bits in listed)


def number(text: str) -> int:
    return int(IPv6Address(text))


@dataclass(frozen=True)
class Case:
    data: dict[str, Any]
    layout: Layout
    codec: SuffixCodec
    label: LabelFormat
    key: bytes

    @property
    def by(self) -> tuple[bytes, Bind, int, int, int]:
        """Key, binding, source, port and slot, as the functions of a proof take them."""
        data = self.data
        return self.key, Bind(data["bind"]), number(data["source"]), data["source_port"], data["slot"]


@pytest.fixture(params=VECTORS["cases"], ids=lambda case: case["issued"])
def case(request: pytest.FixtureRequest) -> Case:
    data = request.param
    layout = Layout(IPv6Network(data["prefix"]), fields_of(data["fields"]), data["tag_bits"], fields_of(data["claims"]))
    codec = SuffixCodec(layout, bytes.fromhex(data["secret"]), data["epoch"])
    label = LabelFormat(fields_of(data["label"]["claims"]), data["label"]["mac_bits"])
    return Case(data, layout, codec, label, bytes.fromhex(data["client_key"]))


def test_values_encode_to_the_issued_address(case: Case) -> None:
    """Encoding the values gives the issued address, whose claims are 0, and back."""
    issued = number(case.data["issued"])
    assert case.codec.encode(case.data["values"]) == issued
    assert case.codec.seal_batch([case.layout.pack(case.data["values"])]) == [issued]
    assert case.codec.authentic(issued)
    assert case.codec.decode(issued) == case.data["values"]
    assert not issued & case.layout.claim_mask


def test_client_key_is_derived(case: Case) -> None:
    """The client's key does not depend on claims."""
    data = case.data
    master = bytes.fromhex(data["client_master"])
    assert client_key(master, case.layout, data["values"]["client"], data["generation"]) == case.key


def test_claims_give_the_proven_address(case: Case) -> None:
    """What the client says and its proof give the proven address, from which a verifier reads the same."""
    issued, proven = number(case.data["issued"]), number(case.data["proven"])
    said = pack_claims(case.layout.claims, case.data["said"])
    assert prove(case.layout, issued, *case.by, said) == proven
    assert case.codec.authentic(proven)
    assert case.codec.decode(proven) == case.data["values"]
    assert verify(case.layout, proven, *case.by)
    claims = claims_of(case.layout, proven, *case.by)
    assert unpack(shifts_of(case.layout.claims), claims) == case.data["said"]


@pytest.mark.parametrize("mode", ["issued", "proven"])
def test_labels(case: Case, mode: str) -> None:
    """The flow label to the issued and to the proven address is made as given, and read again."""
    address, label = number(case.data[mode]), case.data[f"label_of_{mode}"]
    claims = case.label.pack(case.data["label_said"])
    assert case.label.make(address, *case.by, claims) == label
    assert case.label.read(label, address, *case.by[:-1], case.by[-1:]) == claims
    assert case.label.unpack(claims) == case.data["label_said"]


def test_rejected_addresses_do_not_decode(case: Case) -> None:
    """No damaged address is both authentic and, in mode 1, proven."""
    assert case.data["rejected"]
    for text in case.data["rejected"]:
        address = number(text)
        passes = case.codec.authentic(address) and address >> case.layout.epoch_shift & 3 == case.codec.epoch
        proves = not address & case.layout.mode_bit or verify(case.layout, address, *case.by)
        assert not (passes and proves), text


@pytest.mark.parametrize("data", VECTORS["sources"], ids=lambda data: data["address"])
def test_source_addresses(data: dict[str, Any]) -> None:
    """The values give the client's source address in its /64, and back; in another /64 it is no information."""
    form = SourceFormat(IPv6Network(data["cluster"]), fields_of(data["fields"]), data["tag_bits"])
    codec = SourceCodec(form, bytes.fromhex(data["secret"]), data["epoch"])
    network, address = int(IPv6Network(data["client_prefix"]).network_address), number(data["address"])
    assert codec.seal(network, form.pack(data["values"])) == address
    assert source_epoch(address) == data["epoch"]
    assert codec.authentic(address)
    assert form.unpack(codec.open(address)) == data["values"]
    assert not codec.authentic(address ^ 1 << 64)

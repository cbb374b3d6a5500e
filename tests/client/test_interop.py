"""Enrolment, modifier and dispatcher of one site agree with each other."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsvip.address.proof import Bind
from dnsvip.client.enrol import make_enrolment
from dnsvip.client.enrolment import dump, parse
from dnsvip.client.proof import Modifier, Why
from dnsvip.dispatcher.reason import AddressReason
from dnsvip.dispatcher.verify.verifier import AddressVerifier
from dnsvip.site import Proof, Snapshot
from tests.samples import NOW, make_snapshot

SOURCE = IPv6Address("2001:db8:77::5")


def with_proof(proof: Proof, generation: int = 0) -> Snapshot:
    snapshot = make_snapshot()
    acme = replace(snapshot.site.clients["acme"], proof=proof, key_generation=generation)
    site = replace(snapshot.site, clients={**snapshot.site.clients, "acme": acme})
    return replace(snapshot, site=site)


def issued(snapshot: Snapshot, client: int = 1001, nonce: int = 0) -> IPv6Address:
    active = snapshot.keyrings["web"].active
    assert active
    return IPv6Address(active[1].encode({"tier": 1, "client": client, "expiry": 127, "nonce": nonce}))


def modifier(snapshot: Snapshot) -> Modifier:
    return Modifier(parse(dump(make_enrolment(snapshot, "acme", ["192.0.2.53:53"])), "x").clusters[0])


@given(
    bind=st.sampled_from(Bind),
    generation=st.integers(0, (1 << 32) - 1),
    nonce=st.integers(0, 63),
    after=st.floats(0, 29),
)
def test_the_dispatcher_accepts_the_proof(bind: Bind, generation: int, nonce: int, after: float) -> None:
    """The dispatcher verifies the proof of an imported enrolment as `proven`, one slot later too."""
    snapshot = with_proof(Proof(bind), generation)
    proven = modifier(snapshot).prove(issued(snapshot, nonce=nonce), SOURCE, 4711, NOW)
    assert proven.why is Why.PROVEN
    address_verdict = AddressVerifier(snapshot).verify(int(proven.address), int(SOURCE), 4711, NOW + after)
    assert (address_verdict.reason, address_verdict.client) == (AddressReason.PROVEN, 1001)


@pytest.mark.parametrize(
    ("bind", "source", "port", "reason"),
    [
        (Bind.NONE, "2001:db8:77::6", 1, AddressReason.PROVEN),
        (Bind.ADDRESS, "2001:db8:77::5", 1, AddressReason.PROVEN),
        (Bind.ADDRESS, "2001:db8:77::6", 4711, AddressReason.BAD_PROOF),
        (Bind.ADDRESS_PORT, "2001:db8:77::5", 1, AddressReason.BAD_PROOF),
    ],
)
def test_from_elsewhere(bind: Bind, source: str, port: int, reason: AddressReason) -> None:
    """A source-bound proof used from another source is refused."""
    snapshot = with_proof(Proof(bind))
    proven = modifier(snapshot).prove(issued(snapshot), SOURCE, 4711, NOW)
    assert AddressVerifier(snapshot).verify(int(proven.address), int(IPv6Address(source)), port, NOW).reason is reason


def test_raised_generation_ends_an_enrolment() -> None:
    """After the client's key generation is raised, the old enrolment's proofs are refused."""
    old, new = with_proof(Proof(Bind.NONE), 0), with_proof(Proof(Bind.NONE), 1)
    proven = modifier(old).prove(issued(old), SOURCE, 0, NOW)
    assert AddressVerifier(new).verify(int(proven.address), int(SOURCE), 0, NOW).reason is AddressReason.BAD_PROOF


def test_another_clients_address() -> None:
    """A client's key cannot prove an address issued to another client."""
    snapshot = with_proof(Proof(Bind.NONE))
    proven = modifier(snapshot).prove(issued(snapshot, client=1002), SOURCE, 0, NOW)
    assert AddressVerifier(snapshot).verify(int(proven.address), int(SOURCE), 0, NOW).reason is AddressReason.BAD_PROOF


def test_single_use_addresses_all_pass_once() -> None:
    """Each address of a single-use client opens one flow at the dispatcher, adjacent slots included."""
    snapshot = with_proof(Proof(Bind.ADDRESS, single_use=True))
    seen: set[int] = set()

    def used(address: int) -> bool:
        known = address in seen
        seen.add(address)
        return known

    verifier, own, spent = AddressVerifier(snapshot), modifier(snapshot), set[IPv6Address]()
    for _ in range(3):
        proven = own.prove(issued(snapshot), SOURCE, 0, NOW, spent)
        spent.add(proven.address)
        assert verifier.verify(int(proven.address), int(SOURCE), 1, NOW, used).reason is AddressReason.PROVEN
    assert own.prove(issued(snapshot), SOURCE, 0, NOW, spent).why is Why.USED_UP

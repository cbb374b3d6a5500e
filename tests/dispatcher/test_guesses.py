"""Guessed proofs: a source network has a bounded number in each time slot (address/README.md, "Guessing")."""

from __future__ import annotations

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.engine import decide
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.flows.guesses import MOST_GUESSES, Guesses
from dnsvip.dispatcher.flows.slot_counts import MOST_COUNTED
from dnsvip.dispatcher.reason import AddressReason
from dnsvip.dispatcher.relaying import _has_place
from tests.dispatcher.build import CLIENT, CLIENTS, NOW, address, proven, segment, snapshot

ONE, OTHER = ("web", 1), ("web", 2)


def test_a_network_has_so_many_a_slot() -> None:
    """After MOST_GUESSES bad proofs a network is refused until the slot ends; another network or cluster is not."""
    guesses = Guesses()
    for _ in range(MOST_GUESSES):
        assert not guesses.refuses(ONE, 100)
        guesses.count(ONE, 100, 30)
    assert guesses.refuses(ONE, 100)
    assert guesses.refuses(ONE, 119)
    assert not guesses.refuses(OTHER, 100)
    assert not guesses.refuses(("api", 1), 100)
    assert not guesses.refuses(ONE, 120)
    assert guesses.refused == 2


def test_a_new_slot_begins_at_zero() -> None:
    """Bad proofs of an earlier slot do not count in a later one."""
    guesses = Guesses()
    for now in (*(100,) * (MOST_GUESSES - 1), *(120,) * (MOST_GUESSES - 1)):
        guesses.count(ONE, now, 30)
    assert not guesses.refuses(ONE, 120)
    guesses.count(ONE, 149, 30)
    assert guesses.refuses(ONE, 149)


def test_memory_is_bounded() -> None:
    """A full table forgets the network that has been quiet for longest; a sweep forgets those whose slot is over."""
    assert MOST_COUNTED == 65_536
    guesses = Guesses(bound=10)
    for _ in range(MOST_GUESSES):
        guesses.count(ONE, 100, 30)
    for number in range(2, 30):
        assert guesses.refuses(ONE, 100)
        guesses.count(("web", number), 100, 30)
    assert len(guesses) == 10
    guesses.sweep(119, 100)
    assert len(guesses) == 10
    guesses.sweep(120, 100)
    assert len(guesses) == 0


def test_sweeps_reach_the_guesses() -> None:
    """The sweep of all flows forgets bad proofs of slots that are over."""
    tables, flows = DispatchTables(snapshot()), Flows(100)
    wrong = proven(CLIENTS["acme"], source=CLIENT) ^ 1
    assert decide(segment(wrong), tables, flows, NOW * 10**9).reason == AddressReason.BAD_PROOF
    assert len(flows.guesses) == 1
    flows.sweep(NOW + 3600)
    assert len(flows.guesses) == 0


def test_an_address_of_nobody_is_no_guess() -> None:
    """Where there is no client whose key could be guessed, nothing is counted."""
    tables, flows = DispatchTables(snapshot()), Flows(100)
    unknown = address("gold", 77) | 1 << 63
    assert decide(segment(unknown), tables, flows, NOW * 10**9).reason == AddressReason.BAD_PROOF
    assert len(flows.guesses) == 0


def test_relayed_flows_forget_no_guesses() -> None:
    """However many clients open flows that are relayed, a network has guessed as often as before."""
    flows = Flows(100)
    for _ in range(MOST_GUESSES):
        flows.guesses.count(ONE, 100, 30)
    assert all(_has_place(client, flows, 100) for client in range(1, MOST_COUNTED + 2))
    assert flows.guesses.refuses(ONE, 100)
    assert len(flows.relayed) == MOST_COUNTED
    flows.sweep(1000)
    assert len(flows.relayed) == 0

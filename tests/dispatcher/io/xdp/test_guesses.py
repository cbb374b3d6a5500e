"""Guessed proofs ("Guessing", address/README.md), against the kernel program and the reference at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from dnsvip.address.proof import Bind
from dnsvip.dispatcher.flows.guesses import MOST_GUESSES
from dnsvip.dispatcher.flows.slot_counts import MOST_COUNTED
from dnsvip.site import Proof
from tests.dispatcher.build import ACK, CLIENT, CLIENTS, CLUSTER, NOW, SITE, SYN, address, datagram, proven, segment
from tests.dispatcher.io.xdp.kernel import loaded
from tests.dispatcher.io.xdp.test_attacks import FLOWS, Both

SLOT = CLUSTER.slot_seconds
ACME = CLIENTS["acme"]
NEIGHBOUR = CLIENT ^ 1
"""In the same /64."""
ELSEWHERE = CLIENT ^ 1 << 64
WRONG = proven(ACME, 1) ^ 1
AFTER = SLOT - NOW % SLOT
"""Seconds until the slot of NOW is over."""


@pytest.fixture(scope="module")
def program() -> Iterator[Both]:
    with loaded(FLOWS) as kernel:
        yield Both(kernel)


@pytest.fixture
def both(program: Both) -> Both:
    program.site(replace(SITE, clients={**CLIENTS, "acme": replace(ACME, proof=Proof(Bind.NONE))}))
    return program


def guess(both: Both, count: int = MOST_GUESSES, source: int = CLIENT, after: float = 0) -> None:
    """Send so many bad proofs."""
    packets = [segment(WRONG, port=port, source=source) for port in range(1, count + 1)]
    assert set(both.reasons(*packets, after=after)) == {"bad-proof"}


def right(nonce: int = 1, source: int = CLIENT, port: int = 9) -> bytes:
    """The first packet of a flow to a proven address."""
    return segment(proven(replace(ACME, proof=Proof(Bind.NONE)), nonce), source=source, port=port)


def refused(both: Both) -> int:
    """Proofs that the program refused unseen; the reference as many since the site was set."""
    return both.kernel.writer.counters.auxiliary()["guess-refused"]


def test_after_so_many_none_is_taken(both: Both) -> None:
    """The last one that counts leaves a right proof right; after it none of the network's is, until the slot ends."""
    before = refused(both)
    guess(both, MOST_GUESSES - 1)
    assert both.reasons(right()) == ["proven"]
    guess(both, 1)
    assert both.reasons(right(2), right(2, NEIGHBOUR)) == ["bad-proof"] * 2
    assert refused(both) - before == both.reference.flows.guesses.refused == 2
    assert both.reasons(right(3), after=AFTER - 0.001) == ["bad-proof"]
    assert both.reasons(right(3), after=AFTER) == ["proven"]


def test_others_go_on(both: Both) -> None:
    """Known and running flows of the network, its flows to issued addresses, and other networks are as ever."""
    assert both.reasons(right(port=11), segment(proven(replace(ACME, proof=Proof(Bind.NONE)), 1), ACK, 11)) == [
        "proven",
        "known",
    ]
    guess(both)
    assert both.reasons(right(port=12)) == ["bad-proof"]
    assert both.reasons(segment(proven(replace(ACME, proof=Proof(Bind.NONE)), 1), ACK, 11)) == ["known"]
    assert both.reasons(segment(WRONG, ACK, 13), datagram(WRONG, 14, data=b"\x41 later")) == ["resumed"] * 2
    assert both.reasons(segment(address("gold", 1001)), right(source=ELSEWHERE)) == ["issued", "proven"]


def test_running_packets_are_no_guesses(both: Both) -> None:
    """A bad proof of a running flow does not count: nobody learns from it whether it was right."""
    packets = [segment(WRONG, ACK, port) for port in range(1, 2 * MOST_GUESSES)]
    assert set(both.reasons(*packets)) == {"resumed"}
    assert both.reasons(right(port=9000)) == ["proven"]


def test_a_syn_on_a_known_flow_is_a_guess(both: Both) -> None:
    """A bad proof in a SYN on a flow that was taken over counts as any other."""
    for port in range(1, MOST_GUESSES + 1):
        assert both.reasons(segment(WRONG, ACK, port), segment(WRONG, SYN, port)) == ["resumed", "bad-proof"]
    assert both.reasons(right(port=9000)) == ["bad-proof"]


def test_a_sweep_forgets_what_is_over(both: Both) -> None:
    """Networks whose slot is over are forgotten by a sweep, others not; the tables are of one size."""
    guesses = both.kernel.maps["guesses"]
    assert guesses.max_entries == both.kernel.maps["relayed"].max_entries == MOST_COUNTED
    guess(both)
    guess(both, 2, ELSEWHERE, after=AFTER)
    both.kernel.writer.sweep(NOW + AFTER - 1)
    assert len(list(guesses.keys())) == 2
    both.kernel.writer.sweep(NOW + AFTER)
    assert len(list(guesses.keys())) == 1
    both.kernel.writer.sweep(NOW + AFTER + SLOT)
    assert not list(guesses.keys())

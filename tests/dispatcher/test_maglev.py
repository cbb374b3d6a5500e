"""Rings are even, the same everywhere, and hardly change with one server."""

from __future__ import annotations

from collections import Counter
from random import Random
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnsvip.dispatcher.flows.maglev import RING_SIZE, build_ring, flow_hash


def names(weights: list[tuple[str, int]], size: int = RING_SIZE) -> list[str]:
    servers, ring = build_ring(weights, size)
    return [servers[number] for number in ring]


def test_shares_follow_weights() -> None:
    """Places are shared by weight, true to one percent."""
    shares = Counter(names([("a", 100), ("b", 50), ("c", 50), ("d", 0)]))
    assert shares.keys() == {"a", "b", "c"}
    assert shares["a"] / RING_SIZE == pytest.approx(0.5, rel=0.01)
    assert shares["b"] / RING_SIZE == pytest.approx(0.25, rel=0.01)


@pytest.mark.parametrize("count", [2, 5, 50])
def test_a_leaving_server_moves_little_else(count: int) -> None:
    """When one server of several goes, few places of the others change (NSDI 2016, section 5.3: a few percent)."""
    weights = [(f"server-{n}", 100) for n in range(count)]
    before, after = names(weights), names(weights[1:])
    moved = sum(1 for one, other in zip(before, after, strict=True) if one not in (other, "server-0"))
    assert moved / RING_SIZE < 0.05


def test_order_does_not_matter() -> None:
    """Any dispatcher builds the same ring, whatever order it got the servers in."""
    weights = [(f"server-{n}", n % 3 * 50) for n in range(20)]
    shuffled = weights.copy()
    Random(1).shuffle(shuffled)
    assert build_ring(weights) == build_ring(shuffled)


def test_ring_is_pinned() -> None:
    """The ring of known names is as it was first made: other versions and the kernel must agree."""
    assert "".join(names([("a", 2), ("b", 1), ("c", 1)], 31)) == "babcacacacabacacabacaaababaabba"
    assert flow_hash(b"flow") == 2747899882535808034


def test_empty() -> None:
    """Without weights the ring is empty."""
    assert build_ring([]) == build_ring([("a", 0)])
    assert not build_ring([])[1]
    assert set(names([("only", 3)])) == {"only"}


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(max_size=5), st.integers(0, 1000), max_size=8))
def test_every_place_is_taken(weights: dict[str, int]) -> None:
    """Any weights fill the whole ring with exactly the servers that have some."""
    servers, ring = build_ring(weights.items(), 251)
    assert sorted(servers) == sorted(name for name, weight in weights.items() if weight)
    assert all(0 <= number < len(servers) for number in ring)
    assert len(ring) == (251 if servers else 0)


def test_one_much_heavier_than_many() -> None:
    """A ring takes as long whatever the weights are: while one is made, changes and revocations wait."""
    weights = [("heavy", 1000), *((f"light-{n}", 1) for n in range(4000))]
    start = process_time()
    shares = Counter(names(weights))
    assert process_time() - start < 2
    assert shares["heavy"] / RING_SIZE == pytest.approx(0.2, rel=0.05)
    assert min(shares.values()) >= 13


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=6))
def test_turns(weights: list[int]) -> None:
    """The turns are those of the paper, counted round by round."""
    servers, ring = build_ring([(f"{n}", weight) for n, weight in enumerate(weights)], 251)
    had = Counter[str]()
    while sum(had.values()) < 251:
        rounds = had.most_common(1)[0][1] + 1 if had else 1
        due = [f"{n}" for n, weight in enumerate(weights) if rounds * weight >= (had[f"{n}"] + 1) * max(weights)]
        had.update(due[: 251 - sum(had.values())])
    assert Counter(servers[number] for number in ring) == had

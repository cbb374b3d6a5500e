"""Token buckets let through the rate and the burst, not more, at any sequence of times."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsvip.dispatcher.qos import HOLD_PACKETS, HOLD_SECONDS, Buckets
from dnsvip.model import Over, Rate


def test_burst_then_rate() -> None:
    """A full bucket gives its burst at once, then one flow per 1/rate seconds."""
    buckets, rate = Buckets(), Rate(10, 5)
    assert [buckets.take("t", rate, 100.0) for _ in range(6)] == [0.0] * 5 + [None]
    assert buckets.take("t", rate, 100.05) is None
    assert buckets.take("t", rate, 100.11) == 0.0
    assert buckets.take("other", rate, 100.11) == 0.0


def test_hold_is_bounded_by_time() -> None:
    """Over a rate with hold, flows wait their turn one after the other, up to the longest wait."""
    buckets, rate = Buckets(), Rate(10, 1, Over.HOLD)
    delays = [buckets.take("t", rate, 100.0) for _ in range(20)]
    waits = [delay for delay in delays if delay]
    assert waits == pytest.approx([n / 10 for n in range(1, 11)])
    assert delays[11:] == [None] * 9
    assert max(waits) <= HOLD_SECONDS


def test_hold_is_bounded_by_packets() -> None:
    """A very fast tier holds no more than the bound."""
    buckets, rate = Buckets(), Rate(1e9, 1, Over.HOLD)
    assert sum(1 for _ in range(5000) if buckets.take("t", rate, 100.0)) == HOLD_PACKETS


def test_a_clock_that_goes_back_gives_nothing() -> None:
    """Time running backwards neither fills a bucket nor breaks it."""
    buckets, rate = Buckets(), Rate(10, 1)
    assert buckets.take("t", rate, 100.0) == 0.0
    assert buckets.take("t", rate, 50.0) is None
    assert buckets.take("t", rate, 50.2) == 0.0


@given(
    st.lists(st.floats(0, 2), max_size=200), st.floats(1, 50), st.floats(1, 20), st.sampled_from([Over.DROP, Over.PASS])
)
def test_never_more_than_burst_and_rate(gaps: list[float], new_flows: float, burst: float, over: Over) -> None:
    """In any stretch of time no more flows pass than burst plus rate times its length."""
    buckets, rate = Buckets(), Rate(new_flows, burst, over)
    now, passed = 0.0, 0
    for gap in gaps:
        now += gap
        passed += buckets.take("t", rate, now) is not None
        assert passed <= burst + new_flows * now + 1e-6

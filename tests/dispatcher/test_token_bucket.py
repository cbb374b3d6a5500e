"""Token buckets let through the rate and the burst, not more, at any sequence of times."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dnsvip.dispatcher.token_bucket import HOLD_NANOSECONDS, HOLD_PACKETS, SECOND, Buckets, Limit, limit_of
from dnsvip.site import Over, Rate

START = 100 * SECOND
MILLISECOND = SECOND // 1000


def test_a_rate_in_integers() -> None:
    """Numbers of a limit are nanoseconds to the nearest, never none and never more than sums of 64 bits bear."""
    assert limit_of(Rate(2000, 4000)) == Limit(500_000, 2 * SECOND)
    assert limit_of(Rate(3, 1.5)) == Limit(333_333_333, 500_000_000)
    assert limit_of(Rate(10, 5, Over.HOLD)) == Limit(SECOND // 10, SECOND // 2, HOLD_NANOSECONDS)
    assert limit_of(Rate(1e12, 1, Over.HOLD)) == Limit(1, 1, HOLD_PACKETS)
    assert limit_of(Rate(1e-30, 1e30)) == Limit(1 << 60, 1 << 60)


def test_burst_then_rate() -> None:
    """A full bucket gives its burst at once, then one flow per 1/rate seconds."""
    buckets, limit = Buckets(), limit_of(Rate(10, 5))
    assert [buckets.take("t", limit, START) for _ in range(6)] == [0] * 5 + [None]
    assert buckets.take("t", limit, START + 99 * MILLISECOND) is None
    assert buckets.take("t", limit, START + 100 * MILLISECOND) == 0
    assert buckets.take("other", limit, START) == 0
    assert buckets.full_at("t") == START + 600 * MILLISECOND
    assert buckets.full_at("never") == 0


def test_hold_is_bounded_by_time() -> None:
    """Over a rate with hold, flows wait their turn one after the other, up to the longest wait."""
    buckets, limit = Buckets(), limit_of(Rate(10, 1, Over.HOLD))
    delays = [buckets.take("t", limit, START) for _ in range(20)]
    assert delays == [n * SECOND // 10 for n in range(11)] + [None] * 9


def test_hold_is_bounded_by_packets() -> None:
    """A very fast tier holds no more than the bound."""
    buckets, limit = Buckets(), limit_of(Rate(1e9, 1, Over.HOLD))
    assert sum(1 for _ in range(5000) if buckets.take("t", limit, START)) == HOLD_PACKETS


def test_a_clock_that_goes_back_gives_nothing() -> None:
    """Time running backwards neither fills a bucket nor stops it for longer than an empty one takes."""
    buckets, limit = Buckets(), limit_of(Rate(10, 1))
    assert buckets.take("t", limit, START) == 0
    assert buckets.take("t", limit, START // 2) is None
    assert buckets.take("t", limit, START // 2 + SECOND // 10) == 0


@given(
    st.lists(st.integers(0, 2 * SECOND), max_size=200),
    st.floats(1, 50),
    st.floats(1, 20),
    st.sampled_from([Over.DROP, Over.PASS]),
)
def test_never_more_than_burst_and_rate(gaps: list[int], new_flows: float, burst: float, over: Over) -> None:
    """In any stretch of time no more flows pass than burst plus rate times its length."""
    buckets, limit = Buckets(), limit_of(Rate(new_flows, burst, over))
    now, passed = START, 0
    for gap in gaps:
        now += gap
        passed += buckets.take("t", limit, now) is not None
        assert passed * limit.interval <= limit.burst + now - START

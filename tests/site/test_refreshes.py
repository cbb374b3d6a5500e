"""When a secondary zone is looked for, and when it expires, by its SOA's timers."""

from __future__ import annotations

import pytest

from dnsvip.site.refreshes import LONGEST, RefreshState, Timers, checked, failed, is_due, is_expired

TIMERS = Timers(1000, 100, 5000)
NEW = RefreshState("a.test")
GOOD = checked(NEW, 10_000.0, 7, TIMERS, "192.0.2.1:53")


def test_new_zones_are_asked_for_at_once() -> None:
    """A zone of which nothing is known is due, and has nothing that could expire."""
    assert is_due(NEW, 0.0)
    assert not is_expired(NEW, 1e12)
    assert NEW.expires_at is None


def test_refresh_and_expiry() -> None:
    """After a check it is due within a tenth before the refresh time, and expires as long after the last success."""
    assert (GOOD.serial, GOOD.failures, GOOD.expires_at) == (7, 0, 15_000.0)
    assert not is_due(GOOD, 10_899.0)
    assert is_due(GOOD, 11_000.0)
    assert not is_expired(GOOD, 14_999.0)
    assert is_expired(GOOD, 15_000.0)


def test_zones_are_spread() -> None:
    """Zones that were checked together are not due together."""
    due = {checked(RefreshState(f"{n}.test"), 1.0, 1, TIMERS, "").next_at for n in range(50)}
    assert len(due) > 40
    assert all(901.0 <= at <= 1001.0 for at in due)


def test_retries() -> None:
    """A failure is repeated after the retry time and moves no expiry; a success ends it."""
    bad = failed(failed(GOOD, 11_000.0, "away", (7, TIMERS)), 11_100.0, "gone", (7, TIMERS))
    assert (bad.failures, bad.error, bad.expires_at) == (2, "gone", 15_000.0)
    assert not is_due(bad, 11_199.0)
    assert is_due(bad, 11_200.0)
    assert checked(bad, 11_200.0, 8, TIMERS, "b").error == ""


def test_first_tries_come_further_apart() -> None:
    """A zone that never came is asked for after 2, 4, 8 seconds, then every five minutes."""
    state, pauses = NEW, []
    for _ in range(12):
        state = failed(state, 100.0, "away", None)
        pauses.append(state.next_at - 100.0)
    assert pauses[:4] == [2.0, 4.0, 8.0, 16.0]
    assert pauses[-1] == 300.0


def test_notify() -> None:
    """NOTIFY makes a zone due at once, but not twice within a second, and not again after the check."""
    told = RefreshState("a.test", 7, TIMERS, 10_000.0, 10_000.0, 10_000.5)
    assert not is_due(told, 10_000.9)
    assert is_due(told, 10_001.0)
    assert not is_due(checked(told, 10_001.0, 7, TIMERS, ""), 10_002.0)


def test_a_zone_without_a_state() -> None:
    """A zone that is stored and of which no check is known, as after a restore, expires counted from the first try."""
    state = failed(NEW, 500.0, "away", (7, TIMERS))
    assert state.expires_at == 5500.0
    assert failed(state, 600.0, "away", (7, TIMERS)).expires_at == 5500.0


def test_a_check_that_is_yet_to_come() -> None:
    """A zone that was checked later than now, by a clock that was ahead or in a damaged row, is asked for at once;
    where nobody answers it expires counted from now."""
    ahead = checked(NEW, 1e9, 7, TIMERS, "192.0.2.1:53")
    assert is_due(ahead, 500.0)
    bad = failed(ahead, 500.0, "away", (7, TIMERS))
    assert (bad.expires_at, is_due(bad, 599.0), is_due(bad, 600.0)) == (5500.0, False, True)
    assert not is_due(checked(NEW, 501.0, 7, TIMERS, ""), 500.0)


@pytest.mark.parametrize(
    ("timers", "bounded"),
    [
        (Timers(0, 0, 0), Timers(1, 1, 2)),
        (Timers(4_000_000_000, 10, 4_000_000_000), Timers(LONGEST, 10, LONGEST)),
        (Timers(3600, 600, 60), Timers(3600, 600, 4200)),
        (TIMERS, TIMERS),
    ],
)
def test_timers_are_bounded(timers: Timers, bounded: Timers) -> None:
    """No zone is asked for without pause, kept for years, or expires before it is asked for again."""
    assert timers.bounded() == bounded

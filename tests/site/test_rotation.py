"""Keys rotate before the expiry field is full, and who must know when they do not is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dnsvip.address.keyring import Epoch, EpochState
from dnsvip.site import Cluster, epochs
from dnsvip.site.io.files import load_site
from dnsvip.site.rotation import (
    DAY,
    ExpiryField,
    expiry_field,
    field_seconds,
    full_at,
    in_words,
    least_rotation,
    remarks,
    rotation_seconds,
)

_WEB = load_site(Path(__file__).parents[2] / "examples" / "site.toml").clusters["web"]
assert isinstance(_WEB, Cluster)
WEB: Cluster = replace(_WEB, rotate_every=None)
"""7 bits of 900 s, TTL and renew 60 s: full 126 units less 120 s after activation."""
LASTS = 126 * 900 - 120
NO_EXPIRY = replace(WEB, layout=(("tier", 4), ("client", 20), ("nonce", 13)))
ACTIVE = Epoch(0, EpochState.ACTIVE, bytes(32), 1000, 1, 1000)


def layout_of(bits: int) -> tuple[tuple[str, int], ...]:
    return (("tier", 4), ("client", 33 - bits), ("expiry", bits))


@pytest.mark.parametrize(
    ("cluster", "seconds"),
    [
        (WEB, LASTS - LASTS // 32),
        (replace(WEB, rotate_every=86_400), 86_400),
        (replace(WEB, rotate_every=10 * DAY), LASTS - LASTS // 32),
        (replace(WEB, rotate_every="never"), None),
        (replace(WEB, layout=layout_of(20)), 30 * DAY),
        (replace(WEB, layout=layout_of(20), rotate_every=60 * DAY), 60 * DAY),
        (replace(WEB, layout=layout_of(1)), 1830),
        (NO_EXPIRY, None),
        (replace(NO_EXPIRY, rotate_every=DAY), DAY),
    ],
)
def test_time_between_two_epochs(cluster: Cluster, seconds: int | None) -> None:
    """It is what the site says, never more than the expiry field lasts, and 30 days by default; "never" is never."""
    assert rotation_seconds(cluster) == seconds
    due = epochs.next_rotation(cluster, [ACTIVE])
    assert due == (None if seconds is None else 1000 + seconds)


@given(st.integers(1, 20), st.integers(1, DAY), st.integers(0, 3600), st.integers(1, 7200), st.none() | st.integers(1))
def test_rotation_is_due_before_the_field_is_full(
    bits: int, unit: int, ttl: int, renew: int, wanted: int | None
) -> None:
    """In any layout rotation is due while addresses still expire, or as soon as key slots allow it."""
    cluster = replace(
        WEB,
        layout=layout_of(bits),
        expiry_unit=unit,
        ttl=ttl,
        renew=renew,
        rotate_every=wanted and min(wanted, 365 * DAY),
    )
    seconds, lasts = rotation_seconds(cluster), field_seconds(cluster)
    assert seconds is not None
    assert lasts is not None
    assert seconds <= lasts or seconds == least_rotation(cluster)


@pytest.mark.parametrize(
    ("age", "state"),
    [
        (0, ExpiryField.FINE),
        (LASTS - LASTS // 32, ExpiryField.FINE),
        (LASTS - LASTS // 65, ExpiryField.NEAR),
        (LASTS, ExpiryField.FULL),
        (400 * DAY, ExpiryField.FULL),
    ],
)
def test_what_is_left_of_the_field(age: int, state: ExpiryField) -> None:
    """The field is near its end once rotation is late, and full once addresses have no expiry."""
    assert expiry_field(WEB, ACTIVE, 1000 + age) is state
    assert full_at(WEB, ACTIVE) == 1000 + LASTS
    assert expiry_field(NO_EXPIRY, ACTIVE, 1000 + age) is ExpiryField.FINE


@pytest.mark.parametrize(
    ("cluster", "text"),
    [
        (WEB, "is not set: keys rotate every 1 d 6 h, before the expiry field is full; set it to 109740 or less"),
        (replace(WEB, rotate_every="never"), "is never: keys rotate only by `dnsvip keys rotate web`; 1 d 7 h after"),
        (replace(NO_EXPIRY, rotate_every="never"), "is never: keys rotate only by `dnsvip keys rotate web`"),
        (replace(WEB, rotate_every=10 * DAY), "864000 is longer than the expiry field lasts: keys rotate every 109740"),
        (replace(WEB, layout=layout_of(1)), "cannot rotate before 30 min 30 s; widen the field, or raise expiry_unit"),
        (replace(WEB, rotate_every=86_400), ""),
        (NO_EXPIRY, ""),
    ],
)
def test_warnings(cluster: Cluster, text: str) -> None:
    """A schedule that the site does not say, says as never, or cannot have is warned of, with what would be right."""
    warned = [str(remark) for remark in remarks(cluster)]
    assert len(warned) == bool(text)
    assert text in "".join(warned)
    assert '"' not in "".join(warned), "an HTTP header quotes it"


def test_durations_in_words() -> None:
    """A duration has at most two units."""
    assert [in_words(n) for n in (0, 59.6, 3600, 90_061)] == ["0 s", "1 min", "1 h", "1 d 1 h"]

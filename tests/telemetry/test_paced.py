"""Log lines about one thing are bounded, and tell of those that are left out."""

from __future__ import annotations

import pytest

from dnsvip.telemetry import paced
from dnsvip.telemetry.paced import MOST, SECONDS, Paced


def test_lines_about_one_thing_are_bounded() -> None:
    """So many pass in a minute; the first of the next says how many were left out, and others are not concerned."""
    lines = Paced()
    said = [lines.passes("flapping", 100.0 + n / 10) for n in range(MOST + 50)]
    assert said == [{}] * MOST + [None] * 50
    assert lines.passes("other", 101.0) == {}
    assert lines.passes("flapping", 100.0 + SECONDS) == {"left_out": 50}
    assert lines.passes("flapping", 101.0 + SECONDS) == {}
    assert lines.passes("flapping", 1.0) == {}, "a clock that was ahead keeps nothing back"


def test_things_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many things those of an earlier time are forgotten first."""
    monkeypatch.setattr(paced, "MOST_THINGS", 4)
    lines = Paced()
    for n in range(3):
        lines.passes(n, 0.0)
    for _ in range(MOST + 1):
        lines.passes("new", SECONDS)
    assert lines.passes("newer", SECONDS) == {}
    assert lines.passes("new", SECONDS) is None
    assert len(lines._windows) == 2

"""How often a key, or a client, may have something made, and how many of them are remembered."""

from __future__ import annotations

import pytest

from dnsvip.dns.update import admission
from dnsvip.dns.update.admission import UpdateRates


def test_a_rate_and_its_burst() -> None:
    """Some at once, then as many as the rate allows; other keys have their own."""
    rates = UpdateRates(0.5)
    assert [rates.admits("a", 100.0) for _ in range(6)] == [True] * 5 + [False]
    assert rates.admits("b", 100.0)
    assert [rates.admits("a", 102.0), rates.admits("a", 102.0)] == [True, False]


def test_keys_that_rest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many keys come one after the other, so many are remembered, and one at work is not forgotten."""
    monkeypatch.setattr(admission, "KEPT", 10)
    rates = UpdateRates(0.5)
    for number in range(1000):
        assert rates.admits(f"client-{number}", 3.0 * number)
        assert len(rates._full) <= 10
    assert [rates.admits("busy", 2997.0) for _ in range(6)] == [True] * 5 + [False]

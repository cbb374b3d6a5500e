from __future__ import annotations

from dnsvip.admin.console.series import Series, totals_of


def test_rates() -> None:
    """Totals become rates per second, a name that was never counted is left out."""
    series = Series()
    series.add(10, {"a": 5, "b": 0})
    assert series.after(0) == {"times": [], "rates": {}}
    series.add(12, {"a": 15, "b": 0})
    series.add(14, {"a": 15, "b": 0, "c": 1})
    assert series.after(0) == {"times": [12, 14], "rates": {"a": [5.0, 0.0], "c": [None, 0.5]}}
    assert series.after(12) == {"times": [14], "rates": {"c": [0.5]}}


def test_a_counter_that_starts_anew() -> None:
    """A total lower than before is that of a process started since."""
    series = Series()
    series.add(1, {"a": 1000})
    series.add(2, {"a": 7})
    assert series.after(0)["rates"] == {"a": [7.0]}


def test_bounds() -> None:
    """Moments and names are bounded, whatever is fed in."""
    series = Series(moments=3, names=2)
    for at in range(10):
        series.add(at, {f"n{number}": at * 10 for number in range(50)})
    assert series.after(0) == {"times": [7, 8, 9], "rates": {"n0": [10.0] * 3, "n1": [10.0] * 3}}


def test_totals_of() -> None:
    """Counted tables become flat, also those with two labels; all else of a status is left out."""
    status = {"rcodes": {"NOERROR": 3}, "tiers": {"gold": {"NOERROR": 2}}, "mtu": 1500, "servers": [{"packets": 9}]}
    assert totals_of("dns", status) == {"dns.rcodes.NOERROR": 3, "dns.tiers.gold.NOERROR": 2}

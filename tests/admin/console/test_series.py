from __future__ import annotations

from dnsvip.admin.console.series import Series, totals_of


def test_rates() -> None:
    """Totals become rates per second, a name that was never counted is left out."""
    series = Series()
    series.add(10, {"dns.a": 5, "dns.b": 0})
    assert series.after(0) == {"times": [], "rates": {}, "heard": {}}
    series.add(12, {"dns.a": 15, "dns.b": 0})
    series.add(14, {"dns.a": 15, "dns.b": 0, "dns.c": 1})
    rates = {"dns.a": [5.0, 0.0], "dns.c": [None, 0.5]}
    assert series.after(0) == {"times": [12, 14], "rates": rates, "heard": {"dns": [True, True]}}
    assert series.after(12) == {"times": [14], "rates": {"dns.c": [0.5]}, "heard": {"dns": [True]}}


def test_a_source_that_was_away() -> None:
    """While a dispatcher is away its rates are not known; when it is back, what it counted meanwhile is no rate."""
    series = Series()
    for at, dispatcher in ((0, 10), (1, 20), (2, None), (3, 9000), (4, 9001)):
        series.add(at, {"dns.a": at} | ({} if dispatcher is None else {"dispatcher.b": dispatcher}))
    found = series.after(0)
    assert found["rates"] == {"dns.a": [1.0] * 4, "dispatcher.b": [10.0, None, None, 1.0]}
    assert found["heard"] == {"dns": [True] * 4, "dispatcher": [True, False, False, True]}
    assert series.after(3)["heard"] == {"dns": [True], "dispatcher": [True]}


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
        series.add(at, {f"n.{number}": at * 10 for number in range(50)})
    assert series.after(0) == {
        "times": [7, 8, 9],
        "rates": {"n.0": [10.0] * 3, "n.1": [10.0] * 3},
        "heard": {"n": [True] * 3},
    }


def test_totals_of() -> None:
    """Counted tables become flat, also those with two labels; all else of a status is left out."""
    status = {"rcodes": {"NOERROR": 3}, "tiers": {"gold": {"NOERROR": 2}}, "mtu": 1500, "servers": [{"packets": 9}]}
    assert totals_of("dns", status) == {"dns.rcodes.NOERROR": 3, "dns.tiers.gold.NOERROR": 2}

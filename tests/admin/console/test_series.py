from __future__ import annotations

from dnsvip.admin.console.meters import PATIENCE, Meters, Sample, Silence, rates
from dnsvip.admin.console.series import GONE_SECONDS, MOST_BYTES, NODES, SPANS, History, Ring, Span
from dnsvip.telemetry.totals import totals_of

DNS, BOTH = frozenset({"dns"}), frozenset({"dns", "dispatcher"})
NOW = 1_000_000.0


def fed(meters: Meters, process: str, node: str, *totals: tuple[float, dict[str, int]], skew: float = 0.0) -> None:
    for at, counted in totals:
        meters.take(process, node, Sample(NOW + at + skew, counted), NOW + at)


def test_rates() -> None:
    """Totals become rates per second; a total lower than before is that of a process started since."""
    before, after = Sample(10, {"dns.a": 5, "dns.b": 1000}), Sample(12, {"dns.a": 15, "dns.b": 8, "dns.c": 1})
    assert rates(before, after) == {"dns.a": 5.0, "dns.b": 4.0, "dns.c": 0.5}


def test_totals_that_are_not_whole() -> None:
    """A name that was left out before had some total: what it gained is not known."""
    assert rates(Sample(1, {"dns.a": 1}, whole=False), Sample(2, {"dns.a": 2, "dns.b": 10**9})) == {"dns.a": 1.0}


def test_sums_over_nodes() -> None:
    """Processes add up to their nodes and the site, whatever their clocks say."""
    meters = Meters()
    fed(meters, "p1", "n1", (0, {"dns.a": 0}), (2, {"dns.a": 20}))
    fed(meters, "p2", "n1", (0, {"dns.a": 5}), (2, {"dns.a": 9}), skew=-3600)
    fed(meters, "p3", "n2", (0, {"dispatcher.b": 0}), (1, {"dispatcher.b": 3}), skew=3600)
    found = meters.sums(NOW + 2)
    assert found["n1"] == ({"dns.a": 12.0}, DNS)
    assert found["n2"] == ({"dispatcher.b": 3.0}, frozenset({"dispatcher"}))
    assert found[""] == ({"dns.a": 12.0, "dispatcher.b": 3.0}, BOTH)


def test_a_process_that_is_silent() -> None:
    """Its rates stand for a moment, then they are not known; when it is back, they are the mean of a short silence, and
    none of a long one, or of one that is known to have been away."""
    meters = Meters()
    fed(meters, "p", "n", (0, {"dns.a": 0}), (1, {"dns.a": 7}))
    assert meters.sums(NOW + 1 + PATIENCE)[""] == ({"dns.a": 7.0}, DNS)
    assert meters.sums(NOW + 1.1 + PATIENCE) == {"": ({}, frozenset())}
    fed(meters, "p", "n", (11, {"dns.a": 27}))
    assert meters.sums(NOW + 11)[""] == ({"dns.a": 2.0}, DNS)
    fed(meters, "p", "n", (32, {"dns.a": 9000}))
    assert meters.sums(NOW + 32)[""] == ({}, frozenset())
    fed(meters, "p", "n", (33, {"dns.a": 9001}))
    assert meters.sums(NOW + 33)[""] == ({"dns.a": 1.0}, DNS)
    meters.lose("p", NOW + 34)
    assert meters.sums(NOW + 34)[""] == ({}, frozenset())
    fed(meters, "p", "n", (35, {"dns.a": 9003}))
    assert meters.sums(NOW + 35)[""] == ({}, frozenset())


def test_silence() -> None:
    """How long a process has been silent says the reader's clock alone; one that is listed no more is forgotten."""
    silence = Silence()
    silence.hear({"p": 5.0, "q": 9e9}, NOW)
    silence.hear({"p": 5.0, "q": 9e9 + 1}, NOW + 3)
    assert silence.seconds(NOW + 4) == {"p": 4, "q": 1}
    silence.hear({"q": 9e9 + 1}, NOW + 5)
    assert silence.seconds(NOW + 5) == {"q": 2}


def test_a_ring() -> None:
    """A source that was away has a gap; a name that came late was 0 before; one that was never counted is left out."""
    ring = Ring(Span(0.0, 10), 8)
    ring.add(1, {"dns.a": 1.0, "dns.z": 0.0, "dispatcher.b": 4.0}, BOTH)
    ring.add(2, {"dns.a": 1.0}, DNS)
    ring.add(3, {"dns.a": 1.0, "dns.c": 2.0, "dispatcher.b": 5.0}, BOTH)
    found = ring.after(0)
    assert found["times"] == [1, 2, 3]
    assert found["rates"] == {"dns.a": [1, 1, 1], "dns.c": [0, 0, 2], "dispatcher.b": [4, None, 5]}
    assert found["heard"] == {"dns": [True] * 3, "dispatcher": [True, False, True]}
    assert ring.after(2)["times"] == [3]
    assert ring.after(2)["rates"] == {"dns.a": [1], "dns.c": [2], "dispatcher.b": [5]}


def test_a_coarse_ring() -> None:
    """A moment is the mean of its slot, over the looks at which there was a source."""
    ring = Ring(Span(20.0, 10), 8)
    for at in range(0, 60, 2):
        away = 20 <= at < 30
        ring.add(NOW + at, {} if away else {"dns.a": float(at < 20)}, frozenset() if away else DNS)
    found = ring.after(0)
    assert [at - NOW for at in found["times"]] == [18, 38]
    assert found["rates"] == {"dns.a": [1.0, 0.0]}


def test_bounds() -> None:
    """Moments, names and nodes are bounded whatever is fed in, and a name that has faded away leaves its place."""
    ring = Ring(Span(0.0, 3), 2)
    for at in range(10):
        ring.add(at + 1, {f"n.{number}": 1.0 for number in range(50)}, frozenset({"n"}))
    assert ring.after(0) == {
        "times": [8, 9, 10],
        "rates": {"n.0": [1.0] * 3, "n.1": [1.0] * 3},
        "heard": {"n": [True] * 3},
    }
    for at in range(10, 14):
        ring.add(at + 1, {"n.new": 2.0}, frozenset({"n"}))
    ring.add(15, {"n.new": 2.0}, frozenset({"n"}))
    assert ring.after(0)["rates"] == {"n.new": [None, 2.0, 2.0]}
    history = History()
    history.add(NOW, {"": ({}, DNS)} | {f"node-{number}": ({}, DNS) for number in range(99)})
    assert sum(history.ring(f"node-{number}", "24h")._names > 0 for number in range(99)) <= NODES
    assert MOST_BYTES < 16_000_000


def test_a_day() -> None:
    """The longest ring holds 24 hours."""
    span = SPANS["24h"]
    assert span.seconds * span.moments == 86_400


def test_totals_of() -> None:
    """Counted tables become flat, also those with two labels; all else of a status is left out."""
    status = {"rcodes": {"NOERROR": 3}, "tiers": {"gold": {"NOERROR": 2}}, "mtu": 1500, "servers": [{"packets": 9}]}
    assert totals_of("dns", status) == {"dns.rcodes.NOERROR": 3, "dns.tiers.gold.NOERROR": 2}


def test_a_new_node_takes_the_place_of_one_that_is_gone() -> None:
    """Machines that come and go do not fill the places for good; a short silence costs none."""
    history, ended = History(), {f"old-{number}": ({}, DNS) for number in range(NODES)}
    history.add(NOW, {"": ({}, DNS), **ended})
    for silent in (GONE_SECONDS / 2, GONE_SECONDS):
        history.add(NOW + silent, {"": ({}, DNS), "old-1": ({}, DNS), "new": ({"dns.n": 1.0}, DNS)})
        assert bool(history.ring("new", "10min").after(0)["times"]) == (silent == GONE_SECONDS)
    assert history.ring("old-1", "10min").after(0)["times"]

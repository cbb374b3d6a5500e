"""What results of checks mean: rise and fall, an agent's word, weights that do not flap, the operator first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dnsvip.dispatcher.health.agent import Mode, Report
from dnsvip.dispatcher.health.health_state import HealthState, after_check, after_report, effective, effective_pool
from dnsvip.site import Check, Pool, Server, ServerState
from tests.dispatcher.build import servers

CHECK = Check(tcp=80, fall=3, rise=2)
SERVER = servers("fast", 1)[0]


def checked(state: HealthState, results: str) -> str:
    """Which state a server is in after each result (+ or -)."""
    states = ""
    for number, result in enumerate(results):
        state = after_check(state, CHECK, result == "+", "refused", float(number))
        states += "u" if effective(SERVER, state).state is ServerState.UP else "d"
    return states


def test_rise_and_fall() -> None:
    """Only `fall` failures in a row take a server out, only `rise` successes in a row bring it back."""
    assert checked(HealthState(), "--+--+---") == "uuuuuuuud"
    assert checked(HealthState(passing=False), "+-+-++-") == "ddddduu"


def test_a_failure_is_noted_and_dated() -> None:
    """The last reason is kept while the check fails, and `since` is the time of the change of state."""
    state = HealthState()
    for now in range(4):
        state = after_check(state, CHECK, passed=False, note="refused" * 100, now=100.0 + now)
    assert (state.passing, state.since, state.failures, len(state.note)) == (False, 102.0, 4, 120)
    assert after_check(state, CHECK, passed=True, note="", now=0).note == ""


@pytest.mark.parametrize(
    ("report", "state", "weight"),
    [
        (Report(), ServerState.UP, 100),
        (Report(running=False), ServerState.DOWN, 100),
        (Report(mode=Mode.DRAIN), ServerState.DRAIN, 100),
        (Report(mode=Mode.MAINT), ServerState.MAINT, 100),
        (Report(percent=50), ServerState.UP, 50),
        (Report(percent=0), ServerState.UP, 0),
        (Report(running=True, percent=1000), ServerState.UP, 1000),
        (Report(running=False, mode=Mode.DRAIN), ServerState.DOWN, 100),
    ],
)
def test_an_agents_word(report: Report, state: ServerState, weight: int) -> None:
    """An agent sets state and share; 0 % is a weight that takes no new flows and keeps the old."""
    server = effective(SERVER, after_report(HealthState(), report, 100.0))
    assert (server.state, server.weight) == (state, weight)


def test_only_the_agent_takes_back_what_it_said() -> None:
    """A report changes what it mentions; up reverts down, ready does not."""
    state = after_report(HealthState(), Report(running=False, mode=Mode.DRAIN, note="x"), 1.0)
    state = after_report(state, Report(percent=0), 2.0)
    assert (state.running, state.mode, state.percent) == (False, Mode.DRAIN, 0)
    state = after_report(state, Report(mode=Mode.READY), 3.0)
    assert effective(SERVER, state).state is ServerState.DOWN
    state = after_report(state, Report(running=True, percent=100), 4.0)
    assert effective(SERVER, state) == SERVER


@pytest.mark.parametrize("said", list(ServerState))
def test_the_operators_word_is_first(said: ServerState) -> None:
    """Checks never bring up a server that the operator took out; a draining server that fails is down."""
    server = replace(SERVER, state=said)
    assert effective(server, None) is server
    assert effective(server, HealthState()).state is said
    failed = effective(server, HealthState(passing=False)).state
    assert failed is (said if said is ServerState.MAINT else ServerState.DOWN)
    expected = ServerState.DRAIN if said is ServerState.UP else said
    assert effective(server, HealthState(mode=Mode.DRAIN)).state is expected


def test_weights_do_not_follow_every_breath() -> None:
    """A load report acts where it differs by a tenth, and not more than every five seconds; zero acts at once."""
    state, seen = HealthState(), []
    loads = [(0, 95), (1, 80), (2, 60), (5, 70), (6, 64), (7, 63), (8, 60), (9, 0), (9, 30), (14, 33), (20, 31)]
    for now, percent in loads:
        state = after_report(state, Report(percent=percent), 100.0 + now)
        seen.append(state.percent)
    assert seen == [100, 80, 80, 80, 64, 64, 64, 0, 30, 33, 33]


def test_a_small_weight_stays_above_zero() -> None:
    """Only 0 % takes a server out; a share of a small weight is at least 1."""
    assert effective(replace(SERVER, weight=3), HealthState(percent=1)).weight == 1
    assert effective(replace(SERVER, weight=0), HealthState(percent=50)).weight == 0


def test_a_pool_without_changes_is_the_same_object() -> None:
    """An unchanged pool is the same object."""
    pool = Pool("p", servers("fast", 2))
    assert effective_pool(pool, lambda _: HealthState()) is pool

    def second(server: Server) -> HealthState | None:
        return HealthState(passing=server is not pool.servers[1])

    changed = effective_pool(pool, second)
    assert [server.state for server in changed.servers] == [ServerState.UP, ServerState.DOWN]

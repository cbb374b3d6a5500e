"""The health of a server after its checks, and the pool with the states and weights that follow from it.

Pure: a HealthState and a result give the next HealthState; times are arguments (unix seconds). A check's word
is beside the operator's, never over it: what is drained, down or in maintenance stays so.

A server that cannot be reached because this host's own link is away is drained, not down: all servers behind that link
seem to fail at once, and the first to pass again would be given the flows of all others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from dnsvip.dispatcher.health.agent import Mode, Report
from dnsvip.site import Check, Pool, Server, ServerState

WEIGHT_SECONDS = 5.0
"""A load report changes a server's weight at most this often..."""
WEIGHT_SHARE = 10
"""...and only where it differs by at least one part in this many, so that rings do not follow every breath. To and
from zero it acts at once."""
LARGEST_WEIGHT = 1000
NOTE_LETTERS = 120


@dataclass(frozen=True, slots=True)
class HealthState:
    """What checks have found of one server in one pool so far.

    `streak` counts results in a row that say the contrary of `passing`. `running`, `mode` and `percent` are what the
    agent said last, `percent` as far as it has been taken (`weighed` is when); `silence` is why it said nothing the
    last time. `since` is when the server's state changed. `away` is the interface of this host without a carrier that
    the server is reached by: no failure of the server's.
    """

    passing: bool = True
    streak: int = 0
    note: str = ""
    probes: int = 0
    failures: int = 0
    running: bool = True
    mode: Mode = Mode.READY
    percent: int = 100
    silence: str = ""
    weighed: float = 0.0
    since: float = 0.0
    away: str = ""


def after_check(state: HealthState, check: Check, passed: bool, note: str, now: float) -> HealthState:
    """The state after a TCP or HTTP check: `fall` failures in a row take a server out, `rise` successes bring it
    back."""
    streak = state.streak + 1 if passed is not state.passing else 0
    turns = streak >= (check.rise if passed else check.fall)
    return replace(
        state,
        passing=passed if turns else state.passing,
        streak=0 if turns else streak,
        note="" if passed and state.running else note[:NOTE_LETTERS],
        probes=state.probes + 1,
        failures=state.failures + (not passed),
        since=now if turns else state.since,
    )


def after_lost_link(state: HealthState, interface: str, now: float) -> HealthState:
    """The state after a check that failed as this host's own link is away: neither a failure nor a success."""
    note, since = f"{interface} has no carrier", state.since if state.away else now
    return replace(
        state, away=interface, streak=0, note=note, probes=state.probes + 1, failures=state.failures + 1, since=since
    )


def after_link(state: HealthState, now: float) -> HealthState:
    """The state after the first check that passed by a link that was away: as before it went."""
    return replace(state, away="", streak=0, note="", since=now)


def after_report(state: HealthState, report: Report, now: float) -> HealthState:
    """The state after an agent's report; what it does not mention is unchanged."""
    running = state.running if report.running is None else report.running
    mode = report.mode or state.mode
    percent, weighed = _weighed(state, report.percent, now)
    changed = (running, mode) != (state.running, state.mode)
    note = report.note if report.note or state.passing else state.note
    since = now if changed else state.since
    return replace(
        state, running=running, mode=mode, percent=percent, weighed=weighed, note=note, since=since
    )  # fmt: skip


def _weighed(state: HealthState, percent: int | None, now: float) -> tuple[int, float]:
    """The percentage to go by, and when it changed last."""
    before = state.percent
    if percent is None or percent == before:
        return before, state.weighed
    at_once = not percent or not before
    soon = 0 <= now - state.weighed < WEIGHT_SECONDS
    if at_once or (not soon and abs(percent - before) * WEIGHT_SHARE >= before):
        return percent, now
    return before, state.weighed


def effective(server: Server, state: HealthState | None) -> Server:
    """A server with the state and weight that packets are dispatched by."""
    if state is None:
        return server
    weight = server.weight * state.percent // 100
    if server.weight and state.percent:
        weight = min(max(weight, 1), LARGEST_WEIGHT)
    return replace(server, state=_effective_state(server.state, state), weight=weight)


def _effective_state(said: ServerState, state: HealthState) -> ServerState:
    if said.out:
        return said
    if not (state.passing and state.running):
        return ServerState.DOWN
    if said is ServerState.DRAIN:
        return said
    if state.away:
        return ServerState.DRAIN  # its flows stay: moved to another server they would be reset when the link is back
    return _MODES[state.mode]


def effective_pool(pool: Pool, state_of: Callable[[Server], HealthState | None]) -> Pool:
    """A pool with all of its servers as they stand; the same object where nothing differs."""
    servers = tuple(effective(server, state_of(server)) for server in pool.servers)
    return pool if servers == pool.servers else replace(pool, servers=servers)


_MODES: Mapping[Mode, ServerState] = {
    Mode.READY: ServerState.UP,
    Mode.DRAIN: ServerState.DRAIN,
    Mode.MAINT: ServerState.MAINT,
}

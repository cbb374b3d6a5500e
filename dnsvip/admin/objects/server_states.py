"""/server-states: the states of many servers by one request, such as to drain a rack and to undo that.

Each pool is one change, and counts as one request of the token; the answer has the outcome of each server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, ClassVar, cast

from aiohttp import web
from pydantic import ConfigDict, Field

from dnsvip.admin.http import bodies
from dnsvip.admin.http.auth import count_changes, demand
from dnsvip.admin.http.changing import GENERATION, Outcome, change
from dnsvip.admin.http.operation import ROOT, Operation
from dnsvip.admin.http.problems import refusal_of
from dnsvip.admin.http.queries import read_body
from dnsvip.admin.http.work import turn
from dnsvip.admin.objects.pools import POOL
from dnsvip.errors import DnsvipError
from dnsvip.site import STRICT, Pool, ServerState
from dnsvip.site.plain import SiteObject, dump, parse
from dnsvip.site.rights import Action

MOST = 2000
"""Servers in one request."""

ServerKey = Annotated[str, Field(pattern=r"^[^/]{1,254}/[^/]{1,254}$", examples=["fast/fast-1"])]
States = Mapping[str, ServerState]


@dataclass(frozen=True, slots=True)
class ServerStates:
    """The state that each server, POOL/NAME, is to have."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    states: Annotated[Mapping[ServerKey, ServerState], Field(min_length=1, max_length=MOST)]


@dataclass(frozen=True, slots=True)
class StateOutcome:
    """What became of one server: its state before, None where it is not known, and why it was not changed."""

    server: str
    before: ServerState | None
    after: ServerState | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class StateOutcomes:
    """What became of each server; `generation` is that of the last change, None where nothing changed."""

    items: list[StateOutcome]
    generation: int | None


async def set_states(request: web.Request) -> web.Response:
    """Set the states of many servers: all named servers of a pool at once, or none of them. What is refused of one pool
    does not stop the others."""
    wanted = (await read_body(request, "server_states", ServerStates)).states
    pools: dict[str, dict[str, ServerState]] = {}
    for key, state in wanted.items():
        pool, _, server = key.partition("/")
        pools.setdefault(pool, {})[server] = state
    for pool in pools:
        demand(request, Action.WRITE, "pool", pool)
    count_changes(request, len(pools))
    items: list[StateOutcome] = []
    generation: int | None = None
    async with turn(request):
        for pool, states in pools.items():
            outcome = await _set(request, pool, states)
            items += _outcomes(pool, states, outcome)
            if isinstance(outcome, Outcome):
                generation = outcome.generation or generation
    headers = {} if generation is None else {GENERATION: str(generation)}
    return bodies.answer(asdict(StateOutcomes(items, generation)), headers=headers)


async def _set(request: web.Request, name: str, states: States) -> Outcome | str:
    """One change of a pool, or why there is none."""

    def make(before: SiteObject | None) -> SiteObject | None:
        if before is None:
            return None
        plain = dump(before)
        for server in plain["servers"]:
            server["state"] = states.get(server["name"], server["state"])
        return parse("pool", name, plain, counted=True)

    try:
        return await change(POOL, request, name, make)
    except DnsvipError as error:
        return str(refusal_of(error, request))


def _outcomes(pool: str, states: States, outcome: Outcome | str) -> list[StateOutcome]:
    if isinstance(outcome, str):
        return [StateOutcome(f"{pool}/{name}", None, None, outcome) for name in states]
    before, after = (_states(thing) for thing in (outcome.before, outcome.after))
    missing = "there is no such server" if outcome.after else "there is no such pool"
    return [
        StateOutcome(f"{pool}/{name}", before.get(name), after.get(name), None if name in after else missing)
        for name in states
    ]


def _states(pool: SiteObject | None) -> States:
    return {server.name: server.state for server in cast("Pool", pool).servers} if pool else {}


ROUTES = [
    Operation(
        "POST",
        f"{ROOT}/server-states",
        set_states,
        "pool",
        body=ServerStates,
        answer=StateOutcomes,
    )
]

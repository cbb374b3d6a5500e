"""An object that is stored but cannot be read: damaged, or written by another version of this program.

It can be listed, replaced and removed by its name. What was set while the site ran survives a replacement: a revoked
client does not come back enabled, none of its old keys becomes good again, and a drained server stays drained.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Any

from dnsvip.errors import Problem
from dnsvip.site import Client, ClientState, Pool, Server, ServerState
from dnsvip.site.plain import JsonObject, SiteObject, dump

_STRICTEST = (ClientState.REVOKED, ClientState.DISABLED, ClientState.ENABLED)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A stored object that cannot be read, and `why`. `digest` identifies what is stored. `stand_in` is an object of
    its kind with what is known of the fields that are set while the site runs; None for kinds without any."""

    kind: str
    name: str
    why: str
    digest: str
    stand_in: SiteObject | None = None

    @property
    def where(self) -> str:
        """The dotted path that an operator knows the object by."""
        return f"{self.kind}.{self.name}" if self.name else self.kind

    @property
    def problem(self) -> Problem:
        """What is wrong with it."""
        return Problem(self.where, self.why, about=(self.kind, self.name))

    @property
    def listed(self) -> JsonObject:
        """Its form in lists."""
        return {"name": self.name, "unreadable": self.why}

    @property
    def audited(self) -> JsonObject:
        """Its form in audit rows: of a client with the id that it gives up, and its state."""
        client = self.stand_in if isinstance(self.stand_in, Client) else None
        known = {key: dump(client)[key] for key in ("id", "state", "key_generation")} if client else {}
        return {**self.listed, **known}


def client_stand_in(name: str, number: int, tier: str, known: Sequence[Mapping[str, Any]], counted: int) -> Client:
    """A client by its id and tier, from what is `known` of it as JSON: what is stored, and what was audited.

    Of several states the strictest counts, without any it is disabled. Without a key generation it gets `counted`,
    which is larger than any that it can have reached one change at a time.
    """
    states = {state for each in known for state in ClientState if each.get("state") == state.value}
    numbers = [each["key_generation"] for each in known if _is_number(each.get("key_generation"))]
    state = next((state for state in _STRICTEST if state in states), ClientState.DISABLED)
    return Client(name, number, tier, state=state, key_generation=max(numbers, default=max(counted, 1)))


def pool_stand_in(name: str, known: Sequence[Mapping[str, Any]]) -> Pool:
    """A pool from the first of what is `known` of it that has servers: their names and states."""
    servers = next(filter(None, (tuple(_servers(each.get("servers"))) for each in known)), ())
    return Pool(name, servers=servers)


def _servers(plain: Any) -> Iterator[Server]:
    some: Iterable[Any] = plain if isinstance(plain, list) else ()
    for server in some:
        if isinstance(server, dict) and isinstance(server.get("name"), str):
            states = [state for state in ServerState if state.value == server.get("state", ServerState.UP.value)]
            yield Server(server["name"], IPv6Address("::"), state=(states or [ServerState.MAINT])[0])


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 32

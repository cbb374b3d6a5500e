"""The servers that clients have of their own: equal sets of them are one, which has a ring like a pool's.

A set is named by its key, POOL/SERVER joined by commas, which no pool can be called. What cannot be resolved, because
a server has gone or its name has become ambiguous, is left out; a client without any left has no set. Beyond MOST_SETS
the sets with the last keys are left out, the same ones on every dispatcher.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from dnsvip.errors import Problem
from dnsvip.site import Client, Pool, Server, Site, Stickiness
from dnsvip.site.cow_map import difference
from dnsvip.site.select_rules import MOST_SETS

Member: TypeAlias = tuple[Pool, Server]


class OwnServers:
    """The sets of one site by key. `before` is that of an earlier site, from which unchanged clients are taken."""

    def __init__(self, site: Site, before: OwnServers | None = None) -> None:
        self._clients: Mapping[str, Client] = site.clients
        self._named = _named(site, before)
        places: dict[str, list[Member]] = {}
        for pool in site.pools.values() if self._named else ():
            for server in pool.servers:
                for name in (server.name, f"{pool.name}/{server.name}"):
                    places.setdefault(name, []).append((pool, server))
        self._keys: dict[tuple[str, ...], str] = {}
        sets: dict[str, tuple[Member, ...]] = {}
        for names in self._named:
            members = {f"{one[0].name}/{one[1].name}": one for name in names for one in _only(places.get(name, []))}
            key = ",".join(sorted(members))
            if key:
                sets[key] = tuple(members[label] for label in sorted(members))
                self._keys[names] = key
        self.sets: Mapping[str, tuple[Member, ...]] = {key: sets[key] for key in sorted(sets)[:MOST_SETS]}
        self._left_out = len(sets) - len(self.sets)

    @property
    def problems(self) -> list[Problem]:
        """That there are too many."""
        text = f"{self._left_out} sets of own servers are not used, {MOST_SETS} are held: make pools of them"
        return [Problem("client", text)] if self._left_out else []

    def key(self, servers: tuple[str, ...]) -> str | None:
        """The key of the set that a client means; None where there is none."""
        key = self._keys.get(servers)
        return key if key in self.sets else None

    def stickiness(self, key: str) -> Stickiness:
        """What stays on the same server of a set: as in the pool of its first one."""
        return self.sets[key][0][0].stickiness

    def users(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """What clients name, with the key of it."""
        return ((names, key) for names, key in self._keys.items() if key in self.sets)


def _named(site: Site, before: OwnServers | None) -> Counter[tuple[str, ...]]:
    """How many clients name each list of servers."""
    if before is None:
        return Counter(client.servers for client in site.clients.values() if client.servers)
    named = before._named.copy()
    for _, old, new in difference(before._clients, site.clients):
        if old is not None and old.servers:
            named[old.servers] -= 1
        if new is not None and new.servers:
            named[new.servers] += 1
    return +named


def _only(members: list[Member]) -> list[Member]:
    return members if len(members) == 1 else []

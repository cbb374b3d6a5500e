"""Which objects of a site the program's maps hold. What is in force keeps its places, so nobody takes them by adding
more; pools come before the sets of clients' own servers. No kernel calls here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.io.xdp.id_allocator import IdAllocator, Numbers
from dnsvip.dispatcher.io.xdp.image import server_name, set_name
from dnsvip.errors import Problem
from dnsvip.site import Pool
from dnsvip.site.isolation import Key
from dnsvip.site.plain import SiteObject

MOST_NAMED = 100
"""Problems of objects that are left out."""


class _Places:
    """The numbers of one kind that are left: those in force keep theirs until the next image is."""

    def __init__(self, numbers: Numbers) -> None:
        self._with_one = set(numbers.in_force)
        self._free = numbers.bound - len(self._with_one)

    def take(self, name: str) -> bool:
        """Whether a name has a number, or one is left for it."""
        if name not in self._with_one:
            if self._free <= 0:
                return False
            self._free -= 1
            self._with_one.add(name)
        return True

    def refused(self, names: Mapping[str, str]) -> list[str]:
        """Of objects with the names of their numbers those that get none."""
        return [name for name in self.by_turn(names, names.__getitem__) if not self.take(names[name])]

    def by_turn(self, names: Iterable[str], number_name: Callable[[str], str] = str) -> list[str]:
        """Those that have a number first."""
        return sorted(names, key=lambda name: (number_name(name) not in self._with_one, name))


def left_out(tables: DispatchTables, ids: IdAllocator) -> dict[Key, SiteObject | None]:
    """What stands in for the objects that the maps have no place for, None: nothing."""
    site = tables.sound.site
    clusters = {name: f"{name}/{cluster.prefix}" for name, cluster in site.clusters.items()}
    out: dict[Key, SiteObject | None] = {("cluster", name): None for name in _Places(ids.clusters).refused(clusters)}
    out |= {("tier", name): None for name in _Places(ids.tiers).refused({name: name for name in site.tiers})}
    pools, servers = _Places(ids.pools), _Places(ids.servers)
    for peer in tables.peer_targets.values():  # few, and of the node file
        servers.take(server_name("", peer.name, peer.name))
    for name in pools.by_turn(site.pools):
        pool = site.pools[name]
        fit = _fitting(pool, servers) if pools.take(name) else None
        if fit is not pool:
            out["pool", name] = fit
    lost = {key for key in pools.by_turn(tables.own.sets, set_name) if not _holds_set(tables, key, pools, servers)}
    if lost:
        for client in site.clients.values():
            if client.servers and tables.own.key(client.servers) in lost:
                out["client", client.name] = replace(client, servers=())
    return out


def problems_of(out: Mapping[Key, SiteObject | None]) -> list[Problem]:
    """One of each object that is left out, or not whole."""
    kinds = {"cluster": "clusters", "tier": "tiers", "pool": "pools or servers", "client": "sets of own servers"}
    named = [
        Problem(f"{kind}.{name}", f'mode = "xdp" has no place for more {kinds[kind]}: use fewer, or mode = "user"')
        for kind, name in list(out)[:MOST_NAMED]
    ]
    more = len(out) - len(named)
    return [*named, Problem("site", f'mode = "xdp" has no place for {more} more objects')] if more else named


def _fitting(pool: Pool, servers: _Places) -> Pool:
    """The pool with the servers that there is a place for."""
    labels = {server.name: server_name(pool.name, server.name, str(server.address)) for server in pool.servers}
    refused = set(servers.refused(labels))
    return replace(pool, servers=tuple(one for one in pool.servers if one.name not in refused)) if refused else pool


def _holds_set(tables: DispatchTables, key: str, pools: _Places, servers: _Places) -> bool:
    members = tables.own.sets[key]
    labels = [server_name(pool.name, server.name, str(server.address), key) for pool, server in members]
    return pools.take(set_name(key)) and all(list(map(servers.take, labels)))

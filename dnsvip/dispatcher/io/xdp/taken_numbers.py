"""Forgets what the kernel program has noted by a number that another object gets: the flows of a server or tier that is
gone, its next hop, and its figures. Nothing in force has such a number, so nothing new is noted by it meanwhile."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Mapping

from dnsvip.dispatcher.io.xdp.id_allocator import IdAllocator
from dnsvip.dispatcher.io.xdp.kernel_types import TYPES
from dnsvip.dispatcher.io.xdp.table import records
from dnsvip.xdp.maps import Map
from dnsvip.xdp.structs import u32

_OF_SERVERS, _OF_CLUSTERS = ("hops",), ("cluster_drops",)
_OF_TIERS = ("opened", "policed", "policing_buckets", "buckets")
_ENDED = 3 << 30
"""The marks of an ended flow in `owner` (flow_types.h)."""


def forget_taken(maps: Mapping[str, Map], ids: IdAllocator, purge: Callable[[bytes], object]) -> None:
    """Forget what was noted by numbers that have been taken; `purge` removes the flow with a key. Reads all flows
    where numbers of servers or tiers are among them."""
    servers, tiers, clusters = ids.servers.taken, ids.tiers.taken, ids.clusters.taken
    if servers or tiers:
        for key in _flows_of(maps["flows"], servers, tiers):
            purge(key)
    for names, numbers in ((_OF_SERVERS, servers), (_OF_TIERS, tiers), (_OF_CLUSTERS, clusters)):
        for name in names:
            _clear(maps[name], numbers)
    each = TYPES.constants("routed")["RULE_OWN"] + 1
    _clear(maps["routed"], [number * each + rule for number in clusters for rule in range(each)])
    for kind in ids.kinds:
        kind.taken.clear()


def _flows_of(flows: Map, servers: Collection[int], tiers: Collection[int]) -> list[bytes]:
    """The keys of the flows of these servers and tiers, ended ones included."""
    members = TYPES.struct("flow").members
    tier, owner, key = members["tier"].offset, struct.Struct(f"={members['owner'].offset}xI"), members["key"]
    return [
        record[key.offset : key.offset + key.size]
        for record in records(flows)
        if (owner.unpack_from(record)[0] & ~_ENDED) >> 8 in servers or record[tier] in tiers
    ]


def _clear(table: Map, numbers: Collection[int]) -> None:
    for number in numbers:
        table.put(u32(number), bytes(len(table.get_each(u32(number))[0])))

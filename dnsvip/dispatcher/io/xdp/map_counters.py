"""Reads what the kernel program counts, by the names that the site has.

Numbers of tiers, servers and clusters are those of the IdAllocator that a MapWriter writes with. Blocking.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import NamedTuple

from dnsvip.dispatcher.io.xdp.id_allocator import IdAllocator
from dnsvip.dispatcher.io.xdp.image import parts_of
from dnsvip.dispatcher.io.xdp.kernel_types import TYPES
from dnsvip.dispatcher.reason import PairCounts, totals, zero_counts
from dnsvip.xdp.maps import Map
from dnsvip.xdp.structs import number_of, u32

ETHERNET = 14
"""Bytes of a frame before its packet."""
STRAIGHT = "known", "forward"
"""The reason and action of what the straight way of established flows counts by itself (`struct pace`)."""


class Sent(NamedTuple):
    """What a server got: packets, their bytes, and new flows."""

    packets: int = 0
    bytes: int = 0
    flows: int = 0


class Forwarded(NamedTuple):
    """Packets and their bytes."""

    packets: int
    bytes: int


class MapCounters:
    """The counters in a dispatcher's maps (by their names in maps.h), from when the maps were made."""

    def __init__(self, maps: Mapping[str, Map], ids: IdAllocator) -> None:
        self._maps, self._ids = maps, ids

    def by_reason(self) -> dict[str, int]:
        """Packets by reason; every packet is in exactly one."""
        return totals(self.by_action())

    def by_action(self) -> PairCounts:
        """Packets by reason and action; every packet is in exactly one."""
        return {
            reason: {action: self._counted(reason, action).packets for action in by_action}
            for reason, by_action in zero_counts().items()
        }

    def forwarded(self) -> Forwarded:
        """All packets that were forwarded, and their bytes without the link's header."""
        counted = [self._counted(reason, "forward") for reason in TYPES.words("reason", "REASON_")]
        packets = sum(each.packets for each in counted)
        return Forwarded(packets, sum(each.bytes for each in counted) - ETHERNET * packets)

    def _counted(self, reason: str, action: str) -> Forwarded:
        """The packets with one reason and one action, and the bytes of their frames."""
        reasons, actions = TYPES.words("reason", "REASON_"), TYPES.words("action", "ACTION_")
        values = self._maps["counters"].get_each(u32(reasons[reason] + len(reasons) * actions[action]))
        if (reason, action) == STRAIGHT:
            known = TYPES.struct("pace").members["known"].offset
            values += [value[known:] for value in self._maps["paces"].get_each(u32(0))]
        unpack = TYPES.struct("counter").unpack
        counters = [unpack(value) for value in values]
        return Forwarded(sum(each["packets"] for each in counters), sum(each["bytes"] for each in counters))

    def auxiliary(self) -> dict[str, int]:
        """Events that are counted beside a packet's one reason (enum side)."""
        return {
            side: sum(map(number_of, self._maps["sides"].get_each(u32(number))))
            for side, number in TYPES.words("side", "SIDE_").items()
        }

    def opened(self) -> dict[str, int]:
        """Flows recorded by the tier they were opened in, for tiers that have opened any."""
        counts = {
            name: sum(map(number_of, self._maps["opened"].get_each(u32(number))))
            for number, name in self._ids.tiers.names.items()
        }
        return {name: count for name, count in counts.items() if count}

    def sent(self) -> dict[tuple[str, str], Sent]:
        """What each server got, by pool and server: what the kernel sent it, and all flows recorded for it."""
        hop, each = TYPES.struct("hop"), self._maps["hops"].get_each
        stride = hop.size // 8
        places = [hop.members[name].offset // 8 for name in ("packets", "bytes", "flows")]
        sums: dict[tuple[str, str], Sent] = {}
        for number, name in self._ids.servers.names.items():
            pool, _, server, _ = parts_of(name)
            if pool:  # else another dispatcher
                words = array("Q", b"".join(each(u32(number))))
                more = (sum(words[place::stride]) for place in places)
                sums[pool, server] = Sent(*map(sum, zip(sums.get((pool, server), Sent()), more, strict=True)))
        return sums

    def drops(self) -> dict[tuple[str, str], int]:
        """Packets dropped or answered, by cluster and action, where there are any."""
        counts: dict[tuple[str, str], int] = {}
        for number, name in self._ids.clusters.names.items():
            each = [
                TYPES.struct("cluster_drops").unpack(value)
                for value in self._maps["cluster_drops"].get_each(u32(number))
            ]
            for action, member in (("drop", "dropped"), ("answer", "answered")):
                if count := sum(one[member] for one in each):
                    key = name.partition("/")[0], action
                    counts[key] = counts.get(key, 0) + count
        return counts

    def policed(self) -> dict[tuple[str, str], int]:
        """Packets over the limits of a tier's policing, by tier and what was done with them, where there are any."""
        counts: dict[tuple[str, str], int] = {}
        for number, name in self._ids.tiers.names.items():
            each = [TYPES.struct("policed").unpack(value) for value in self._maps["policed"].get_each(u32(number))]
            for done in ("dropped", "marked"):
                if count := sum(one[done] for one in each):
                    counts[name, done] = count
        return counts

    def routed(self) -> dict[tuple[str, int], int]:
        """Flows recorded whose pool a rule or their client decided, by cluster and rule, where there are any."""
        each = TYPES.constants("routed")["RULE_OWN"] + 1
        counts: dict[tuple[str, int], int] = {}
        for number, name in self._ids.clusters.names.items():
            for rule in range(1, each):
                count = sum(map(number_of, self._maps["routed"].get_each(u32(number * each + rule))))
                if count:
                    counts[name.partition("/")[0], rule] = count
        return counts

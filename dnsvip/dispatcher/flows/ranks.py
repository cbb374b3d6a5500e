"""Which new flow gives way to another in a full probation segment: by the priorities that their routes gave them, then
by age.

A flow of the site's lowest priority, or a lower one of an earlier site, has rank 0. Where all have the same priority
the oldest new flow is evicted. The kernel program has the same rule (take_ranked_place in flow.h).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dnsvip.site import Site

if TYPE_CHECKING:
    from dnsvip.dispatcher.flows.segment import Segment

LOOKS = 8
"""So many of the oldest new flows are looked at for one that gives way."""


def lowest_of(site: Site) -> int | None:
    """The lowest priority that a tier or rule of the site has; None where all have the same one."""
    priorities = {tier.priority for tier in site.tiers.values()}
    rules = (rule for cluster in site.clusters.values() for rule in cluster.select)
    priorities |= {rule.priority for rule in rules if rule.priority is not None}
    return min(priorities) if len(priorities) > 1 else None


def rank_of(priority: int, lowest: int) -> int:
    """The rank of a flow of a priority."""
    return max(priority - lowest, 0)


def next_place(segment: Segment, rank: int, rank_at: Callable[[int], int]) -> int | None:
    """The slot of a new flow of a rank: the next that is free, or whose flow is of a lower rank or of the lowest; the
    last one that is looked at also from one of the same. None where none gives way. Flows that stay are as new.

    `rank_at`: the rank of the flow in a slot, 0 for one that is idle.
    """
    for left in range(LOOKS, 0, -1):
        slot = segment.next_slot()
        if slot >= len(segment.keys) or segment.keys[slot] is None:
            return slot
        there = rank_at(slot)
        if there < rank or there == 0 or (there == rank and left == 1):
            return slot
    return None

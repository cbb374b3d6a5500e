"""What a status says of flows and servers in user space, JSON-ready."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dnsvip.dispatcher.dispatch_tables import DispatchTables
from dnsvip.dispatcher.flows.flow import Flows
from dnsvip.dispatcher.flows.uses import Uses
from dnsvip.dispatcher.policing import policed_counts
from dnsvip.dispatcher.routes import rule_counts
from dnsvip.site import ServerState

NOTHING_SENT = (0, 0)
"""Packets and bytes."""


def held(flows: Flows, bound: int) -> dict[str, int]:
    """How many flows are remembered, and how many may be."""
    return {"established": len(flows.established), "new": len(flows.probation), "bound": bound}


def flows_status(flows: Flows, bound: int, now: int) -> dict[str, Any]:
    """Flows, and what is counted with them; `now` in unix nanoseconds."""
    return {
        "new_flows": dict(flows.opened),
        "rules": rule_counts(flows.routed),
        "policed": policed_counts(flows.buckets.policed),
        "labels_ignored": flows.labels_ignored,
        "flows": {
            **held(flows, bound),
            "evicted": flows.evicted,
            "expired": flows.expired,
            "not_promoted": flows.kept_new,
            "not_recorded": flows.not_recorded,
        },
        "held": len(flows.hold),
        "gave_way": flows.hold.gave_way,
        "buckets": flows.buckets.status(now),
        "guesses_refused": flows.guesses.refused,
    }


def uses_status(uses: Uses, damaged: int) -> dict[str, Any]:
    """Used single-use addresses; `damaged` records of the file could not be read."""
    return {
        "used": len(uses),
        "bound": uses.bound,
        "share": uses.share,
        "damaged": damaged,
        "closed_until": uses.closed_until or None,
    }


def servers_status(
    tables: DispatchTables, flows: Flows, mtus: Mapping[bytes, int], sent: Mapping[int, Sequence[int]]
) -> Iterator[dict[str, Any]]:
    """Every server and how it is used, those without flows included; `weight` is that for new flows."""
    for pool in tables.pools.values():
        for server in pool.servers:
            numbers = tables.numbers_of(pool, server)
            number = numbers[0]
            takes_new = server.state is ServerState.UP and number in tables.targets
            yield {
                "pool": pool.name,
                "name": server.name,
                "address": str(server.address),
                "forward": pool.forward.value,
                "state": server.state.value,
                "weight": server.weight if takes_new else 0,
                "used": number in tables.targets,
                "mtu": mtus.get(server.address.packed),
                "packets": sum(sent.get(one, NOTHING_SENT)[0] for one in numbers),
                "bytes": sum(sent.get(one, NOTHING_SENT)[1] for one in numbers),
                "new_flows": sum(flows.opened_at[one] for one in numbers),
            }

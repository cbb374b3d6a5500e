"""The life of a cluster's key epochs: published -> active -> retiring -> retired (codec/README.md, "Epochs").

Promise: exactly one epoch is active; none becomes active before every live dispatcher has reported a
generation that holds it; none is destroyed, and its slot reused, before the last address of it may
have died. Pure: `now` is unix seconds, secrets and reports are arguments.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from dnsvip.codec.keyring import Epoch, EpochState
from dnsvip.codec.layout import EPOCH_SLOTS
from dnsvip.errors import Conflict, Problem
from dnsvip.model import Cluster

DISPATCH = "dispatch"
"""The role of a node that decodes addresses, so that new keys wait for it."""


@dataclass(frozen=True, slots=True)
class NodeReport:
    """What a node last said of itself: the generation it works with, and for how long to believe it.

    `instance` tells apart processes that share a name. `seen_at` is in unix seconds.
    """

    name: str
    roles: frozenset[str]
    generation: int
    version: str
    seen_at: float
    lease_seconds: float
    instance: str = ""

    def is_live(self, now: float, watched_since: float = 0.0) -> bool:
        """Whether its lease has not run out. Who could not look before `watched_since` counts from there."""
        return now <= max(self.seen_at, watched_since) + self.lease_seconds


@dataclass(frozen=True, slots=True)
class Progress:
    """The epochs that stay, the slots whose key is to be destroyed, and what happened in words."""

    epochs: tuple[Epoch, ...]
    retired: tuple[int, ...] = ()
    events: tuple[str, ...] = ()


def keep_seconds(cluster: Cluster) -> int:
    """How long addresses of a cluster may live on after the last one was given out: TTL + session_lifetime."""
    return cluster.ttl + cluster.session_lifetime


def first(cluster: Cluster, secret: bytes, now: float, generation: int) -> Epoch:
    """The epoch of a new cluster: active at once, as no address of it exists."""
    at = int(now)
    return Epoch(0, EpochState.ACTIVE, secret, at, generation, at, 0, keep_seconds(cluster))


def with_keep(cluster: Cluster, epochs: Iterable[Epoch]) -> tuple[Epoch, ...]:
    """The epochs of a cluster whose TTL or session_lifetime may have changed: the active one keeps the longest."""
    keep = keep_seconds(cluster)
    return tuple(
        replace(e, keep_seconds=max(e.keep_seconds, keep)) if e.state is EpochState.ACTIVE else e for e in epochs
    )


def publish(name: str, epochs: Sequence[Epoch], secret: bytes, now: float, generation: int) -> Epoch:
    """A new epoch in a free slot of cluster `name`; raises Conflict where all slots are taken."""
    slot = free_slot(epochs)
    if slot is None:
        raise Conflict([Problem(f"key.{name}", _no_slot(epochs, now))])
    return Epoch(slot, EpochState.PUBLISHED, secret, int(now), generation)


def free_slot(epochs: Iterable[Epoch]) -> int | None:
    """The slot for a new epoch: after the newest one, so that a slot comes back as late as possible."""
    taken = sorted(epochs, key=lambda epoch: epoch.published_generation)
    start = taken[-1].slot + 1 if taken else 0
    used = {epoch.slot for epoch in taken}
    order = [(start + step) % EPOCH_SLOTS for step in range(EPOCH_SLOTS)]
    return next((slot for slot in order if slot not in used), None)


def advance(
    cluster: Cluster,
    epochs: Iterable[Epoch],
    nodes: Iterable[NodeReport],
    now: float,
    watched_since: float = 0.0,
) -> Progress:
    """All steps of one cluster's epochs that are due.

    `watched_since` is the unix second from which reports could be seen without a gap: after an outage of the
    database every lease has run out, which says nothing about the dispatchers.
    """
    held = [n.generation for n in nodes if DISPATCH in n.roles and n.is_live(now, watched_since)]
    staying, retired = {}, []
    for epoch in epochs:
        if epoch.state is EpochState.RETIRING and now >= retires_at(epoch):
            retired.append(epoch.slot)
        else:
            staying[epoch.slot] = epoch
    events = [f"{cluster.name}/{slot} retired" for slot in retired]
    ready = [e for e in staying.values() if e.state is EpochState.PUBLISHED and _is_held(e, held)]
    for epoch in sorted(ready, key=lambda epoch: epoch.published_generation):
        events += _activate(cluster, epoch, staying, now)
    return Progress(tuple(staying[slot] for slot in sorted(staying)), tuple(retired), tuple(events))


def retires_at(epoch: Epoch) -> int:
    """The unix second from which a retiring epoch may be destroyed."""
    return epoch.retiring_since + epoch.keep_seconds


def is_moving(epochs: Iterable[Epoch]) -> bool:
    """Whether any epoch waits for a step, so that `advance` is worth asking."""
    return any(epoch.state is not EpochState.ACTIVE for epoch in epochs)


def waiting_for(epoch: Epoch, nodes: Iterable[NodeReport], now: float) -> list[str]:
    """The live dispatchers that have not reported to hold a published epoch, by name."""
    behind = (n for n in nodes if DISPATCH in n.roles and n.is_live(now) and n.generation < epoch.published_generation)
    return sorted({node.name for node in behind})


def _is_held(epoch: Epoch, held: Iterable[int]) -> bool:
    return all(generation >= epoch.published_generation for generation in held)


def _activate(cluster: Cluster, epoch: Epoch, staying: dict[int, Epoch], now: float) -> list[str]:
    keep = keep_seconds(cluster)
    events = []
    for old in [e for e in staying.values() if e.state is EpochState.ACTIVE]:
        # Rounded up here and down at activation: an address never outlives its epoch by a fraction of a second,
        # and no encoder sees an activation in its future.
        since, longest = math.ceil(now), max(old.keep_seconds, keep)
        staying[old.slot] = replace(old, state=EpochState.RETIRING, retiring_since=since, keep_seconds=longest)
        events.append(f"{cluster.name}/{old.slot} retiring")
    staying[epoch.slot] = replace(epoch, state=EpochState.ACTIVE, activated_at=int(now), keep_seconds=keep)
    return [f"{cluster.name}/{epoch.slot} active", *events]


def _no_slot(epochs: Sequence[Epoch], now: float) -> str:
    retiring = [retires_at(epoch) for epoch in epochs if epoch.state is EpochState.RETIRING]
    if not retiring:
        return f"all {EPOCH_SLOTS} key slots are taken by epochs that wait to become active; see `dnsvip status`"
    left = max(0, math.ceil(min(retiring) - now))
    return f"all {EPOCH_SLOTS} key slots are taken; the next one becomes free in {left} seconds"

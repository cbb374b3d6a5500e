"""The life of a cluster's key epochs: published -> active -> retiring -> retired (address/README.md, "Epochs").

Promise: exactly one epoch is active; none becomes active before every live dispatcher has reported to
hold its key; none is destroyed, and its slot reused, before the last address of it may have died. An
emergency breaks all but the first on purpose. Pure: `now` is unix seconds, secrets and reports are
arguments.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dnsvip.address.keyring import Epoch, EpochState
from dnsvip.address.layout import EPOCH_SLOTS
from dnsvip.errors import Conflict, Problem
from dnsvip.site import Cluster
from dnsvip.site.rotation import rotation_seconds

DISPATCH = "dispatch"
"""The role of a node that decodes addresses, so that new keys wait for it."""


@dataclass(frozen=True, slots=True)
class NodeReport:
    """What a node last said of itself: the generation and keys it works with, and for how long to believe it.

    `instance` tells apart processes that share a name. Times are unix seconds: `started_at` of the process,
    `taken_at` of its generation. `keys` are ids of epoch keys and `keks` of key-encryption keys; None where a
    version that does not say so reports. `detail` is JSON, its own account of itself.
    """

    name: str
    roles: frozenset[str]
    generation: int
    version: str
    seen_at: float
    lease_seconds: float
    instance: str = ""
    started_at: float | None = None
    taken_at: float | None = None
    keys: frozenset[str] | None = None
    keks: frozenset[str] | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stopped(self) -> bool:
        """Whether it took its leave, at `seen_at`; nothing waits for it any more."""
        return isinstance(self.detail, Mapping) and self.detail.get("stopped") is True

    def is_live(self, now: float, watched_since: float = 0.0) -> bool:
        """Whether its lease has not run out. Who could not look before `watched_since` counts from there."""
        return not self.stopped and now <= max(self.seen_at, watched_since) + self.lease_seconds

    def holds(self, epoch: Epoch) -> bool:
        """Whether it has reported to hold the key of an epoch. A generation alone says little: that of a database
        which was put back to an older state comes twice."""
        return epoch.published_generation <= self.generation if self.keys is None else epoch.key_id in self.keys


@dataclass(frozen=True, slots=True)
class Reserved:
    """A slot that stays empty until `until` (unix seconds), as addresses of a key that is gone may live."""

    cluster: str
    slot: int
    key_id: str
    until: int


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


def publish(
    name: str,
    epochs: Sequence[Epoch],
    secret: bytes,
    now: float,
    generation: int,
    reserved: Collection[Reserved] = (),
) -> Epoch:
    """A new epoch in a free slot of cluster `name`; raises Conflict where all slots are taken."""
    slot = free_slot(epochs, reserved, now)
    if slot is None:
        raise Conflict([Problem(f"key.{name}", _no_slot(epochs, reserved, now))])
    return Epoch(slot, EpochState.PUBLISHED, secret, int(now), generation)


def free_slot(epochs: Iterable[Epoch], reserved: Iterable[Reserved] = (), now: float = 0.0) -> int | None:
    """The slot for a new epoch: after the newest one, so that a slot comes back as late as possible."""
    held = list(epochs)
    used = {epoch.slot for epoch in held} | {each.slot for each in reserved if now < each.until}
    return next((slot for slot in _in_turn(held) if slot not in used), None)


def is_rotation_due(cluster: Cluster, epochs: Sequence[Epoch], now: float, reserved: Collection[Reserved] = ()) -> bool:
    """Whether the cluster's schedule asks for a new epoch now; never while one waits or no slot is free."""
    at = next_rotation(cluster, epochs)
    waits = any(epoch.state is EpochState.PUBLISHED for epoch in epochs)
    return at is not None and now >= at and not waits and free_slot(epochs, reserved, now) is not None


def next_rotation(cluster: Cluster, epochs: Iterable[Epoch]) -> int | None:
    """The unix second from which the next scheduled rotation is due; None without a schedule."""
    published, seconds = [epoch.published_at for epoch in epochs], rotation_seconds(cluster)
    return max(published) + seconds if seconds is not None and published else None


def replace_at_once(
    cluster: Cluster,
    epochs: Sequence[Epoch],
    secret: bytes,
    now: float,
    generation: int,
    reserved: Collection[Reserved] = (),
) -> tuple[Epoch, tuple[Reserved, ...]]:
    """An emergency: one new epoch that is active from now on instead of all others, and the slots of those that
    are not to be used until their addresses, which are rejected from now on, have died.

    Where no slot is free it takes the one whose addresses die first: they are then rejected by their tag.
    """
    at, keep = int(now), keep_seconds(cluster)
    lost = tuple(reservation(cluster.name, epoch, now) for epoch in epochs)
    ends: dict[int, int] = {}
    for each in (*lost, *reserved):
        ends[each.slot] = max(each.until, ends.get(each.slot, 0))
    slot = free_slot(epochs, reserved, now)
    if slot is None:
        slot = min(_in_turn(epochs), key=lambda number: ends[number])
    epoch = Epoch(slot, EpochState.ACTIVE, secret, at, generation, at, 0, keep)
    return epoch, tuple(each for each in lost if each.slot != slot and now < each.until)


def reservation(cluster: str, epoch: Epoch, now: float) -> Reserved:
    """The reservation of an epoch's slot were its key to be lost now."""
    ends = {
        EpochState.PUBLISHED: int(now),
        EpochState.ACTIVE: math.ceil(now) + epoch.keep_seconds,
        EpochState.RETIRING: retires_at(epoch),
    }
    return Reserved(cluster, epoch.slot, epoch.key_id, ends[epoch.state])


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
    waited_for = [node for node in nodes if DISPATCH in node.roles and node.is_live(now, watched_since)]
    staying, retired = {}, []
    for epoch in epochs:
        if epoch.state is EpochState.RETIRING and now >= retires_at(epoch):
            retired.append(epoch.slot)
        else:
            staying[epoch.slot] = epoch
    events = [f"{cluster.name}/{slot} retired" for slot in retired]
    ready = [e for e in staying.values() if e.state is EpochState.PUBLISHED and _is_held(e, waited_for)]
    for epoch in sorted(ready, key=lambda epoch: epoch.published_generation):
        events += _activate(cluster, epoch, staying, now)
    return Progress(tuple(staying[slot] for slot in sorted(staying)), tuple(retired), tuple(events))


def retires_at(epoch: Epoch) -> int:
    """The unix second from which a retiring epoch may be destroyed."""
    return epoch.retiring_since + epoch.keep_seconds


def is_step_near(cluster: Cluster, epochs: Sequence[Epoch], now: float) -> bool:
    """Whether a step of the epochs may be due, so that nodes and database are worth asking."""
    moving = any(
        epoch.state is EpochState.PUBLISHED or (epoch.state is EpochState.RETIRING and now >= retires_at(epoch))
        for epoch in epochs
    )
    return moving or is_rotation_due(cluster, epochs, now)


def waiting_for(epoch: Epoch, nodes: Iterable[NodeReport], now: float) -> list[str]:
    """The live dispatchers that have not reported to hold an epoch, by name."""
    return _without(epoch, (node for node in nodes if node.is_live(now)))


def passed_over(epoch: Epoch, nodes: Iterable[NodeReport], now: float) -> list[str]:
    """The dispatchers that were silent for longer than their lease and did not hold the epoch, by name: nobody waits
    for them, and they reject its addresses until they are back."""
    return _without(epoch, (node for node in nodes if not node.is_live(now)))


def _without(epoch: Epoch, nodes: Iterable[NodeReport]) -> list[str]:
    return sorted({node.name for node in nodes if DISPATCH in node.roles and not node.holds(epoch)})


def _is_held(epoch: Epoch, nodes: Iterable[NodeReport]) -> bool:
    return all(node.holds(epoch) for node in nodes)


def _in_turn(epochs: Iterable[Epoch]) -> list[int]:
    """All slots, beginning with the one after the newest epoch's."""
    newest = max(epochs, key=lambda epoch: epoch.published_generation, default=None)
    start = 0 if newest is None else newest.slot + 1
    return [(start + step) % EPOCH_SLOTS for step in range(EPOCH_SLOTS)]


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


def _no_slot(epochs: Sequence[Epoch], reserved: Iterable[Reserved], now: float) -> str:
    ends = [retires_at(epoch) for epoch in epochs if epoch.state is EpochState.RETIRING]
    ends += [each.until for each in reserved if now < each.until]
    if not ends:
        return f"all {EPOCH_SLOTS} key slots are taken by epochs that wait to become active; see `dnsvip status`"
    left = max(0, math.ceil(min(ends) - now))
    return f"all {EPOCH_SLOTS} key slots are taken; the next one becomes free in {left} seconds"

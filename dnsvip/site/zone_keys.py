"""The keys that sign zones, as a snapshot holds them, and when they are rolled. The store makes them, DNS uses them.

A key with `sep` is one that the parent's DS points to: it signs the DNSKEY set, and where there is no other key the
whole zone. Others, zone signing keys, sign the rest. Rollovers follow RFC 7583: a zone signing key is published before
it signs (section 3.2.1), one with `sep` signs beside the one before it until the parent has its DS (section 3.3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from dnsvip.site.choices import DnssecAlgorithm
from dnsvip.site.dns import LEAST_ZSK_DAYS, Dnssec

SECRET_BYTES = 32
"""Of a private key of either algorithm."""

KEY_TTL = 3600
"""Seconds that the DNSKEY, CDS and CDNSKEY sets are cached for."""

PUBLISH_SECONDS = 2 * KEY_TTL
"""From when a key is published until caches have it everywhere: the TTL of the DNSKEY set, and as long for all nodes to
learn of it."""

RETIRE_SECONDS = 7 * 86400
"""From when a key has no more use until caches have nothing that needs it: the longest that resolvers keep a record."""

DAY = 86400


class KeyState(StrEnum):
    """Where a key is in its life."""

    PUBLISHED = "published"
    ACTIVE = "active"
    OUTGOING = "outgoing"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class ZoneKey:
    """A key of a zone.

    `number` counts the keys that a zone has had, from 1. `secret` is the private scalar of P-256 in network order, or
    the seed of Ed25519 (RFC 8032 section 5.1.5). `created_at`, and `since`, when it came into its `state`, are in unix
    seconds.
    """

    number: int
    algorithm: DnssecAlgorithm
    secret: bytes = field(repr=False)
    created_at: int
    sep: bool = True
    state: KeyState = KeyState.ACTIVE
    since: int = 0


class Step(NamedTuple):
    """The keys after a step, and a message for each change."""

    keys: tuple[ZoneKey, ...]
    events: tuple[str, ...] = ()


Make = Callable[[], ZoneKey]
"""Makes a new key, active and with `sep`."""


def signs_data(keys: Sequence[ZoneKey]) -> tuple[ZoneKey, ...]:
    """Those that sign the sets of a zone: active zone signing keys, else all with `sep`."""
    return tuple(key for key in keys if not key.sep and key.state is KeyState.ACTIVE) or signs_keys(keys)


def signs_keys(keys: Sequence[ZoneKey]) -> tuple[ZoneKey, ...]:
    """Those that sign the DNSKEY, CDS and CDNSKEY sets: all with `sep`, in whatever state."""
    return tuple(key for key in keys if key.sep)


def wanted_at_parent(keys: Sequence[ZoneKey]) -> tuple[ZoneKey, ...]:
    """Those whose DS the parent should have."""
    return tuple(key for key in keys if key.sep and key.state is KeyState.ACTIVE)


def followed(dnssec: Dnssec, keys: Sequence[ZoneKey], now: int, make: Make) -> Step:
    """The keys as the settings of a signed zone require: a first one, and with `split` a zone signing key beside it."""
    zsks = [key for key in keys if not key.sep]
    held = [*keys] if signs_keys(keys) else [*keys, make()]
    if dnssec.split and not any(key.state in (KeyState.PUBLISHED, KeyState.ACTIVE) for key in zsks):
        new = replace(make(), number=max(key.number for key in held) + 1, sep=False, since=now)
        held.append(new if not keys else replace(new, state=KeyState.PUBLISHED))
    if not dnssec.split:
        held = [key for key in held if key.sep or key.state is not KeyState.PUBLISHED]
        held = [_moved(key, KeyState.RETIRED, now) if not key.sep else key for key in held]
    return Step(tuple(held))


def rolled(keys: Sequence[ZoneKey], now: int, make: Make, *, sep: bool) -> Step:
    """The keys with a new one of a kind, published. Raises ValueError where that cannot be."""
    same = [key for key in keys if key.sep is sep]
    if not any(key.state is KeyState.ACTIVE for key in same):
        raise ValueError("there is no active key of that kind" + ("" if sep else ": set dnssec.split = true first"))
    busy = next((key for key in same if key.state in (KeyState.PUBLISHED, KeyState.OUTGOING)), None)
    if busy is not None:
        raise ValueError(f"key {busy.number} is {busy.state}: the rollover before has not ended")
    new = make()
    return Step((*keys, replace(new, sep=sep, state=KeyState.PUBLISHED, since=now)), (f"key {new.number} published",))


def confirmed(keys: Sequence[ZoneKey], now: int) -> Step:
    """The keys once the parent has the DS records of those that it should have, and no others."""
    out = [key for key in keys if key.state is KeyState.OUTGOING]
    if not out:
        raise ValueError("no key waits for the parent")
    after = tuple(_moved(key, KeyState.RETIRED, now) if key in out else key for key in keys)
    return Step(after, tuple(f"key {key.number} retired" for key in out))


def removed(keys: Sequence[ZoneKey], number: int, *, signed: bool) -> Step:
    """The keys without one. Raises ValueError where the zone, which may be signed, cannot do without it."""
    key = next((key for key in keys if key.number == number), None)
    if key is None:
        raise ValueError(f"there is no key {number}; there is: {', '.join(str(key.number) for key in keys) or 'none'}")
    if signed and key.state is not KeyState.PUBLISHED:
        raise ValueError(f"key {number} is {key.state}: of a signed zone only a published key can be removed")
    return Step(tuple(other for other in keys if other is not key), (f"key {number} removed",))


def advanced(dnssec: Dnssec, keys: Sequence[ZoneKey], now: int, make: Make) -> Step:
    """The keys after every step that is due: scheduled rollovers of the zone signing key too."""
    events: list[str] = []
    held: list[ZoneKey] = []
    for key in keys:
        if key.state is KeyState.RETIRED and now >= key.since + RETIRE_SECONDS:
            events.append(f"key {key.number} removed")
        else:
            held.append(key)
    for new in [key for key in held if key.state is KeyState.PUBLISHED and now >= key.since + PUBLISH_SECONDS]:
        gone = KeyState.OUTGOING if new.sep else KeyState.RETIRED
        for at, key in enumerate(held):
            if key is new or (key.sep is new.sep and key.state is KeyState.ACTIVE):
                held[at] = _moved(key, KeyState.ACTIVE if key is new else gone, now)
                events.append(f"key {key.number} {held[at].state}")
    if _is_roll_due(dnssec, held, now):
        step = rolled(held, now, make, sep=False)
        return Step(step.keys, (*events, *step.events))
    return Step(tuple(held), tuple(events))


def is_zone_step_near(keys: Sequence[ZoneKey], now: float) -> bool:
    """Whether it is time to look for steps: one that has a time is due, or the zone signing key is in use for long."""
    waits = {KeyState.PUBLISHED: PUBLISH_SECONDS, KeyState.RETIRED: RETIRE_SECONDS}
    return any(
        now >= key.since + (waits[key.state] if key.state in waits else LEAST_ZSK_DAYS * DAY)
        for key in keys
        if key.state in waits or (not key.sep and key.state is KeyState.ACTIVE)
    )


def _is_roll_due(dnssec: Dnssec, keys: Sequence[ZoneKey], now: int) -> bool:
    zsks = [key for key in keys if not key.sep]
    old = any(key.state is KeyState.ACTIVE and now >= key.since + (dnssec.zsk_days or 0) * DAY for key in zsks)
    return bool(dnssec.split and dnssec.zsk_days) and old and all(key.state is not KeyState.PUBLISHED for key in zsks)


def _moved(key: ZoneKey, state: KeyState, now: int) -> ZoneKey:
    return key if key.state is state else replace(key, state=state, since=now)

"""The keys that sign zones, as a snapshot holds them, and when they are rolled. The store makes them, DNS uses them.

A key with `sep` is one that the parent's DS points to: it signs the DNSKEY set, and where there is no other key the
whole zone. Others, zone signing keys, sign the rest. Rollovers follow RFC 7583: a zone signing key is published before
it signs (section 3.2.1), one with `sep` signs beside the one before it until the parent has its DS (section 3.3.1).

Keys of another algorithm come by the conservative way (RFC 6781 section 4.1.4): as a validator may want a signature of
each algorithm that a DNSKEY set has, theirs are everywhere before any DNSKEY set has the keys, and those of the keys
before go after these have left it. From beginning to end the zone has keys of both algorithms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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

INTRODUCE_SECONDS = 7 * 86400
"""From when keys of another algorithm sign until caches have nothing without their signatures, as RETIRE_SECONDS."""

RETIRE_SECONDS = 7 * 86400
"""From when a key has no more use until caches have nothing that needs it: the longest that resolvers keep a record."""

DAY = 86400


class KeyState(StrEnum):
    """Where a key is in its life. It is `introduced` and `withdrawn` only where its algorithm comes or goes."""

    INTRODUCED = "introduced"
    PUBLISHED = "published"
    ACTIVE = "active"
    OUTGOING = "outgoing"
    RETIRED = "retired"
    WITHDRAWN = "withdrawn"


UNLISTED = frozenset({KeyState.INTRODUCED, KeyState.WITHDRAWN})
"""States of keys that sign and are not in the DNSKEY set."""

WAITS: Mapping[KeyState, int] = {
    KeyState.INTRODUCED: INTRODUCE_SECONDS,
    KeyState.PUBLISHED: PUBLISH_SECONDS,
    KeyState.RETIRED: RETIRE_SECONDS,
    KeyState.WITHDRAWN: PUBLISH_SECONDS,
}
"""States that time alone ends, and after how many seconds."""


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
    """Those that sign the sets of a zone: of each algorithm the zone signing keys in use, else all with `sep`."""
    zsks = [key for key in keys if not key.sep and key.state in (KeyState.ACTIVE, *UNLISTED)]
    split = _algorithms(zsks)
    return tuple(key for key in keys if key in zsks or (key.sep and key.algorithm not in split))


def signs_keys(keys: Sequence[ZoneKey]) -> tuple[ZoneKey, ...]:
    """Those that sign the DNSKEY, CDS and CDNSKEY sets: all with `sep`, in whatever state."""
    return tuple(key for key in keys if key.sep)


def listed(keys: Sequence[ZoneKey]) -> tuple[ZoneKey, ...]:
    """Those that are in the DNSKEY set."""
    return tuple(key for key in keys if key.state not in UNLISTED)


def wanted_at_parent(keys: Sequence[ZoneKey]) -> tuple[ZoneKey, ...]:
    """Those whose DS the parent should have."""
    return tuple(key for key in keys if key.sep and key.state is KeyState.ACTIVE)


def followed(dnssec: Dnssec, keys: Sequence[ZoneKey], now: int, make: Make) -> Step:
    """The keys as the settings of a signed zone require: a first one, with `split` a zone signing key beside it, others
    for another algorithm. Raises ValueError where that cannot be now."""
    if keys and _algorithms(keys) != {dnssec.algorithm}:
        return _with_algorithm(dnssec, keys, now, make)
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
    if len(_algorithms(keys)) > 1:
        raise ValueError("keys of another algorithm take over: that rollover has not ended")
    same = [key for key in keys if key.sep is sep]
    if not any(key.state is KeyState.ACTIVE for key in same):
        raise ValueError("there is no active key of that kind" + ("" if sep else ": set dnssec.split = true first"))
    busy = next((key for key in same if key.state in (KeyState.PUBLISHED, KeyState.OUTGOING)), None)
    if busy is not None:
        raise ValueError(_unfinished(busy))
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
    if signed and len(_algorithms(keys)) > 1:
        raise ValueError("keys of another algorithm take over: dnssec.algorithm as it was takes that back")
    if signed and key.state is not KeyState.PUBLISHED:
        raise ValueError(f"key {number} is {key.state}: of a signed zone only a published key can be removed")
    return Step(tuple(other for other in keys if other is not key), (f"key {number} removed",))


def advanced(dnssec: Dnssec, keys: Sequence[ZoneKey], now: int, make: Make) -> Step:
    """The keys after every step that is due: scheduled rollovers of the zone signing key too."""
    due = [key for key in keys if key.state in WAITS and now >= key.since + WAITS[key.state]]
    out = [key for key in due if key.state is KeyState.RETIRED and key.sep]
    leaving = _algorithms(out) - _algorithms([key for key in keys if key.sep and key not in out])
    held: list[ZoneKey] = []
    for key in keys:
        if key.algorithm in leaving:
            held.append(_moved(key, KeyState.WITHDRAWN, now))
        elif key in due and key.state is KeyState.INTRODUCED:
            held.append(_moved(key, KeyState.PUBLISHED if key.sep else KeyState.ACTIVE, now))
        elif key not in due or key.state is KeyState.PUBLISHED:
            held.append(key)
    for new in [key for key in due if key.state is KeyState.PUBLISHED and key in held]:
        gone = KeyState.OUTGOING if new.sep else KeyState.RETIRED
        for at, key in enumerate(held):
            if key is new or (key.sep is new.sep and key.state is KeyState.ACTIVE):
                held[at] = _moved(key, KeyState.ACTIVE if key is new else gone, now)
    states = {key.number: str(key.state) for key in held}
    changed = [key.number for key in keys if states.get(key.number) != key.state]
    events = [f"key {number} {states.get(number, 'removed')}" for number in changed]
    if _is_roll_due(dnssec, held, now):
        step = rolled(held, now, make, sep=False)
        return Step(step.keys, (*events, *step.events))
    return Step(tuple(held), tuple(events))


def is_zone_step_near(keys: Sequence[ZoneKey], now: float) -> bool:
    """Whether it is time to look for steps: one that has a time is due, or the zone signing key is in use for long."""
    return any(
        now >= key.since + WAITS.get(key.state, LEAST_ZSK_DAYS * DAY)
        for key in keys
        if key.state in WAITS or (not key.sep and key.state is KeyState.ACTIVE)
    )


def _is_roll_due(dnssec: Dnssec, keys: Sequence[ZoneKey], now: int) -> bool:
    zsks = [key for key in keys if not key.sep]
    old = any(key.state is KeyState.ACTIVE and now >= key.since + (dnssec.zsk_days or 0) * DAY for key in zsks)
    free = len(_algorithms(keys)) == 1 and all(key.state is not KeyState.PUBLISHED for key in zsks)
    return bool(dnssec.split and dnssec.zsk_days) and old and free


def _with_algorithm(dnssec: Dnssec, keys: Sequence[ZoneKey], now: int, make: Make) -> Step:
    """The keys where those of another algorithm come, or go back as long as no DS can be of them."""
    seps, wanted = signs_keys(keys), dnssec.algorithm
    if wanted not in _algorithms(keys):
        busy = next((key for key in keys if key.state in (KeyState.PUBLISHED, KeyState.OUTGOING)), None)
        if busy is not None:
            raise ValueError(_unfinished(busy))
        new = replace(make(), state=KeyState.INTRODUCED, since=now)
        zsk = replace(make(), number=new.number + 1, sep=False, state=KeyState.INTRODUCED, since=now)
        return Step((*keys, new, zsk) if dnssec.split else (*keys, new))
    coming = next((key for key in seps if key.state is KeyState.INTRODUCED or _is_first(key, keys)), None)
    target = (coming or next(key for key in seps if key.state is KeyState.ACTIVE)).algorithm
    if wanted is target:
        if dnssec.split is not any(not key.sep and key.algorithm is target for key in keys):
            raise ValueError("keys of another algorithm take over: dnssec.split stays until that rollover has ended")
        return Step(tuple(keys))
    if coming is None:
        raise ValueError(f"the rollover to {target} has not ended, and cannot be taken back any more")
    kept = [key for key in keys if key.algorithm is wanted or key.state is not KeyState.INTRODUCED]
    return Step(tuple(key if key.algorithm is wanted else _moved(key, KeyState.WITHDRAWN, now) for key in kept))


def _is_first(key: ZoneKey, keys: Sequence[ZoneKey]) -> bool:
    """Whether it is published, and the only one with `sep` of its algorithm."""
    return key.state is KeyState.PUBLISHED and [key] == [o for o in keys if o.sep and o.algorithm is key.algorithm]


def _algorithms(keys: Sequence[ZoneKey]) -> set[DnssecAlgorithm]:
    return {key.algorithm for key in keys}


def _unfinished(key: ZoneKey) -> str:
    return f"key {key.number} is {key.state}: the rollover before has not ended"


def _moved(key: ZoneKey, state: KeyState, now: int) -> ZoneKey:
    return key if key.state is state else replace(key, state=state, since=now)

"""Rollovers of the keys of zones: at no time has a cache what it cannot validate with what else it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count

import pytest

from dnsvip.site import Dnssec, DnssecAlgorithm, ZoneKey
from dnsvip.site.zone_keys import (
    DAY,
    INTRODUCE_SECONDS,
    KEY_TTL,
    PUBLISH_SECONDS,
    RETIRE_SECONDS,
    KeyState,
    Make,
    Step,
    advanced,
    confirmed,
    followed,
    is_zone_step_near,
    listed,
    removed,
    rolled,
    signs_data,
    signs_keys,
    wanted_at_parent,
)

HOUR, START = 3600, 1_700_000_000
SPLIT = Dnssec(True, split=True)
P256, ED25519 = DnssecAlgorithm.ECDSAP256SHA256, DnssecAlgorithm.ED25519


def maker() -> Make:
    """Makes keys with rising numbers."""
    numbers = count(1)
    return lambda: ZoneKey(next(numbers), P256, bytes(32), START, since=START)


def numbered(keys: Sequence[ZoneKey], algorithm: DnssecAlgorithm = P256) -> Make:
    """As the store's: the next number of a zone."""
    return lambda: ZoneKey(max((key.number for key in keys), default=0) + 1, algorithm, bytes(32), START, since=START)


Events = dict[int, Callable[[tuple[ZoneKey, ...], int], Step]]


def history(dnssec: Dnssec, hours: int, events: Events) -> list[tuple[ZoneKey, ...]]:
    """The keys at each hour, where an operator does something at some of them."""
    keys = followed(dnssec, (), START, maker()).keys
    seen = []
    for hour in range(hours):
        now = START + hour * HOUR
        keys = advanced(dnssec, keys, now, numbered(keys)).keys
        if hour in events:
            keys = events[hour](keys, now).keys
        assert advanced(dnssec, keys, now, numbered(keys)).keys == keys
        seen.append(keys)
    return seen


def roll(*, sep: bool) -> Callable[[tuple[ZoneKey, ...], int], Step]:
    return lambda keys, now: rolled(keys, now, numbered(keys), sep=sep)


def change(dnssec: Dnssec) -> Callable[[tuple[ZoneKey, ...], int], Step]:
    return lambda keys, now: followed(dnssec, keys, now, numbered(keys, dnssec.algorithm))


def confirm(keys: tuple[ZoneKey, ...], now: int) -> Step:
    return confirmed(keys, now)


def numbers(keys: Sequence[ZoneKey]) -> set[int]:
    return {key.number for key in keys}


def check_caches(seen: list[tuple[ZoneKey, ...]]) -> None:
    """Signatures as old as caches keep them, beside a DNSKEY set as old as caches keep that, and the other way."""
    key_hours, data_hours = KEY_TTL // HOUR, RETIRE_SECONDS // HOUR
    for hour, now in enumerate(seen):
        for age in range(min(hour, key_hours) + 1):
            published = numbers(seen[hour - age])
            for old in {0, 1, 2, age, key_hours, data_hours // 2, data_hours - 1}:
                if old <= hour:
                    assert numbers(signs_data(seen[hour - old])) & published, f"hour {hour}"
        assert signs_keys(now)
        assert wanted_at_parent(now)


def check_algorithms(seen: list[tuple[ZoneKey, ...]]) -> None:
    """As the strictest validator wants it: whatever DNSKEY set a cache has, data that a cache has are signed by a key
    of it for each of its algorithms; so are the sets of keys, which are kept as long as it."""
    key_hours, data_hours = KEY_TTL // HOUR, RETIRE_SECONDS // HOUR
    for hour in range(len(seen)):
        for age in range(min(hour, key_hours) + 1):
            keys = listed(seen[hour - age])
            algorithms = {key.algorithm for key in keys}
            for old in {0, 1, 2, age, key_hours, data_hours // 2, data_hours - 1} & {*range(hour + 1)}:
                of_data = {key.algorithm for key in signs_data(seen[hour - old]) if key.number in numbers(keys)}
                assert of_data == algorithms, f"hour {hour}"
            for old in range(min(hour, key_hours) + 1):
                of_keys = {key.algorithm for key in signs_keys(seen[hour - old]) if key.number in numbers(keys)}
                assert of_keys == algorithms, f"hour {hour}"


def check_parent(seen: list[tuple[ZoneKey, ...]], events: Events) -> None:
    """The parent has what `wanted_at_parent` said at the last confirmation; a DS of two days before, which caches may
    still have, leads to a key that signs the DNSKEY set, and so does each that is wanted."""
    parent, at_parent = numbers(wanted_at_parent(seen[0])), []
    for hour, keys in enumerate(seen):
        if events.get(hour) is confirm:
            parent = numbers(wanted_at_parent(keys))
        at_parent.append(parent)
        for old in range(min(hour, 48) + 1):
            assert at_parent[hour - old] & numbers(signs_keys(keys)), f"hour {hour}"
        assert numbers(wanted_at_parent(keys)) <= numbers(signs_keys(seen[max(0, hour - 1)])), f"hour {hour}"


@pytest.mark.parametrize(
    ("dnssec", "events", "left"),
    [
        (SPLIT, {3: roll(sep=False)}, {1, 3}),
        (SPLIT, {3: roll(sep=True), 60: confirm}, {2, 3}),
        (Dnssec(True), {3: roll(sep=True), 60: confirm}, {2}),
        (SPLIT, {3: roll(sep=True), 4: roll(sep=False), 60: confirm}, {3, 4}),
    ],
)
def test_caches_validate_at_every_hour(dnssec: Dnssec, events: Events, left: set[int]) -> None:
    """Through a rollover of each kind, alone and both at once; in the end the new keys alone are left."""
    seen = history(dnssec, 60 + RETIRE_SECONDS // HOUR + 10, events)
    check_caches(seen)
    check_parent(seen, events)
    assert numbers(seen[-1]) == left
    assert {key.state for key in seen[-1]} == {KeyState.ACTIVE}


@pytest.mark.parametrize("before", [Dnssec(True), SPLIT])
@pytest.mark.parametrize("split", [False, True])
def test_another_algorithm(before: Dnssec, split: bool) -> None:
    """Keys of another algorithm take over, those before go once the parent has the new DS; at no hour has a cache what
    a strict validator takes for a downgrade. The number of keys may change with it."""
    after = Dnssec(True, ED25519, split=split)
    end = (INTRODUCE_SECONDS + PUBLISH_SECONDS) // HOUR + 60
    events: Events = {3: change(after), end: confirm}
    seen = history(before, end + RETIRE_SECONDS // HOUR + 10, events)
    check_caches(seen)
    check_parent(seen, events)
    check_algorithms(seen)
    assert {key.algorithm for key in seen[-1]} == {ED25519}
    assert [(key.sep, key.state) for key in seen[-1]] == [(sep, KeyState.ACTIVE) for sep in (True, False)[: split + 1]]
    assert {key.number for key in seen[end - 1] if key.sep and key.state is KeyState.OUTGOING} == {1}
    assert max(map(len, seen)) == 2 + before.split + split


@pytest.mark.parametrize("hours", [1, 100, INTRODUCE_SECONDS // HOUR + 1])
@pytest.mark.parametrize("dnssec", [Dnssec(True), SPLIT])
def test_another_algorithm_is_taken_back(dnssec: Dnssec, hours: int) -> None:
    """The algorithm as it was ends what began, as long as the parent is not told of the new one."""
    other = Dnssec(True, ED25519, split=dnssec.split)
    seen = history(dnssec, hours + 300, {3: change(other), 3 + hours: change(dnssec), 4 + hours: change(dnssec)})
    check_caches(seen)
    check_algorithms(seen)
    assert seen[-1] == seen[0]


def test_the_check_of_algorithms_can_fail() -> None:
    """A key of another algorithm that is published as others are is found out, and one that goes so."""
    keys = followed(Dnssec(True), (), START, maker()).keys
    other = ZoneKey(2, ED25519, bytes(32), START, state=KeyState.PUBLISHED)
    for seen in ([keys] * 5 + [(*keys, other)] * 5, [(*keys, other)] * 300 + [keys]):
        with pytest.raises(AssertionError, match="hour"):
            check_algorithms(seen)


def test_the_check_can_fail() -> None:
    """A new key that takes over at once is found out."""
    keys = followed(SPLIT, (), START, maker()).keys
    swapped = (keys[0], ZoneKey(3, P256, bytes(32), START, sep=False))
    with pytest.raises(AssertionError, match="hour"):
        check_caches([keys] * 5 + [swapped] * 5)


def test_from_one_key_to_two_and_back() -> None:
    """A zone signing key is published beside the one that signs all, and signs when caches have it; without `split` the
    other signs all again at once, as caches have it."""
    keys = followed(Dnssec(True), (), START, maker()).keys
    seen = [keys] * 3
    for hour in range(3, 400):
        now, dnssec = START + hour * HOUR, SPLIT if hour < 100 else Dnssec(True)
        if hour in (3, 100):
            keys = followed(dnssec, keys, now, numbered(keys)).keys
        keys = advanced(dnssec, keys, now, numbered(keys)).keys
        seen.append(keys)
    check_caches(seen)
    assert numbers(signs_data(seen[99])) == {2}
    assert numbers(seen[-1]) == {1}


def test_scheduled() -> None:
    """With `zsk_days` the zone signing key is rolled again and again, with no operator; without it never."""
    scheduled = Dnssec(True, split=True, zsk_days=15)
    seen = history(scheduled, 40 * 24, {})
    check_caches(seen)
    assert max(numbers(seen[-1])) == 4
    assert seen[-1][0].number == 1
    assert numbers(history(SPLIT, 40 * 24, {})[-1]) == {1, 2}


def test_looking_is_rare() -> None:
    """A node looks for steps when one may be due, and not while nothing moves."""
    keys = followed(SPLIT, (), START, maker()).keys
    assert not is_zone_step_near(keys, START + DAY)
    assert is_zone_step_near(keys, START + 16 * DAY)
    step = rolled(keys, START, numbered(keys), sep=True)
    assert not is_zone_step_near(step.keys, START + 10)
    assert is_zone_step_near(step.keys, START + PUBLISH_SECONDS)
    assert not is_zone_step_near(followed(Dnssec(True), (), START, maker()).keys, START + 1000 * DAY)


def refused() -> Iterator[tuple[Callable[[], object], str]]:
    keys = followed(SPLIT, (), START, maker()).keys
    rolling = rolled(keys, START, numbered(keys), sep=True).keys
    yield lambda: confirmed(keys, START), "no key waits"
    yield lambda: confirmed(rolling, START), "no key waits"
    yield lambda: rolled(rolling, START, maker(), sep=True), "key 3 is published"
    yield lambda: rolled(keys[:1], START, maker(), sep=False), "split = true"
    yield lambda: removed(keys, 1, signed=True), "key 1 is active"
    yield lambda: removed(keys, 9, signed=True), "there is no key 9; there is: 1, 2"

    other = Dnssec(True, ED25519, split=True)
    both = change(other)(keys, START).keys
    far = history(SPLIT, 200, {1: change(other)})[-1]
    zsk = rolled(keys, START, numbered(keys), sep=False).keys
    yield lambda: change(other)(rolling, START), "key 3 is published: the rollover before"
    yield lambda: change(other)(zsk, START), "key 3 is published: the rollover before"
    yield lambda: change(replace(other, split=False))(both, START), "split stays until"
    yield lambda: change(SPLIT)(far, START), "rollover to ed25519 has not ended, and cannot be taken back"
    yield lambda: rolled(both, START, maker(), sep=True), "keys of another algorithm take over"
    yield lambda: removed(both, 3, signed=True), "dnssec.algorithm as it was takes that back"
    yield lambda: confirmed(both, START), "no key waits"


@pytest.mark.parametrize(("action", "why"), [*refused()])
def test_what_cannot_be(action: Callable[[], object], why: str) -> None:
    """Steps that make no sense are refused, with the reason."""
    with pytest.raises(ValueError, match=why):
        action()


def test_removal() -> None:
    """A published key can be taken back, and any key of a zone that is not signed."""
    keys = followed(SPLIT, (), START, maker()).keys
    rolling = rolled(keys, START, numbered(keys), sep=True).keys
    assert removed(rolling, 3, signed=True).keys == keys
    assert numbers(removed(keys, 1, signed=False).keys) == {2}

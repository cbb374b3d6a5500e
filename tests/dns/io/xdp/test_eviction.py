"""Which entries of a full map stay."""

from __future__ import annotations

from dnsvip.dns.io.xdp.eviction import TRIES, SecondChance


def places(most: int) -> tuple[SecondChance, dict[bytes, int], list[bytes]]:
    """Places, when each key was last used, and the keys that were removed."""
    used: dict[bytes, int] = {}
    removed: list[bytes] = []
    return SecondChance(most, lambda key: used.get(key, 0), removed.append), used, removed


def test_the_unused_make_room() -> None:
    """A newcomer gets the place of the oldest key that was not used since it got its own."""
    chance, used, removed = places(3)
    assert all(chance.place(key, 10) for key in (b"a", b"b", b"c"))
    used[b"a"] = 11
    assert chance.place(b"d", 12)
    assert removed == [b"b"]
    assert chance.place(b"e", 13)
    assert removed == [b"b", b"c"]
    assert chance.place(b"f", 14)
    assert removed == [b"b", b"c", b"a"]  # not used since it was looked at
    assert len(chance) == 3


def test_the_used_stay() -> None:
    """Where all are in use a newcomer gets no place, having looked at a few of them."""
    looked: list[bytes] = []
    chance = SecondChance(2 * TRIES, lambda key: looked.append(key) or 99, lambda key: looked.append(b"removed"))  # type: ignore[func-returns-value]
    for n in range(2 * TRIES):
        assert chance.place(bytes((n,)), 10)
    assert not chance.place(b"new", 11)
    assert looked == [bytes((n,)) for n in range(TRIES)]
    assert chance.place(b"\0", 11)


def test_forgotten_keys_leave_room() -> None:
    """A key that has moved elsewhere gives up its place, without being removed."""
    chance, _, removed = places(1)
    chance.place(b"a", 10)
    chance.forget(b"a")
    chance.forget(b"a")
    assert chance.place(b"b", 10)
    assert removed == []

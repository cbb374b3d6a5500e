"""Places of the decoder: a share for each user, and the longest idle of the one with most goes."""

from __future__ import annotations

from dnsvip.decoder.places import Place, Places


class World:
    """Places, and which connections had to go."""

    def __init__(self, most: int, per_user: int) -> None:
        self.places, self.now = Places(most, per_user, 10.0), 0.0
        self.ended: list[str] = []

    def connect(self, name: str) -> Place | None:
        """One more; the letter of its name is its user."""
        self.now += 1
        place = Place(ord(name[0]), self.now, lambda: self.ended.append(name))
        return place if self.places.enter(place) else None

    def all_busy(self, user: str) -> None:
        """All connections of a user are in use."""
        for place in list(self.places):
            if place.user == ord(user):
                self.places.use(place, self.now, busy=True)


def test_a_user_crowds_out_itself() -> None:
    """Where a user has its share its own longest idle goes, not one in use; where all are in use the newcomer does."""
    world = World(most=9, per_user=3)
    assert world.connect("b1")
    first, second, third = (world.connect(f"a{n}") for n in (1, 2, 3))
    assert first
    assert second
    assert third
    world.places.use(first, world.now, busy=True)
    assert world.connect("a4")
    assert world.ended == ["a2"]
    world.places.use(first, world.now, busy=False)
    assert world.connect("a5")
    assert world.ended == ["a2", "a3"]
    world.all_busy("a")
    assert world.connect("a6") is None
    assert (world.places.taken, world.ended) == (4, ["a2", "a3"])


def test_the_user_with_most_makes_room() -> None:
    """Where all places are taken, a user with few gets one of the user with most, in use or not, up to as many."""
    world = World(most=6, per_user=5)
    assert all(world.connect(f"a{n}") for n in range(5))
    assert world.connect("b1")
    world.all_busy("a")
    assert world.connect("b2")
    assert world.connect("b3")
    assert world.ended == ["a0", "a1"]
    world.all_busy("b")
    assert world.connect("b4") is None
    assert world.connect("c1")
    assert (world.ended, world.places.taken) == (["a0", "a1", "a2"], 6)


def test_what_is_not_used_is_over() -> None:
    """The time counts from the last question or answer; who has left gives its place back, once."""
    world = World(most=2, per_user=2)
    first, second = world.connect("a1"), world.connect("a2")
    assert first
    assert second
    world.places.use(first, 5.0, busy=True)
    assert world.places.over(11.9) == []
    assert world.places.over(12.0) == [second]
    assert world.places.over(15.0) == [second, first]
    for _ in range(2):
        world.places.leave(second)
    assert world.places.taken == 1
    assert world.connect("b1")
    assert world.ended == []
